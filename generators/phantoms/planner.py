"""A cell of the quotas laid out: an image to draw, a question to it and the answer, in one plan.

The layout is drawn at random from what can be told of a kind; the question bank asks about it as if
it were a truth (`composer.compose`), and only what the question needs stays in the layout, so that
the rest is the seed's. Whoever draws it then shows what the answer says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from generators.layout import NO_FINDING, Layout
from generators.phantoms.asked import CannotDraw
from generators.phantoms.bank import (
    ANSWER_FORMATS,
    ATTRIBUTES,
    DIFFICULTIES,
    FINDINGS,
    QA,
    QUESTION_TYPES,
    SHOWN,
    SIDES,
    SUBJECTS,
    shown_kind,
)
from generators.phantoms.base import SIZES, Truth
from generators.phantoms.composer import compose, difficulty_of
from generators.phantoms.kinds import KINDS

PLANS = 200  # layouts that are thought of for a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a row is to be; what is empty is free. `difficulty` is that of the question."""

    modality: str = ""
    anatomy: str = ""
    question_type: str = ""
    difficulty: str = ""
    answer_format: str = ""

    def __str__(self) -> str:
        values = (self.modality, self.anatomy, self.question_type, self.difficulty)
        return " ".join(value for value in (*values, self.answer_format) if value) or "any"


@dataclass(frozen=True, slots=True)
class Planned:
    """An image to draw, the question to it and its answer; and the cell with nothing left free."""

    layout: Layout
    qa: QA
    cell: Cell


def lay_out(cell: Cell, rng: np.random.Generator, faint: float = 0.3) -> Planned:
    """A plan for a cell, by `rng`; `faint` in [0, 1] is the image's difficulty.

    Raises CannotDraw where no phantom is of the cell's modality and body part, or none has such a
    question.
    """
    kinds = [
        kind
        for kind in KINDS.values()
        if cell.modality in ("", kind.modality) and cell.anatomy in ("", kind.anatomy)
    ]
    if not kinds:
        raise CannotDraw(f"{cell}: no phantom is of this modality and body part")
    for _ in range(PLANS):
        kind = kinds[rng.integers(len(kinds))]
        truth = _thought_of(kind.name, rng)
        asked = cell.question_type or str(rng.choice(QUESTION_TYPES))
        level = cell.difficulty or str(rng.choice(DIFFICULTIES))
        form = cell.answer_format or str(rng.choice(ANSWER_FORMATS, p=(0.3, 0.6, 0.1)))
        qa = compose(truth, asked, rng, level, form)
        if qa is None or qa.answer_format != form or difficulty_of(qa) not in (None, level):
            continue
        whole = Cell(
            modality=kind.modality,
            anatomy=kind.anatomy,
            question_type=asked,
            difficulty=level,
            answer_format=form,
        )
        return Planned(_layout(truth, qa, faint), qa, whole)
    raise CannotDraw(f"{cell}: no phantom has such a question")


def _thought_of(kind: str, rng: np.random.Generator) -> Truth:
    """A truth that an image of a kind might have; whether it can be drawn, its drawer says."""
    findings = (NO_FINDING, *FINDINGS[kind])
    finding = findings[rng.integers(len(findings))]
    told = SUBJECTS[kind].get(finding, ())
    size = str(rng.choice(SIZES)) if "size" in told else None
    most = {"small": 3, "medium": 2, "large": 1}[size or "large"] if "count" in told else 1
    attributes = {
        name: str(rng.choice(allowed))
        for name in SHOWN.get(kind, ())
        if (allowed := ATTRIBUTES[name].allowed(finding))
    }
    return Truth(
        KINDS[kind].modality,
        KINDS[kind].anatomy,
        finding,
        str(rng.choice(SIDES)) if "side" in told else None,
        0 if finding == NO_FINDING else int(rng.integers(1, most + 1)),
        size,
        attributes=attributes,
    )


def _layout(truth: Truth, qa: QA, faint: float) -> Layout:
    """The layout of a truth, with the one attribute that a question is about."""
    told = SUBJECTS[shown_kind(truth)].get(truth.finding, ())
    layout = Layout(
        modality=truth.modality,
        anatomy=truth.anatomy,
        finding=truth.finding,
        side=truth.side,
        size=truth.size,
        count=truth.count if "count" in told else None,
        difficulty=faint,
    )
    if qa.kind in ATTRIBUTES:
        layout = replace(layout, attributes={qa.kind: truth.attributes[qa.kind]})
    return layout
