"""A generator asked for triplets in a stage: tasks, the run over shards, and what came of it."""

from __future__ import annotations

import pyarrow.parquet as pq

from engine.cluster import Places, Rows
from engine.records import Model, Prompt, Task, Triplet, from_arrow, unique
from engine.resume import Shards, make_shards
from engine.shards import shard_paths
from engine.workspace import Stage
from generators.proposer import ProposerSettings, Proposing, make_proposer, prompt_of
from pipelines.context import Context


def write_tasks(stage: Stage, words: str, tasks: list[Task]) -> None:
    """Record tasks and the prompts that ask for them."""
    tasks = unique(tasks)
    stage.write(Task, tasks)
    stage.write(Prompt, unique([prompt_of(words, task) for task in tasks]))


def proposing(context: Context, model: Model, round: int) -> Proposing:
    """How a model proposes in a round."""
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
    )
    return Proposing(
        context.workspace.root.absolute(),
        context.path_of(model),
        section.backend,
        settings,
        config.cluster.threads,
        config.max_pixels,
    )


def run_proposer(
    context: Context, stage: Stage, model: Model, pairs: list[tuple[str, Task]]
) -> None:
    """Triplets of the stage for pairs of an image's id and a task, one shard a batch."""
    config, section = context.config, context.config.generator
    shards: dict[str, Rows] = {
        f"{low // section.batch:05d}": [
            {"image_id": image_id, "task": task.to_dict()}
            for image_id, task in pairs[low : low + section.batch]
        ]
        for low in range(0, len(pairs), section.batch)
    }
    make_shards(
        Shards(stage.folder, (Triplet,)),
        make_proposer,
        proposing(context, model, stage.round),
        shards,
        Places(section.actors, config.cluster.threads, section.backend.gpus),
        lambda done, total: context.display.advance(
            done * section.samples, total * section.samples, "triplets"
        ),
    )


def read_shards(stage: Stage) -> list[Triplet]:
    """Triplets of a stage's shards, in the shards' order."""
    rows: list[Triplet] = []
    for path in shard_paths(stage.folder, Triplet.table):
        rows += from_arrow(Triplet, pq.read_table(path))
    return rows
