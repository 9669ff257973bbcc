"""Generate a round's triplets on Ray Data, one shard a batch of tasks."""

from __future__ import annotations

import time
from typing import Any

from engine import cluster
from engine.records import Image, Model, Task, Triplet, unique
from engine.workspace import Stage
from generators.proposer import Plan, make_proposer
from pipelines.context import Context
from pipelines.record import generator_of, planned_pairs


def proposer_arguments(context: Context, model: Model, round: int) -> dict[str, Any]:
    """What `make_proposer` is given in a round."""
    config, section = context.config, context.config.generator
    plan = Plan(
        model.id,
        section.prompts,
        section.samples,
        section.ask_temperature,
        section.temperature,
        section.max_tokens,
        config.seed * 1000 + round,
        round,
    )
    return {
        "model": context.path_of(model),
        "backend": section.backend,
        "plan": plan,
        "threads": config.cluster.threads,
        "max_pixels": config.max_pixels,
    }


def run_proposer(
    context: Context, stage: Stage, model: Model, pairs: list[tuple[Image, Task]]
) -> list[Triplet]:
    """Generate for pairs, one Parquet shard a batch; whole shards of an earlier try are kept."""
    config, section = context.config, context.config.generator
    shards = {
        f"{low // section.batch:05d}": [
            {"image": i.to_dict(), "task": t.to_dict()} for i, t in pairs[low : low + section.batch]
        ]
        for low in range(0, len(pairs), section.batch)
    }
    done = {name.rpartition("-")[2] for name in stage.done() if name.startswith("triplets-")}
    todo = {name: rows for name, rows in shards.items() if name not in done}
    arguments = proposer_arguments(context, model, stage.round)
    finished = len(pairs) - sum(len(rows) for rows in todo.values())
    for name, rows in cluster.map_shards(
        make_proposer,
        arguments,
        todo,
        section.actors,
        config.cluster.threads,
        section.backend.gpus,
    ):
        stage.write(Triplet, unique([Triplet.from_dict(r) for r in rows]), name)
        finished += len(todo[name])
        context.display.advance(
            finished * section.samples, len(pairs) * section.samples, "triplets"
        )
    return read_shards(stage)


def read_shards(stage: Stage) -> list[Triplet]:
    """Triplets of a stage's shards, in the shards' order."""
    import pyarrow.parquet as pq

    from engine.records import from_arrow

    rows: list[Triplet] = []
    for path in sorted(stage.folder.glob("triplets-[0-9]*.parquet")):
        rows += from_arrow(Triplet, pq.read_table(path))
    return rows


def generate(context: Context, stage: Stage) -> None:
    """A round's triplets, those that did not parse among them, each with its reason."""
    started = time.time()
    rows = run_proposer(context, stage, generator_of(context), planned_pairs(context, stage.round))
    stage.metrics = {
        "rows": len(rows),
        "unparsed": sum(r.problem is not None for r in rows),
        "rows_per_second": round(len(rows) / (time.time() - started), 1),
    }
