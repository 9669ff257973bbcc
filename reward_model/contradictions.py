"""Which steps of a rationale contradict the answer, or a step before, by rule: no model is asked.

A step's statements (`reward_model.statements`) are compared with what the answer claims and with
what was stated before. What is said against the answer counts only where the rationale says nothing
that agrees with it: "there are 2 on the left and 1 on the right" is no contradiction to "3".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from engine.answers.matching import resolve
from engine.answers.spelling import normalise
from engine.imaging.anatomy import MODALITY_NAMES
from reward_model.claims import claims_of
from reward_model.statements import (
    ALL,
    ANSWERED,
    ANY,
    COUNT,
    HEADED,
    IT,
    LESIONS,
    NAMED,
    NO,
    PRESENCE,
    SIDE,
    SIZE,
    Statement,
    plain,
    statements_of,
)

ANSWER, EARLIER = "the answer", "an earlier step"
_MODALITIES = tuple(sorted(MODALITY_NAMES - {"other"}))


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Step `step` (from 0) contradicts `of`: ANSWER or EARLIER; `why` names both in words."""

    step: int
    of: str
    why: str


@dataclass(frozen=True, slots=True)
class _Reply:
    """A question, what its answer claims, and all that the rationale before it states."""

    question: str
    options: tuple[str, ...]
    claims: tuple[Statement, ...]
    stated: tuple[tuple[Statement, ...], ...]  # by step
    text: str  # the rationale, plain


@lru_cache(maxsize=1 << 14)
def contradictions(
    steps: tuple[str, ...], question: str, answer: str, options: tuple[str, ...] = ()
) -> tuple[Contradiction, ...]:
    """What steps contradict, in their order, each at most once the answer and once a step before.

    Nothing is said where it is not certain: a rationale without any may still be wrong.
    """
    stated = tuple(_resolved([statements_of(step) for step in steps]))
    claims = claims_of(question, answer, options)
    reply = _Reply(question, options, claims, stated, plain(" ".join(steps)))
    found: list[Contradiction] = []
    for place, mine in enumerate(stated):
        for of, why in ((ANSWER, _answer(mine, reply)), (EARLIER, _earlier(mine, stated[:place]))):
            if first := next(why, None):
                found.append(Contradiction(place, of, first))
    return tuple(found)


def _resolved(stated: Sequence[tuple[Statement, ...]]) -> list[tuple[Statement, ...]]:
    """Statements whose "it" is what was spoken of just before; without those of an unknown one."""
    found: list[tuple[Statement, ...]] = []
    for place, step in enumerate(stated):
        known = ANY if place == 0 else found[-1][-1].subject if found[-1] else None
        mine: list[Statement] = []
        for one in step:
            subject = (mine[-1].subject if mine else known) if one.subject == IT else one.subject
            if subject is not None:
                mine.append(replace(one, subject=subject))
        found.append(tuple(mine))
    return found


def _earlier(mine: Sequence[Statement], before: Sequence[tuple[Statement, ...]]) -> Iterator[str]:
    for one in mine:
        for place, step in enumerate(before):
            for other in step:
                if _apart(one, other):
                    yield f"{one.words}, where step {place + 1} says {other.words}"


def _apart(one: Statement, other: Statement) -> bool:
    """Whether two statements of all there is of one thing cannot both hold."""
    same = one.about == other.about and one.subject == other.subject
    comparable = one.firm and other.firm and one.about in (SIDE, COUNT, SIZE, PRESENCE)
    return same and comparable and one.values.isdisjoint(other.values)


def _answer(mine: Sequence[Statement], reply: _Reply) -> Iterator[str]:
    for one in mine:
        for claim in reply.claims:
            if one.about == claim.about and _against(one, claim, reply):
                yield f"{one.words}, where the answer says {claim.words}"


def _against(one: Statement, claim: Statement, reply: _Reply) -> bool:
    """Whether a statement contradicts a claim, with which nothing agrees that is stated."""
    if one.about in _WORDS:
        return _WORDS[one.about](_word(one), _word(claim), reply)
    if not one.values.isdisjoint(claim.values) or not _comparable(one, claim):
        return False
    beside = [o for step in reply.stated for o in step if o.about == one.about]
    beside = [o for o in beside if _supports(o, claim)]
    if any(not o.values.isdisjoint(claim.values) for o in beside):
        return False
    if one.about == COUNT and len({o.values for o in beside}) > 1:
        return False  # two counts may be parts of the third
    said = [value for value in claim.values if isinstance(value, str)]
    return one.about != SIDE or not any(re.search(rf"\b{v}\b", reply.text) for v in said)


def _comparable(one: Statement, claim: Statement) -> bool:
    """Whether a statement's subject is that of a claim, or takes it in."""
    if one.about != PRESENCE:
        return one.subject in (claim.subject, ANY, ALL) or (claim.subject == ANY and one.finding)
    if one.values == NO:  # nothing at all is there, or no lesion
        lesion = claim.subject in LESIONS or claim.subject == ANY
        return one.subject in (ALL, claim.subject) or (one.subject == ANY and lesion)
    return claim.subject in (ALL, one.subject)


def _supports(one: Statement, claim: Statement) -> bool:
    """Whether a statement may agree with a claim: with one of all there is, only another of all."""
    if claim.subject == ALL:
        return one.subject == ALL
    return claim.subject == ANY or one.subject in (claim.subject, ANY, ALL)


def _word(one: Statement) -> str:
    return " ".join(sorted(map(str, one.values)))


def _other_answer(said: str, claimed: str, reply: _Reply) -> bool:
    """Whether "the answer is …" names another of the options, or the other of yes and no."""
    known = reply.options or ("yes", "no")
    one, other = resolve(said, known), resolve(claimed, known)
    return one is not None and other is not None and one != other


def _other_option(said: str, claimed: str, reply: _Reply) -> bool:
    """Whether what is named is one of the options and not the answer, which is named nowhere.

    What the question names too is left out: "regular border" of a border that is regular or not.
    """
    asked = normalise(reply.question).split()
    words = [word for word in normalise(said).split() if word not in asked]
    if words not in [normalise(option).split() for option in reply.options] and (
        normalise(said) not in map(normalise, reply.options)
    ):
        return False
    answer = set(normalise(claimed).split())
    return answer.isdisjoint(words) and answer.isdisjoint(normalise(reply.text).split())


def _other_heading(said: str, claimed: str, reply: _Reply) -> bool:
    """Whether a report's heading has another of the options and none of the answer's words."""
    known = [normalise(option) for option in reply.options or _MODALITIES]
    answer = set(normalise(claimed).split())
    if normalise(claimed) not in known or not answer.isdisjoint(normalise(reply.text).split()):
        return False
    others = [option.split() for option in known if answer.isdisjoint(option.split())]
    return any(set(option) <= set(normalise(said).split()) for option in others)


_WORDS = {ANSWERED: _other_answer, NAMED: _other_option, HEADED: _other_heading}
