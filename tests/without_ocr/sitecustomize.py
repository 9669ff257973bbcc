"""On the path of processes that tests start: they find no RapidOCR."""

import sys

sys.modules["rapidocr"] = None  # type: ignore[assignment]  # as if it were not installed
