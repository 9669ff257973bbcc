"""Form: the question is one, in English."""

from __future__ import annotations

from engine.records import Triplet
from generators.filters.words import FUNCTION, NOTHING, flaw, words_of

# What a request begins with, beside the words that FUNCTION has.
_REQUESTS = frozenset(
    "compare locate classify estimate measure tell point select choose determine summarise "
    "summarize comment assess evaluate rate grade mark outline find specify indicate interpret "
    "characterise characterize suggest provide report write say".split()
)


def reason(row: Triplet) -> str | None:
    """Why the question is none; None where it reads as one.

    A question has two words or more, and ends in a question mark or says by its first word that it
    asks ("Describe the lesion.", "is there a mass").
    """
    words = words_of(row.question)
    if len(words) < 2:
        return "question: fewer than two words"
    if all(word.lower() in NOTHING for word in words):
        return "question: about nothing"
    if "?" not in row.question and words[0].lower() not in FUNCTION | _REQUESTS:
        return "question: nothing is asked"
    found = flaw(row.question)
    return f"question: {found}" if found else None
