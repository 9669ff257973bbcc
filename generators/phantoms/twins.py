"""Exact counterfactuals: a phantom drawn again, from the same streams, with one thing changed.

Anatomy, finding and noise have random streams of their own (`generators.phantoms.canvas.streams`).
A twin has all three of the original, and another finding, or the same on the other side, of another
count, size or look. So what lies outside `Twin.region` is pixel for pixel the same, or differs by
what the kind states (`generators.phantoms.kind.Spill`): scatter in a radiograph, the shadow behind
a mass. What a question is answered by differs, and nothing else that could be learned instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from engine.answers.matching import resolve
from engine.answers.spelling import normalise
from generators.phantoms.asked import NOTHING, Asked, CannotDraw
from generators.phantoms.bank import (
    ATTRIBUTES,
    CLOSED,
    COUNTS,
    FINDINGS,
    OPTIONS_BY_DIFFICULTY,
    QA,
    SHOWN,
    SIDES,
    SUBJECTS,
    TEMPLATES,
    fill,
    shown_kind,
)
from generators.phantoms.base import SIZES, Phantom, Truth
from generators.phantoms.composer import possible_answers
from generators.phantoms.kinds import KINDS
from generators.phantoms.oracle import answer_of

LESION = ("side", "count", "size")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a phantom follows from."""

    kind: str
    seed: int
    size: int = 256
    difficulty: float = 0.3
    finding: str | None = None
    asked: Asked = NOTHING

    def draw(self) -> Phantom:
        """The phantom, the same every time. Raises CannotDraw."""
        how = (self.seed, self.size, self.difficulty, self.finding, self.asked)
        return KINDS[self.kind].draw(*how)


@dataclass(frozen=True, slots=True)
class Change:
    """What of an image becomes what: its finding, side, count, size, or how the finding looks."""

    what: str  # finding, side, count, size, or the name of an attribute
    to: str

    def __str__(self) -> str:
        return f"{self.what} to {self.to}"


@dataclass(frozen=True, slots=True)
class Twin:
    """An original, its twin, and where they may differ: `region` (H, W) bool."""

    original: Phantom
    phantom: Phantom
    change: Change
    region: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """The change, and what it was before, for a record."""
        before = value_of(self.original.truth, self.change.what)
        return {"change": asdict(self.change) | {"from": before}}


def value_of(truth: Truth, what: str) -> str | None:
    """What a truth says of something that can be changed, in words."""
    told = truth.attributes.get(what) if what in ATTRIBUTES else getattr(truth, what)
    return None if told is None else str(told)


def changes(truth: Truth) -> list[Change]:
    """What can be asked to change of an image: whether it can be drawn, `twin_of` says."""
    kind, finding = shown_kind(truth), truth.finding
    told = SUBJECTS[kind].get(finding, ())
    values = {"side": SIDES, "count": COUNTS, "size": SIZES}
    own = [n for n in SHOWN.get(kind, ()) if "none" not in ATTRIBUTES[n].of]  # of a finding alone
    looks = {n: ATTRIBUTES[n].allowed(finding) for n in own if ATTRIBUTES[n].of}
    possible = {"finding": ("none", *FINDINGS[kind])} | {n: values[n] for n in told} | looks
    return [
        Change(what, to)
        for what, every in possible.items()
        for to in every
        if to != value_of(truth, what)
    ]


def twin_of(recipe: Recipe, change: Change) -> Twin:
    """The phantom of a recipe, and its twin. Raises CannotDraw where there is none.

    Where the finding changes, the other one is on the same side, of the same size and as many, as
    far as it can be. Where anything else changes, finding, side, count and size stay as they are.
    """
    original = recipe.draw()
    truth = original.truth
    if change not in changes(truth):
        raise CannotDraw(
            f"{recipe.kind} with {truth.finding}: {change} is no change that can be made"
        )
    finding = change.to if change.what == "finding" else truth.finding
    phantom = _again(recipe, finding, truth, change)
    stay = SUBJECTS[recipe.kind].get(finding, ()) if change.what != "finding" else ()
    for what in ("finding", *stay, change.what):
        wanted = value_of(truth, what) if what != change.what else change.to
        wanted = finding if what == "finding" else wanted
        if (drawn := value_of(phantom.truth, what)) != wanted:
            raise CannotDraw(f"{recipe.kind}: with {change} its {what} is {drawn}, not {wanted}")
    spill = KINDS[recipe.kind].spill
    regions = [spill.region(p.mask, p.truth.finding) for p in (original, phantom)]
    return Twin(original, phantom, change, np.logical_or(*regions))


