"""Of a kept answer the further rows whose reasonings are told apart.

Rows of one question that give one answer differ in their reasoning alone. Two reasonings are much
the same where the sets of their words, in one spelling, have a Jaccard similarity of at least
`SAME_WORDS`: their order does not count, and of ten words two have to be others. A row without
reasoning says no more than the answer that is kept already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from engine.answers.spelling import normalise
from engine.reasons import FURTHER
from engine.records import Triplet

SAME_WORDS = 0.7
SAME = "same answer as the chosen row"
UNSOUND = f"{SAME}, by unsound reasoning"
ALIKE = f"{SAME}, by much the same reasoning"
ENOUGH = f"{SAME}, behind as many reasonings as are kept"
SELF_FLOOR = f"{SAME}, by itself below the probability floor"
SELF_BELOW = f"{SAME}, by itself below the threshold"
NOT_FURTHER = (UNSOUND, ALIKE, ENOUGH, SELF_FLOOR, SELF_BELOW)
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Beside:
    """A row that gives its question's chosen answer, and what is thought of it by itself.

    `confidence` in [0, 1] is its question's with the row's own probability in the place of the mean
    of all that give the answer; `probability` is that an expert accepts it, `flaw` why its
    reasoning is not to be taught.
    """

    row: Triplet
    confidence: float
    probability: float
    flaw: str | None


def words_of(rationale: str) -> frozenset[str]:
    """The words of a reasoning, in one spelling."""
    return frozenset(_WORD.findall(normalise(rationale)))


def alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two reasonings are much the same, by the sets of their words."""
    return len(one & other) >= SAME_WORDS * len(one | other)


def further(
    chosen: Triplet, beside: Iterable[Beside], most: int, least_probability: float
) -> dict[str, str]:
    """By id what becomes of the rows beside the chosen one: FURTHER, or why not.

    At most `most` reasonings are kept, the chosen row's among them; surer rows come first, so that
    no threshold keeps one out for another that it does not keep.
    """
    told = [words_of(chosen.rationale)]
    found = {}
    for one in sorted(beside, key=lambda one: (-one.confidence, one.row.id)):
        words = words_of(one.row.rationale)
        if one.flaw is not None:
            reason = UNSOUND
        elif not words or any(alike(words, known) for known in told):
            reason = ALIKE
        elif len(told) >= most:
            reason = ENOUGH
        elif not one.probability >= least_probability:  # not of NaN
            reason = SELF_FLOOR
        else:
            reason = FURTHER
            told.append(words)
        found[one.row.id] = reason
    return found
