"""Spelling: no word is two that ran together, says itself twice, or has letters that none has.

A word that no list knows is not out by that. It is where it comes apart into a word of grammar and
a common one ("ofthe", "Isultrasound"), or has runs of letters that no known word has ("lesvxn").
A capital inside a sentence is a name's, and stays.
"""

from __future__ import annotations

import re
from functools import lru_cache

from engine.records import Triplet
from generators.filters.dictionary import common, known, unseen
from generators.filters.shorthand import without_shorthand
from generators.filters.words import FUNCTION, words_of

# Words of grammar that also begin or end words of medicine: inhomogeneous, anechoic, quinolone.
_BEGINS = FUNCTION - frozenset("a an in i be by do on or as".split())
_ENDS = FUNCTION - frozenset("a an in on one or less some it as is at can be has had".split())
_PARTS = re.compile(r"[A-Z]?[a-z]+")
_TWICE = re.compile(r"([a-z]{3,}?)\1+")
LONG = 9  # letters, from which a word may be a compound: there two runs must be new


def reason(row: Triplet) -> str | None:
    """What is wrong with a word, and where; None where all may be some."""
    texts = (("question", row.question, True), ("reasoning", row.rationale, True))
    said = (("answer", row.answer, False), *(("options", o, False) for o in row.options))
    for place, text, sentence in (*texts, *said):
        if found := misspelt(text, sentence):
            return f"{place}: {found}"
    return None


@lru_cache(maxsize=1 << 14)  # the samples of a question share its text
def misspelt(text: str, sentence: bool = True) -> str | None:
    """What is wrong with the first word of a text that is none; None where all may be some.

    A word with a capital may be a name, but where it begins a sentence.
    """
    words = [part for word in words_of(without_shorthand(text)) for part in re.split("[-'’]", word)]
    for number, word in enumerate(words):
        if _grammar(word.rstrip("0123456789")):
            return "words run together"
        named = word != word.lower() and (number > 0 or not sentence)
        lower = word.lower()
        if named or word.isupper() or not (len(word) > 3 and word.isascii() and word.isalpha()):
            continue
        if not known(lower) and (found := _wrong(lower)):
            return found
    return None


def _grammar(word: str) -> bool:
    """Whether capitals part a word into words of grammar: "IsIs", "IsDoes"."""
    parts = _PARTS.findall(word)
    return len(parts) > 1 and "".join(parts) == word and {p.lower() for p in parts} <= FUNCTION


def _wrong(lower: str) -> str | None:
    twice = _TWICE.fullmatch(lower)
    if twice and common(twice[1]):  # moyamoya
        return "a word that says itself twice"
    if any(_joined(lower[:at], lower[at:]) for at in range(2, len(lower) - 1)):
        return "words run together"
    if unseen(lower) >= (1 if len(lower) < LONG else 2):
        return "letters that are no word"
    return None


def _joined(one: str, two: str) -> bool:
    return (one in _BEGINS and (two in FUNCTION or (len(two) > 2 and common(two)))) or (
        two in _ENDS and len(one) > 2 and common(one)
    )
