"""Judge a round's triplets on Ray Data."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from engine import cluster
from engine.records import Judgement, Model, Triplet
from engine.workspace import Stage
from generators import filters
from pipelines.context import Context
from reward_model.scoring import make_judge

SHARD = 512


def run_judge(context: Context, stage: Stage, model: Model, triplets: list[Triplet]) -> None:
    """Score triplets, one Parquet shard a batch; whole shards of an earlier try are kept."""
    config = context.config
    pngs = context.pngs()
    rows: list[dict[str, Any]] = [
        {"triplet": t.to_dict(), "png": pngs[t.image_id]} for t in triplets
    ]
    shards = {f"{i // SHARD:05d}": rows[i : i + SHARD] for i in range(0, len(rows), SHARD)}
    done = {name.rpartition("-")[2] for name in stage.done()}
    todo = {name: part for name, part in shards.items() if name not in done}
    arguments = {
        "model": context.path_of(model),
        "judge_id": model.id,
        "threads": config.cluster.threads,
    }
    finished = len(shards) - len(todo)
    for name, judged in cluster.map_shards(
        make_judge, arguments, todo, 1, config.cluster.threads, config.reward.gpus
    ):
        stage.write(Judgement, [Judgement.from_dict(j) for j in judged], name)
        finished += 1
        context.display.advance(min(finished * SHARD, len(rows)), len(rows), "judgements")


def judge(context: Context, stage: Stage) -> None:
    """One judgement for each triplet of the round that parsed and has a finite score."""
    rows = [filters.marked(t) for t in context.rows(Triplet, "generate", stage.round)]
    parsed = [t for t in rows if t.problem is None]
    run_judge(context, stage, context.model("judge"), parsed)
    shards = stage.folder.glob(f"{Judgement.table}-*.parquet")
    judged = sum(pq.read_metadata(shard).num_rows for shard in shards)
    stage.metrics = {"judged": judged, "unscored": len(parsed) - judged}
    if judged < len(parsed):
        context.display.warn(
            f"the judge has no finite score for {len(parsed) - judged} of {len(parsed)} rows: "
            "they are rejected"
        )
