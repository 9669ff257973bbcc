"""A composed question as a row, and the task that it stands under."""

from __future__ import annotations

from dataclasses import replace

from engine.answers.parsing import render_completion, render_question
from engine.question_types import UNKNOWN, found_type
from engine.records import Image, Task, Triplet, content_id
from generators.compose.composer import Composed
from generators.compose.program import Program
from generators.compose.writer import rationale

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
        steps=made.steps,
    )
    raw = render_question(made.question, made.options)
    raw += render_completion(made.rationale, made.answer)
    program = made.program.to_json()
    row = Triplet(
        id=_id(image.id, made.question, made.options, program),
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


def again(row: Triplet) -> Triplet:
    """A composed row with the answer and the rationale that its program gives when it is run.

    Raises ValueError where it has no program that can be.
    """
    program = Program.from_json(row.program or "")
    answer, steps = program.answer, rationale(program)
    raw = render_question(row.question, row.options) + render_completion(steps, answer)
    name = _id(row.image_id, row.question, row.options, program.to_json())
    return replace(row, id=name, answer=answer, rationale=steps, raw=raw)


def _id(image_id: str, question: str, options: tuple[str, ...], program: str) -> str:
    return content_id("composed", image_id, question, options, program)
