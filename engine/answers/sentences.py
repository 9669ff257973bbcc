"""Where a sentence ends: behind a stop, unless it is an abbreviation's or stands in brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What ends in a full stop and no sentence, of four letters or more; shorter ones are known by that.
ABBREVIATED = frozenset(
    "approx incl prev resp susp diff cont dept calc circ infl cons comp poss prob temp bilat "
    "horiz vert transv longit abnl norm max min fig figs vol vols lymph contd esp".split()
)
_SHORT = frozenset("vs no nos dr mr mrs ms prof st ca cf ie eg al hx dx tx rx fx sx pt pts".split())
_STOP = re.compile(r"[.!?][\"')\]]*\s+")


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text: a stop in brackets or behind an abbreviation ends none."""
    start = 0
    for end in (*sentence_ends(text), len(text)):
        if text[start:end].strip():
            yield text[start:end].strip()
        start = end


def sentence_ends(text: str) -> Iterator[int]:
    """Where a sentence ends and another may begin: behind the spaces that follow its stop."""
    start = 0
    for stop in _STOP.finditer(text):
        before = text[start : stop.start()]
        if not (in_brackets(before) or abbreviated(text[start : stop.start() + 1])):
            start = stop.end()
            yield start


def abbreviated(before: str) -> bool:
    """Whether a text ends in an abbreviation with its stop."""
    found = re.search(r"([A-Za-z.]*[A-Za-z])\.$", before)
    word = found[1].lower() if found else ""
    return "." in word or len(word) == 1 or word in ABBREVIATED | _SHORT


def in_brackets(before: str) -> bool:
    """Whether a bracket is open at the end of a text."""
    return before.count("(") > before.count(")") or before.count("[") > before.count("]")