def _again(recipe: Recipe, finding: str, truth: Truth, change: Change) -> Phantom:
    """The same streams with what is asked now: as much of the original as can be kept."""
    reason: CannotDraw | None = None
    for kept in _kept(finding, truth, change):
        try:
            return replace(recipe, finding=finding, asked=kept).draw()
        except CannotDraw as error:
            reason = error
    raise CannotDraw(f"{recipe.kind}: {change}: {reason}")


def _kept(finding: str, truth: Truth, change: Change) -> Iterator[Asked]:
    """What to ask of the twin, the likest to the original first."""
    kind = shown_kind(truth)
    told, had = (SUBJECTS[kind].get(f, ()) for f in (finding, truth.finding))
    own = {n: getattr(truth, n) for n in LESION if n in told and n in had}
    looks = {
        name: value
        for name, value in truth.attributes.items()
        if name in ATTRIBUTES and value in ATTRIBUTES[name].allowed(finding)
    }
    if change.what in LESION:
        own[change.what] = int(change.to) if change.what == "count" else change.to
    elif change.what != "finding":
        looks[change.what] = change.to
    yield Asked(**own, attributes=looks)
    if change.what == "finding":
        yield Asked(own.get("side"), size=own.get("size"), attributes=looks)
        yield Asked(own.get("side"), attributes=looks)


@dataclass(frozen=True, slots=True)
class Paired:
    """One question to an image and to its twin, with the true answer to each: they differ."""

    kind: str
    question: str
    options: tuple[str, ...]  # both answers among them; empty: an open question
    answers: tuple[str, str]  # of the original, of the twin

    def of(self, place: int) -> QA:
        """The question with the answer of the original (0) or of the twin (1)."""
        return QA(self.kind, self.question, self.options, self.answers[place])


def paired(
    original: Truth, twin: Truth, rng: np.random.Generator, difficulty: str = "hard"
) -> list[Paired]:
    """Every kind of question that both can be asked and that they answer differently, shuffled.

    `difficulty` is the number of options (2, 3, 4), as `composer.compose` has it. A question about
    a finding that one of them does not show is left out, since it has no answer there.
    """
    found = {}
    for kind, (_, templates) in TEMPLATES.items():
        findings = [f for f in (original.finding, twin.finding) if f != "none"]
        asked = [fill(template, f) for template in templates for f in findings or ("",)]
        for question in (asked[n] for n in rng.permutation(len(asked))):
            answers = answer_of(original, question), answer_of(twin, question)
            if None not in answers and answers[0] != answers[1]:
                found[kind] = _paired(kind, question, answers, original, rng, difficulty)
                break
    return [found[list(found)[n]] for n in rng.permutation(len(found))]


def _paired(
    kind: str,
    question: str,
    answers: tuple[Any, Any],
    truth: Truth,
    rng: np.random.Generator,
    difficulty: str,
) -> Paired:
    """Both answers among distractors of their own type."""
    if kind in CLOSED:
        return Paired(kind, question, ("yes", "no"), answers)
    others = [v for v in possible_answers(truth, kind) if v not in answers]
    more = rng.permutation(others)[: max(OPTIONS_BY_DIFFICULTY[difficulty] - 2, 0)]
    options = [*answers, *map(str, more)]
    rng.shuffle(options)
    return Paired(kind, question, tuple(options), answers)


def looked(first: Sequence[str], second: Sequence[str], options: Sequence[str] = ()) -> float:
    """How far answers to one question differ between an image and its twin, from 0 to 1.

    `first` and `second` are a model's answers on either, one or more samples each, of a question
    whose true answers differ. The figure is half the squared distance between the two distributions
    of answers, without bias: the share of pairs across the images that differ, less the mean share
    of pairs within one that do (Szekely and Rizzo's energy distance of categories). Who answers
    both alike has about 0, also by chance and also below it; who always tells them apart has 1.
    Right and wrong do not count: who looks may still be mistaken. Raises ValueError without any.
    """
    if not first or not second:
        raise ValueError("looked: give at least one answer on either image")
    one, two = (
        [normalise(resolve(a, tuple(options)) or a) for a in some] for some in (first, second)
    )
    across = sum(a != b for a in one for b in two) / (len(one) * len(two))
    return across - (_apart(one) + _apart(two)) / 2


def _apart(answers: Sequence[str]) -> float:
    """The share of pairs of answers that differ, 0 of one."""
    pairs = list(combinations(answers, 2))
    return sum(a != b for a, b in pairs) / len(pairs) if pairs else 0.0
