"""A generator asked for triplets in a stage: tasks, the run over shards, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pyarrow.parquet as pq

from engine.cluster import Places, Rows
from engine.config.generator import Generator
from engine.errors import TriptychError
from engine.records import Model, Prompt, Task, Triplet, from_arrow, unique
from engine.resume import Shards, Worker, make_shards
from engine.shards import shard_paths
from engine.workspace import Stage
from generators.proposer import ProposerSettings, Proposing, make_proposer, prompt_of
from generators.quotas import Unfilled, wanted_of
from generators.tasks import Drawn, Mix, draw_tasks
from pipelines.context import Context
from pipelines.record import shown
from pipelines.spending import JOURNALS, spending

Job = TypeVar("Job")


def round_of(context: Context, mix: Mix, seed: str) -> Drawn:
    """A round's tasks on training images, by the quotas.

    `seed` is a content id. Raises TriptychError where no task can be asked.
    """
    section = context.config.generator
    wanted = wanted_of(section.tasks, section.styles, section.quotas)
    drawn = draw_tasks(shown(context, "train"), mix, wanted, int(seed[:8], 16))
    if not drawn.number:
        raise TriptychError("generator.quotas: no task can be asked of the training images")
    return drawn


def tell_unfilled(context: Context, unfilled: Iterable[Unfilled]) -> None:
    """Say which quotas are not met and why."""
    for one in unfilled:
        context.display.warn(f"generator.quotas: {one}")


def write_tasks(stage: Stage, section: Generator, tasks: Iterable[Task]) -> None:
    """Record tasks and the prompts that ask for them."""
    tasks = unique(tasks)
    stage.write(Task, tasks)
    asked = (prompt_of(section.prompts, task, section.knowledge) for task in tasks)
    stage.write(Prompt, unique(asked))


def proposing(context: Context, model: Model, round: int, stage: Stage | None = None) -> Proposing:
    """How a model proposes in a round, with journals where it does so in a stage."""
    config, section = context.config, context.config.generator
    settings = ProposerSettings(
        model.id,
        section.prompts,
        section.samples,
        section.ask_temperature,
        section.temperature,
        section.max_tokens,
        config.seed * 1000 + round,
        round,
        tuple(section.knowledge),
        section.tries_again,
        section.structured,
    )
    return Proposing(
        context.workspace.root.absolute(),
        context.path_of(model),
        section.backend,
        settings,
        config.cluster.threads,
        config.max_pixels,
        section.filters,
        stage.folder.absolute() / JOURNALS if stage else None,
    )


def run_proposer(
    context: Context, stage: Stage, model: Model, pairs: Iterable[tuple[str, Task]]
) -> dict[str, Any]:
    """Triplets of the stage for pairs of an image's id and a task, one shard a batch.

    Returns what that took in tokens, as metrics (`pipelines.spending`).
    """
    rows = [{"image_id": image_id, "task": task.to_dict()} for image_id, task in pairs]
    batch = context.config.generator.batch
    shards = {f"{low // batch:05d}": rows[low : low + batch] for low in range(0, len(rows), batch)}
    job = proposing(context, model, stage.round, stage)
    propose_all(context, stage, make_proposer, job, shards)
    return spending([(job.journals, job.backend)])


def propose_all(
    context: Context,
    stage: Stage,
    make: Callable[[Job], Worker],
    job: Job,
    shards: dict[str, Rows],
    sizes: dict[str, int] | None = None,
) -> None:
    """The stage's shards of triplets, by workers that each hold the generator."""
    config, section = context.config, context.config.generator
    make_shards(
        Shards(stage.folder, (Triplet,)),
        make,
        job,
        shards,
        Places(
            section.actors, config.cluster.threads, section.backend.gpus, section.backend.shards
        ),
        lambda done, total: context.display.advance(
            done * section.samples, total * section.samples, "triplets"
        ),
        sizes,
    )


def read_shards(stage: Stage) -> list[Triplet]:
    """Triplets of a stage's shards, in the shards' order."""
    rows: list[Triplet] = []
    for path in shard_paths(stage.folder, Triplet.table):
        rows += from_arrow(Triplet, pq.read_table(path))
    return rows
