"""Judge a round's triplets on Ray Data, a shard of judgements for each shard of triplets."""

from __future__ import annotations

import pyarrow.parquet as pq

from engine.cluster import Rows
from engine.records import Judgement, Model, Triplet
from engine.resume import Shards, make_shards
from engine.shards import shard_paths
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.judging import Judging, make_judge, places_of


def run_judge(context: Context, stage: Stage, model: Model) -> int:
    """Judgements of the stage's round; returns how many triplets parsed."""
    config, root = context.config, context.workspace.root
    shards: dict[str, Rows] = {}
    sizes: dict[str, int] = {}
    parsed = 0
    for commit, path, digest in context.workspace.shards(Triplet.table):
        if (commit["stage"], commit["round"]) == ("generate", stage.round):
            name = path.stem.rpartition("-")[2]
            shards[name] = [{"path": str(path.relative_to(root)), "sha256": digest}]
            problems = pq.read_table(path, columns=["problem"])["problem"]
            sizes[name], parsed = len(problems), parsed + problems.null_count
    make_shards(
        Shards(stage.folder, (Judgement,)),
        make_judge,
        Judging(root.absolute(), context.path_of(model), model.id, config.cluster.threads),
        shards,
        places_of(config),
        lambda done, total: context.display.advance(done, total, "triplets"),
        sizes,
    )
    return parsed


def judge(context: Context, stage: Stage) -> None:
    """One judgement for each triplet of the round that parsed and has a finite score."""
    parsed = run_judge(context, stage, context.model("judge"))
    shards = shard_paths(stage.folder, Judgement.table)
    judged = sum(pq.read_metadata(shard).num_rows for shard in shards)
    stage.metrics = {"judged": judged, "unscored": parsed - judged}
    if judged < parsed:
        context.display.warn(
            f"the judge has no finite score for {parsed - judged} of {parsed} rows: they are "
            "rejected"
        )
