"""The three criteria by which a row is judged, in the order of the judge's heads."""

CRITERIA = ("factuality", "reasoning", "relevance")
