"""The simulated expert: it knows a phantom's truth and writes rows and verdicts from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.answers import is_correct, render_completion, render_question
from engine.records import Image, Task, Triplet, content_id
from generators import questions as bank
from generators.phantoms.base import Truth

EXPERT = "expert"
NOT_STATED = "not stated"  # the difficulty of a question that nobody asked for in one


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
    gold = bank.answer_of(truth, triplet.question)
    return gold is not None and is_correct(triplet.answer, gold, triplet.options)


def reasons_truly(image: Image, triplet: Triplet) -> bool:
    """Whether the reasoning describes this image; without reasoning there is nothing wrong."""
    truth = truth_of(image)
    return truth is not None and (
        not triplet.rationale or triplet.rationale.startswith(bank.describe(truth))
    )


def expert_row(
    image: Image,
    qa: bank.QA,
    style: str,
    seed: int,
    number: int,
    asked: dict[str, str] | None = None,
) -> tuple[Triplet, Task]:
    """A row as an expert would write it: question, options, reasoning in a style, true answer.

    `asked` holds the question type and the difficulty that were asked for; without it they are
    what the question shows: its own type, and a difficulty where its options tell one.
    """
    truth = truth_of(image)
    assert truth is not None
    rng = np.random.default_rng([seed, number, int(image.id[:8], 16)])
    rationale = bank.rationale(truth, style, rng)
    task = Task.make(
        image.modality,
        asked["question_type"] if asked else qa.question_type,
        asked["difficulty"] if asked else bank.difficulty_of(qa) or NOT_STATED,
        qa.answer_format,
        style,
    )
    raw = render_question(qa.question, qa.options) + render_completion(rationale, qa.answer)
    row = Triplet(
        id=content_id("triplet", image.id, EXPERT, task.id, seed, number, raw),
        image_id=image.id,
        generator_id=EXPERT,
        task_id=task.id,
        prompt_hash="",
        seed=seed,
        sample=number,
        round=0,
        question=qa.question,
        options=qa.options,
        answer=qa.answer,
        rationale=rationale,
        raw=raw,
        logprob=0.0,
    )
    return row, task


def write_rows(
    image: Image, number: int, styles: Sequence[str], seed: int, as_asked: bool
) -> list[tuple[Triplet, Task]]:
    """`number` different expert rows about one image, one a question.

    With `as_asked` a row stands under the type and the difficulty that were asked for, also where
    the image (a normal one asked for a grade) made the expert write another: so a generator learns
    not to invent.
    """
    truth = truth_of(image)
    assert truth is not None
    rng = np.random.default_rng([seed, int(image.id[:8], 16)])
    rows: dict[str, tuple[Triplet, Task]] = {}
    for attempt in range(number * 8):
        asked, qa = bank.compose_any(truth, rng)
        style = styles[attempt % len(styles)]
        row = expert_row(image, qa, style, seed, len(rows), asked if as_asked else None)
        rows.setdefault(qa.question, row)
        if len(rows) == number:
            break
    return list(rows.values())
