"""Whether a row is true of a phantom: its exact truth, and the true answer to each question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from engine.answers.matching import is_correct
from engine.records import Image, Triplet
from generators.phantoms import oracle, reporter
from generators.phantoms.bank import ATTRIBUTES, applicable, kind_of
from generators.phantoms.base import Truth


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


def truth_of(image: Image) -> Truth | None:
    """The exact truth of a phantom, None for any other image."""
    import json

    return Truth(**json.loads(image.truth)) if image.truth else None


def is_true(image: Image, triplet: Triplet) -> bool | None:
    """Whether a triplet is right on its image; None where nobody knows.

    Right means: the question has an answer here, and this is it. Options that lack the true
    answer make it wrong.
    """
    truth = truth_of(image)
    if truth is None:
        return None
    gold = oracle.answer_of(truth, triplet.question)
    return gold is not None and is_correct(triplet.answer, gold, triplet.options)


def reasons_truly(image: Image, triplet: Triplet) -> bool:
    """Whether the reasoning describes this image; without reasoning there is nothing wrong."""
    truth = truth_of(image)
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
