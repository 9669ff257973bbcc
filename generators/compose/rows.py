"""A composed question as a row, and the task that it stands under."""

from __future__ import annotations

from engine.answers.parsing import render_completion, render_question
from engine.question_types import UNKNOWN, found_type
from engine.records import Image, Task, Triplet, content_id
from generators.compose.composer import Composed

COMPOSED = "composed"  # who wrote it: no model
DIFFICULTY = {2: "easy", 3: "medium", 4: "hard", 5: "hard"}  # by steps
STYLE = "step"


def row_of(
    image: Image, made: Composed, seed: int, number: int, round: int
) -> tuple[Triplet, Task]:
    """The row, with the program that computes its answer, and its task.

    `derived_from` names the triplets whose facts it takes, or the image where no triplet has them.
    """
    kind = found_type(made.question)
    task = Task.make(
        image.modality,
        "attribute" if kind == UNKNOWN else kind,
        DIFFICULTY[made.steps],
        "closed" if made.closed else "choice",
        STYLE,
    )
    raw = render_question(made.question, made.options)
    raw += render_completion(made.rationale, made.answer)
    program = made.program.to_json()
    row = Triplet(
        id=content_id("composed", image.id, made.question, made.options, program),
        image_id=image.id,
        generator_id=COMPOSED,
        task_id=task.id,
        prompt_hash="",
        seed=seed,
        sample=number,
        round=round,
        question=made.question,
        options=made.options,
        answer=made.answer,
        rationale=made.rationale,
        raw=raw,
        logprob=None,
        derived_from=tuple(sorted({fact.source for fact in made.program.facts})),
        program=program,
    )
    return row, task
