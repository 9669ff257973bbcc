"""Reasoning: where there is any, it is sentences."""

from __future__ import annotations

import re

from engine.answers.sentences import sentences
from engine.records import Triplet
from generators.filters.words import flaw, words_of

_END = re.compile(r"[.!?][\"')\]]*\s*$")
LONG = 8  # words, from which a text may end without a mark


def reason(row: Triplet) -> str | None:
    """Why the reasoning is no sentence; None where it is, or where there is none.

    A report's line ("MR brain T1: 1 small tumor left.") counts as a sentence.
    """
    text = row.rationale.strip()
    if not text:
        return None
    words = words_of(text)
    if len(words) < 3:
        return "reasoning: fewer than three words"
    if not _END.search(text) and len(words) < LONG:
        return "reasoning: no end of a sentence"
    found = _report(text) or _sentences(text)
    return f"reasoning: {found}" if found else None


def _report(text: str) -> str | None:
    """A heading with nothing after it."""
    return "nothing after the colon" if re.search(r":\s*[.,;]|:\s*$", text) else None


def _sentences(text: str) -> str | None:
    """The first flaw of a text's sentences; a report's are short, and need no verb."""
    return next((f for s in sentences(text) if (f := flaw(s, few=25))), None)
