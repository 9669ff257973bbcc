"""Pairs whose worse side no text tells: what is said of two images, swapped.

A made-up row beside a gold one teaches to know what is made up: shuffled words, an answer that fits
no such question. Here the same question was asked of two images whose answers differ, and each is
set against the other's: (A: a before b) and (B: b before a). So each text is right as often as it
is wrong, and only who looks at the image can tell. What finds no such twin is left out.
`reward_model.blind` measures what is left for a judge that does not look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from engine.answers.matching import resolve
from engine.answers.spelling import normalise, normalise_question
from engine.records import Preference, Triplet
from reward_model.preferences import derived, preference

Of = Callable[[Triplet], Hashable]  # something of a row
Fits = Callable[[Triplet, Triplet], bool]


@dataclass(frozen=True, slots=True)
class Told:
    """That one row is better than another of its image, and of which tier the other is."""

    criterion: str
    chosen: Triplet
    rejected: Triplet
    tier: str
    sources: tuple[Triplet, ...] = ()  # rows that these were made from


Twin = tuple[Told, Told]  # to be used together or not at all


def swapped_answers(rows: Iterable[Triplet], stratum: Of, rng: np.random.Generator) -> list[Twin]:
    """True rows whose question two images answer differently: each before the other's answer.

    `stratum` says of a row which others it may be set against, such as the set of its patient: a
    text that is right in one set and wrong in another would be told by it. Both answers are among
    the options of both, or both questions are open and neither answer is part of the other ("lung"
    and "right lung"). Reasoning is left away, which would tell.
    """

    def alike(row: Triplet) -> Hashable:
        return str(stratum(row)), normalise_question(row.question), bool(row.options)

    pairs = twins(rows, alike, lambda row: normalise(_said(row)), rng, _answers_apart)
    return [(_answered(one, one, other), _answered(other, one, other)) for one, other in pairs]


def swapped_questions(
    rows: Iterable[Triplet],
    stratum: Of,
    kind: Of,
    rng: np.random.Generator,
    fits: Fits = lambda one, other: True,
) -> list[Twin]:
    """True rows on images of two kinds: each before the question and answer of the other's image.

    `kind` is what makes a question of one image irrelevant to another, such as the modality. What
    is asked of several kinds is relevant to all, and left out. Reasoning is left away.
    """
    rows = list(rows)
    kinds = defaultdict(set)
    for row in rows:
        kinds[normalise_question(row.question)].add(kind(row))
    own = [row for row in rows if len(kinds[normalise_question(row.question)]) == 1]
    pairs = twins(own, lambda row: str(stratum(row)), lambda row: str(kind(row)), rng, fits)
    return [(_put(one, other), _put(other, one)) for one, other in pairs]


def swapped_reasoning(
    rows: Iterable[Triplet], stratum: Of, rng: np.random.Generator, fits: Fits
) -> list[Twin]:
    """Rows that answer one question alike for different reasons: each before the other's reasons.

    `fits` says of two rows that neither's reasoning holds on the other's image.
    """

    def alike(row: Triplet) -> Hashable:
        asked = normalise_question(row.question), tuple(sorted(map(normalise, row.options)))
        return str(stratum(row)), *asked, normalise(_said(row))

    reasoned = [row for row in rows if row.rationale]
    pairs = twins(reasoned, alike, lambda row: row.rationale, rng, fits)
    return [(_reasoned(one, one, other), _reasoned(other, one, other)) for one, other in pairs]


def twins(
    rows: Iterable[Triplet],
    alike: Of,
    apart: Of,
    rng: np.random.Generator,
    fits: Fits = lambda one, other: True,
) -> list[tuple[Triplet, Triplet]]:
    """Pairs of rows of two images that are `alike` in one thing and `apart` in another, shuffled.

    A row has at most one twin of each other value of `apart`. The values are sorted by `repr`.
    """
    groups: dict[Any, dict[Any, list[Triplet]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: row.id):
        groups[alike(row)][apart(row)].append(row)
    found = []
    for key in sorted(groups, key=repr):
        for one, other in combinations(sorted(groups[key], key=repr), 2):
            first, second = (_shuffled(groups[key][value], rng) for value in (one, other))
            found += _matched(first, second, fits)
    return _shuffled(found, rng)


def _matched(
    rows: list[Triplet], others: list[Triplet], fits: Fits
) -> list[tuple[Triplet, Triplet]]:
    """Each of `rows` with the first of `others` that is left and fits."""
    found = []
    for row in rows:
        place = next(
            (
                n
                for n, other in enumerate(others)
                if row.image_id != other.image_id and fits(row, other)
            ),
            None,
        )
        if place is not None:
            found.append((row, others.pop(place)))
    return found


def _shuffled(values: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [values[place] for place in rng.permutation(len(values))]


def _said(row: Triplet) -> str:
    """The answer in the words of its option, where it is one."""
    return resolve(row.answer, row.options) or row.answer


def _answers_apart(one: Triplet, other: Triplet) -> bool:
    """Whether each one's answer is wrong for the other."""
    said = _said(one), _said(other)
    if one.options:
        return all(resolve(answer, row.options) for answer in said for row in (one, other))
    a, b = (set(normalise(answer).split()) for answer in said)
    return not (a <= b or b <= a)


