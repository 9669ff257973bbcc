"""Which words are known: general English, DICOM's concepts, everyday words of reports, names.

General English is pyspellchecker's list (128,000 words with how often each was counted in 1.6
thousand million), which lies in its wheel. A word that none of them has is not wrong by that:
medicine has more words than any list, so a rule asks for more than that.
"""

from __future__ import annotations

from functools import cache

from engine.imaging.lexicon import names, vocabulary

COMMON = 1000  # how often a word was counted that a slip joins to another; 23,000 are as frequent


@cache
def _counted() -> dict[str, int]:
    from spellchecker import SpellChecker

    return dict(SpellChecker(language="en").word_frequency.items())


def known(word: str) -> bool:
    """Whether a lower-case word is in one of the lists."""
    return word in _counted() or word in vocabulary() or word in names()[0]


def common(word: str) -> bool:
    """Whether a lower-case word is frequent in English or is one of the clinic."""
    return _counted().get(word, 0) >= COMMON or word in vocabulary()


@cache
def _seen() -> frozenset[str]:
    words = {*_counted(), *vocabulary(), *names()[0]}
    return frozenset(run for word in words if word.isalpha() for run in _runs(word))


def unseen(word: str) -> int:
    """How many runs of three letters a lower-case word has, its ends counted, that none known has.

    A compound such as "duodenojejunal" has one or two where its parts meet.
    """
    return sum(run not in _seen() for run in _runs(word))


def _runs(word: str) -> list[str]:
    bounded = f"^{word}$"
    return [bounded[place : place + 3] for place in range(len(bounded) - 2)]
