"""A model trained in a stage to write given rows, and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from engine.errors import TriptychError
from engine.records import Found, Image, Model, Task, Triplet
from engine.trainer import CHUNK, first_use, write_training_set
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.training.launch import rows_per_step, train_on_cluster
from pipelines.training.sft import SftJob, train_sft, turns_of
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
        left = iter(rows())
        while some := list(islice(left, CHUNK)):
            told.clear()
            told.update(columns_of(context, some, tasks))
            number += len(some)
            yield from some

    tasks = {t.id: t for t in context.rows(Task)}
    told: dict[str, dict[str, Any]] = {}
    style, ask_share = config.evaluate.style, config.sft.ask_share
    words, seed = config.generator.prompts, config.seed
    turns = turns_of(counted(), tasks, words, style, ask_share, seed, further, told)
    count = write_training_set(stage.folder / "data", turns)
    if not number:
        raise TriptychError(
            f"{stage.name}: no rows to train on; loosen select.keep or ask for more"
        )
    job = job_of(SftJob, context, stage, config.sft, model)
    result = train_on_cluster(train_sft, job, context.display.advance)
    stage.metrics = result.to_dict() | {"rows": number, "turns": count}
    folder = stage.folder / "weights"
    use = first_use(count, rows_per_step(config.sft), result.steps)
    metrics = json.dumps(result.to_dict())
    context.add_model(stage, role, folder, model, metrics, rows(), result.steps, use)


def columns_of(
    context: Context, rows: list[Triplet], tasks: Mapping[str, Task]
) -> dict[str, dict[str, Any]]:
    """What the order of SFT goes by of each row, by its id: no column that it does not ask for."""
    section = context.config.sft
    told: dict[str, dict[str, Any]] = {row.id: {} for row in rows}
    if section.grouped:
        with context.scan(Image) as scan:
            query = "SELECT id, width, height FROM images WHERE id IN (SELECT unnest(?::VARCHAR[]))"
            images = sorted({row.image_id for row in rows})
            sizes = {name: size for name, *size in scan.values(query, [images])}
        for row in rows:
            told[row.id] |= dict(zip(("width", "height"), sizes[row.image_id]))
    if section.order == "curriculum":
        with context.scan(Found) as scan:
            query = (
                "SELECT triplet_id, steps, difficulty FROM found "
                "WHERE triplet_id IN (SELECT unnest(?::VARCHAR[]))"
            )
            found = {name: of for name, *of in scan.values(query, [[*told]])}
        for row in rows:
            steps, difficulty = found.get(row.id, (1, ""))
            told[row.id]["level"] = level_of(steps, difficulty or tasks[row.task_id].difficulty)
    return told


def level_of(steps: int, difficulty: str) -> float:
    """How hard a row is: 0 for an easy question of one step, 1 more for each further step.

    Medium is 0.5 more than easy and hard 1; what has no difficulty counts as medium.
    """
    harder = {"easy": 0.0, "hard": 1.0}
    return steps - 1 + harder.get(difficulty, 0.5)
