"""The simulated expert: it knows a phantom's truth and writes rows and verdicts from it."""

from __future__ import annotations

import numpy as np

from engine.answers import is_correct, render_completion, render_question
from engine.records import Image, Task, Triplet, content_id
from generators import questions as bank
from generators.phantoms.base import Truth

EXPERT = "expert"


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
    image: Image, qa: bank.QA, style: str, seed: int, number: int
) -> tuple[Triplet, Task]:
    """A row as an expert would write it: question, options, reasoning in a style, true answer."""
    truth = truth_of(image)
    assert truth is not None
    rng = np.random.default_rng([seed, number, int(image.id[:8], 16)])
    rationale = bank.rationale(truth, style, rng)
    task = Task.make(image.modality, qa.question_type, "medium", qa.answer_format, style)
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
    image: Image, number: int, styles: list[str], seed: int
) -> list[tuple[Triplet, Task]]:
    """`number` different expert rows about one image, one a question."""
    truth = truth_of(image)
    assert truth is not None
    rng = np.random.default_rng([seed, int(image.id[:8], 16)])
    rows: dict[str, tuple[Triplet, Task]] = {}
    for attempt in range(number * 6):
        qa = compose_any(truth, rng)
        style = styles[attempt % len(styles)]
        rows.setdefault(qa.question, expert_row(image, qa, style, seed, len(rows)))
        if len(rows) == number:
            break
    return list(rows.values())


def compose_any(truth: Truth, rng: np.random.Generator) -> bank.QA:
    """A true question of any type, the easy types seldom; difficulty and format at random."""
    while True:
        kind = str(rng.choice(bank.QUESTION_TYPES, p=[0.06, 0.06, 0.32, 0.22, 0.34]))
        qa = bank.compose(
            truth,
            kind,
            rng,
            str(rng.choice(bank.DIFFICULTIES)),
            str(rng.choice(bank.ANSWER_FORMATS, p=[0.3, 0.6, 0.1])),
        )
        if qa:
            return qa
