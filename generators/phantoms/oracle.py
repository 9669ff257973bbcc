"""Whether a row is true of a phantom: its exact truth, and the true answer to each question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from engine.answers.matching import is_correct
from engine.config.policy import UNANSWERABLE
from engine.prompts import CANNOT_BE_TOLD
from engine.records import Image, Triplet, canonical
from generators.compose.program import (
    COUNT,
    DIAMETER,
    PRESENCE,
    SEVERAL,
    SIDE,
    Fact,
    Program,
    Value,
)
from generators.phantoms import oracle, reporter
from generators.phantoms.bank import ATTRIBUTES, applicable, kind_of, told_of_lesion
from generators.phantoms.base import Truth
from generators.safety.anatomy import apart


def image_of(truth: Truth, image_id: str) -> Image:
    """A training image's row with a truth and without pixels: what `truth_of` reads again."""
    return Image(
        id=image_id, width=1, height=1, modality=truth.modality, anatomy=truth.anatomy, group="",
        split="train", source="", rendering="{}", deidentification="", is_synthetic=True,
        truth=canonical(truth.to_dict()),
    )  # fmt: skip


def answer_of(truth: Truth, question: str) -> str | None:
    """The true answer, or None where the question is not of the bank or has no answer here.

    Asking for the side of a finding that is not there has no answer: a false premise is a mistake.
    """
    known = kind_of(question)
    if known is None:
        return None
    kind, finding = known
    if kind == "modality":
        return truth.modality
    if kind == "anatomy":
        return truth.anatomy
    if kind == "presence":
        return "yes" if truth.finding == finding else "no"
    if kind == "finding":
        return truth.finding
    if kind in ATTRIBUTES:
        return truth.attributes.get(kind)
    if kind not in applicable(truth) or (finding is not None and finding != truth.finding):
        return None
    if kind == "several":
        return "yes" if truth.count > 1 else "no"
    if kind == "count":
        return str(truth.count)
    if kind == "larger":
        return "no" if truth.size == "small" else "yes"
    return truth.size if kind == "size" else truth.side


def value_of(truth: Truth, fact: Fact) -> Value | None:
    """The true value of what a fact is about; None where there is none on this image.

    A lesion is whatever finding there is; of another finding nothing is told but that it is not
    there. A truth holds the mean diameter of its regions, so one region's is known where it is
    alone.
    """
    there = truth.finding != "none" and fact.subject in (truth.finding, "lesion")
    if fact.about == PRESENCE:
        return there
    if fact.about in ("modality", "anatomy"):
        return truth.modality if fact.about == "modality" else truth.anatomy
    if fact.about in ATTRIBUTES:
        shown = there or not fact.subject or truth.finding == "none"
        return truth.attributes.get(fact.about) if shown else None
    need = COUNT if fact.about == SEVERAL else fact.about
    if not there or need not in told_of_lesion(truth):
        return None
    if need == COUNT:
        return truth.count > 1 if fact.about == SEVERAL else truth.count
    return truth.side if need == SIDE else truth.size


def composed_answer(truth: Truth, program: str) -> str | None:
    """The true answer to a composed question, computed again on the truth.

    None where the truth does not have what it asks about, or takes for granted what is not so.
    """
    on_truth = Program.from_json(program).on(lambda fact: value_of(truth, fact))
    return None if on_truth is None else on_truth.answer


def _taught(triplet: Triplet) -> dict[str, Any] | None:
    """What a row that teaches safety says that it teaches; None of any other."""
    told = json.loads(triplet.program) if triplet.program else {}
    return told if "teaches" in told else None


def _answer_of_taught(truth: Truth, taught: Mapping[str, Any]) -> str | None:
    """The true answer to a question of a row that teaches safety.

    That no image answers a question of its kind is what its writer says; whether this image shows
    what it is about is looked up here.
    """
    if taught["teaches"] == "organ" and apart(taught["of"], truth.anatomy):
        return CANNOT_BE_TOLD
    if taught["teaches"] == "modality" and taught["of"] != truth.modality:
        return CANNOT_BE_TOLD
    known = answer_of(truth, taught["asks"])
    if known is None and taught["teaches"] in UNANSWERABLE:
        return CANNOT_BE_TOLD
    return known


def _measures(truth: Truth, program: str) -> bool:
    """Whether a composed question asks for widths of what is there: a mask tells, not a truth."""
    facts = Program.from_json(program).facts
    return any(f.about == DIAMETER and f.subject in (truth.finding, "lesion") for f in facts)


def truth_of(image: Image) -> Truth | None:
    """The exact truth of a phantom, None for any other image."""
    return Truth(**json.loads(image.truth)) if image.truth else None


def is_true(image: Image, triplet: Triplet) -> bool | None:
    """Whether a triplet is right on its image; None where nobody knows.

    Right means: the question has an answer here, and this is it. Options that lack the true
    answer make it wrong. A composed question's answer is computed again on the truth, but for
    widths in mm, which a truth does not know. What a row teaches (`generators.safety`) is to be
    answered as the question that it is made of, where the image shows what it is about.
    """
    truth = truth_of(image)
    if truth is not None and (taught := _taught(triplet)):
        gold = _answer_of_taught(truth, taught)
        return gold is not None and is_correct(triplet.answer, gold, triplet.options)
    if truth is None or (triplet.program and _measures(truth, triplet.program)):
        return None
    gold = (
        composed_answer(truth, triplet.program)
        if triplet.program
        else oracle.answer_of(truth, triplet.question)
    )
    return gold is not None and is_correct(triplet.answer, gold, triplet.options)


def reasons_truly(image: Image, triplet: Triplet) -> bool:
    """Whether the reasoning describes this image; without reasoning there is nothing wrong.

    That of a composed question is its program's steps: they hold where all its facts do. That of
    a row that teaches safety describes the image where it answers.
    """
    truth = truth_of(image)
    if truth is not None and (taught := _taught(triplet)):
        return not taught["answerable"] or reporter.describe(truth) in triplet.rationale
    if truth is not None and triplet.program:
        facts = Program.from_json(triplet.program).facts
        return all(value_of(truth, fact) == fact.value for fact in facts)
    return truth is not None and (
        not triplet.rationale or triplet.rationale.startswith(reporter.describe(truth))
    )


def truths(images: Mapping[str, Image], rows: Iterable[Triplet]) -> list[bool]:
    """Whether rows are right on their images, of those of which the truth is known."""
    found = [is_true(images[row.image_id], row) for row in rows]
    return [truth for truth in found if truth is not None]


def share_true(images: Mapping[str, Image], rows: Iterable[Triplet]) -> float | None:
    """Share in [0, 1] of rows that are right on their image; None where truth is not known."""
    known = truths(images, rows)
    return round(float(np.mean(known)), 4) if known else None