def _answered(row: Triplet, one: Triplet, other: Triplet) -> Told:
    """A twin's row before its image with the other's answer, all in the words of the first twin."""
    words = {normalise(option): option for option in one.options}
    said = {twin.id: words.get(normalise(_said(twin)), _said(twin)) for twin in (one, other)}
    foe = other if row is one else one
    asked: dict[str, Any] = {"question": one.question, "options": one.options, "rationale": ""}
    return Told(
        "factuality",
        derived(row, "implied", **asked, answer=said[row.id]),
        derived(row, "perturbed", **asked, answer=said[foe.id], derived_from=(foe.image_id,)),
        "perturbed",
        (row,),
    )


def _put(row: Triplet, other: Triplet) -> Told:
    """A row before the other's question and answer, put to its image."""
    return Told(
        "relevance",
        derived(row, "implied", rationale=""),
        derived(
            row,
            "irrelevant",
            question=other.question,
            options=other.options,
            answer=other.answer,
            rationale="",
            derived_from=(other.image_id,),
        ),
        "irrelevant",
        (row,),
    )


def _reasoned(row: Triplet, one: Triplet, other: Triplet) -> Told:
    """A twin's row before the other's reasoning, all in the words of the first twin."""
    asked: dict[str, Any] = {
        "question": one.question,
        "options": one.options,
        "answer": one.answer,
    }
    foe = other if row is one else one
    return Told(
        "reasoning",
        derived(row, "implied", **asked, rationale=row.rationale),
        derived(row, "incoherent", **asked, rationale=foe.rationale, derived_from=(foe.image_id,)),
        "incoherent",
        (row,),
    )


@dataclass(frozen=True, slots=True)
class Met:
    """What gold rows' pairs ask of an image: whether its patient is frozen, and of what kind it is.

    What is asked of one kind of image is irrelevant to another: its modality and anatomy.
    """

    frozen: bool
    kind: str


def gold_pairs(
    rows: Iterable[Triplet], images: Mapping[str, Met], number: int, seed: int, who: str
) -> tuple[list[Triplet], list[Preference]]:
    """Up to `number` pairs of gold rows on `images` (by id), and the rows made for them.

    Three in five are of answers and the rest of questions, as far as there are twins. `who` is in
    the pairs as their expert.
    """
    rng = np.random.default_rng(seed)
    rows = list(rows)

    def frozen(row: Triplet) -> bool:
        return images[row.image_id].frozen

    def kind(row: Triplet) -> str:
        return images[row.image_id].kind

    answers = swapped_answers(rows, frozen, rng)
    questions = swapped_questions(rows, frozen, kind, rng)
    told = mixed((0.6, answers), (0.4, questions), number=number)
    pairs = [
        preference(
            t.chosen, t.rejected, t.criterion, t.tier, f"{who}, {t.tier} row", frozen(t.chosen)
        )
        for t in told
    ]
    return made_of(told), pairs


def mixed(*kinds: tuple[float, Sequence[Sequence[Told]]], number: int) -> list[Told]:
    """Up to `number` pairs of kinds of (share, units): their shares, then what any has left.

    A unit, such as a twin, is taken whole or not at all.
    """
    found: list[Told] = []
    left: list[Sequence[Told]] = []
    for share, units in kinds:
        most = len(found) + share * number
        for unit in units:
            if len(found) + len(unit) <= min(most, number):
                found += unit
            else:
                left.append(unit)
    for unit in left:
        if len(found) + len(unit) <= number:
            found += unit
    return found


def made_of(told: Iterable[Told]) -> list[Triplet]:
    """The rows that are told of, each after those that it was made from."""
    return [row for t in told for row in (*t.sources, t.chosen, t.rejected)]
