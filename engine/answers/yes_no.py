"""A reply to a question that is answered yes or no, read tolerantly and never by substring.

The word alone, in whatever form `engine.answers.reading` takes an answer in, or the word, a mark
and an explanation that does not take it back. What hedges, says both, or is cut off says neither.
"""

from __future__ import annotations

import re

from engine.answers.reading import read_completion
from engine.answers.spelling import normalise

WORDS = ("yes", "no")
_LED = re.compile(r"[\s*_#>\"'`]{0,9}(yes|no)[*_\"'`]{0,3}\s?(?:[.,:;!]|\s[-–—]|—|\n)", re.I)
_HEDGE = re.compile(
    r"\b(?:but|however|although|though|except|unless|if|depends|depending|unsure|uncertain|unclear|"
    r"maybe|perhaps|possibly|partly|partially|mostly|almost|sometimes|on the other hand)\b",
    re.I,
)
_END = re.compile(r"[.!?][\"')*_\s]*$")


def read_yes_no(text: str) -> tuple[bool | None, str]:
    """(whether the reply is yes, "") or (None, why it cannot be read). Never raises."""
    if not text.strip():
        return None, "an empty reply"
    read = read_completion(text, WORDS)
    word = normalise(read.answer)
    if read.problem is None and word in WORDS:
        return word == "yes", ""
    found = _LED.match(text)
    if not found:
        return None, "neither yes nor no"
    said, rest = found[1].lower(), text[found.end() :].strip()
    other = "no" if said == "yes" else "yes"
    if re.search(rf"\b{other}\b(?!\s+(?:other|abnormal|longer|more|single))", rest, re.I):
        return None, "both yes and no"
    if _HEDGE.search(rest):
        return None, "a hedge"
    if rest and not _END.search(rest):
        return None, "cut off"
    return said == "yes", ""


def is_bare(text: str) -> bool:
    """Whether a reply is the one word and nothing else, so that its probability is the word's."""
    return text.strip().rstrip(".").lower() in WORDS
