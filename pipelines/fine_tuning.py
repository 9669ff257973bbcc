"""A model trained in a stage to write given rows, and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator

from engine.errors import TriptychError
from engine.records import Model, Task, Triplet
from engine.trainer import first_use, write_training_set
from engine.training_job import TrainingJob
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.training.launch import rows_per_step, train_on_cluster
from pipelines.training.sft import train_sft, turns_of
from pipelines.training_jobs import job_of


def fine_tune(
    context: Context,
    stage: Stage,
    model: Model,
    role: str,
    rows: Callable[[], Iterable[Triplet]],
    further: Collection[str] = (),
) -> None:
    """Train `model` on rows and record it as the stage's model of a role.

    `rows` gives them each time that it is called, one after the other; `further` are ids as
    `turns_of` has them. Raises TriptychError where there are none.
    """
    config, number = context.config, 0

    def counted() -> Iterator[Triplet]:
        nonlocal number
        for row in rows():
            number += 1
            yield row

    tasks = {t.id: t for t in context.rows(Task)}
    style, ask_share = config.evaluate.style, config.sft.ask_share
    words, seed = config.generator.prompts, config.seed
    turns = turns_of(counted(), tasks, words, style, ask_share, seed, further)
    count = write_training_set(stage.folder / "data", turns)
    if not number:
        raise TriptychError(
            f"{stage.name}: no rows to train on; loosen select.keep or ask for more"
        )
    job = job_of(TrainingJob, context, stage, config.sft, model)
    result = train_on_cluster(train_sft, job, context.display.advance)
    stage.metrics = result.to_dict() | {"rows": number, "turns": count}
    folder = stage.folder / "weights"
    use = first_use(count, rows_per_step(config.sft), result.steps)
    metrics = json.dumps(result.to_dict())
    context.add_model(stage, role, folder, model, metrics, rows(), result.steps, use)
