"""Generate a round's triplets on Ray Data, one shard a batch of tasks."""

from __future__ import annotations

import time

import pyarrow.parquet as pq

from engine.records import Triplet
from engine.shards import shard_paths
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.proposals import run_proposer
from pipelines.record import generator_of, planned_pairs


def generate(context: Context, stage: Stage) -> None:
    """A round's triplets, those that did not parse among them, each with its reason."""
    started = time.time()
    run_proposer(context, stage, generator_of(context), planned_pairs(context, stage.round))
    paths = shard_paths(stage.folder, Triplet.table)
    problems = [pq.read_table(path, columns=["problem"])["problem"] for path in paths]
    rows = sum(map(len, problems))
    stage.metrics = {
        "rows": rows,
        "unparsed": rows - sum(column.null_count for column in problems),
        "rows_per_second": round(rows / (time.time() - started), 1),
    }
