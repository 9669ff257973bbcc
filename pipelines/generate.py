"""Generate a round's triplets on Ray Data, one shard a batch of tasks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.cluster import Rows
from engine.records import Assignment, Image, Row, Task, Triplet
from engine.resume import Made, Worker
from engine.shards import shard_paths
from engine.sql import Scan
from engine.workspace import Stage
from generators.proposer import Proposing, make_proposer
from pipelines.adherence import axes_of, not_read
from pipelines.context import Context
from pipelines.proposals import propose_all, proposing
from pipelines.record import generator_of
from pipelines.spending import spending

SAID = 8  # lines about cells without a row


@dataclass(frozen=True)
class Planned:
    """What a worker needs to propose what a round's plan asks."""

    proposing: Proposing
    assignments: tuple[Path, ...]
    tasks: tuple[Task, ...]
    withdrawn: frozenset[str]  # images that the plan asks about and that are gone


def make_planned(job: Planned) -> Worker:
    """A worker on shards {first, last}, places in the plan: triplets out."""
    propose = make_proposer(job.proposing)
    tasks = {task.id: task.to_dict() for task in job.tasks}

    def work(shard: str, rows: Rows) -> Made:
        (places,) = rows
        asked = pq.read_table(
            list(job.assignments),
            columns=["image_id", "task_id"],
            filters=[("place", ">=", places["first"]), ("place", "<=", places["last"])],
        )
        pairs = zip(asked["image_id"].to_pylist(), asked["task_id"].to_pylist())
        return propose(
            shard,
            [
                {"image_id": image_id, "task": tasks[task_id]}
                for image_id, task_id in pairs
                if image_id not in job.withdrawn
            ],
        )

    return work


def planned_shards(context: Context, round: int) -> tuple[dict[str, Rows], dict[str, int]]:
    """A round's plan in shards of at most a batch, and how many pairs each is of.

    The plan is in order of images, and an image is in one shard unless more than a batch is asked
    of it, so that who needs all rows of an image need not look at all shards (`pipelines.parts`).
    """
    shards: dict[str, Rows] = {}
    sizes: dict[str, int] = {}
    for first, last in batches(_asked(context, round), context.config.generator.batch):
        name = f"{len(shards):05d}"
        shards[name], sizes[name] = [{"first": first, "last": last}], last - first + 1
    return shards, sizes


def batches(asked: Iterable[tuple[int, int]], most: int) -> Iterator[tuple[int, int]]:
    """First and last places of batches, of how often an image is asked from each place on."""
    first = last = -1
    for place, count in asked:
        if last >= first >= 0 and place + count - first > most:
            yield first, last
            first = -1
        first = place if first < 0 else first
        last = place + count - 1
        while last - first + 1 > most:
            yield first, first + most - 1
            first += most
    if last >= first >= 0:
        yield first, last


def _asked(context: Context, round: int) -> Iterator[tuple[int, int]]:
    """From which place on each image is asked, and how often."""
    with context.scan(Assignment) as scan:
        query = (
            "SELECT min(place), count(*) FROM assignments WHERE round = ? "
            "GROUP BY image_id ORDER BY min(place)"
        )
        yield from scan.values(query, [round])


def _withdrawn(context: Context, round: int) -> frozenset[str]:
    """Images that a round's plan asks about and that were withdrawn since."""
    with context.scan(Assignment, Image) as scan:
        query = (
            "SELECT DISTINCT image_id FROM assignments WHERE round = ? "
            "AND image_id NOT IN (SELECT id FROM images)"
        )
        return frozenset(image_id for (image_id,) in scan.values(query, [round]))


def generate(context: Context, stage: Stage) -> None:
    """A round's triplets, those that did not parse among them, each with its reason."""
    started = time.time()
    job = Planned(
        proposing(context, generator_of(context), stage.round, stage),
        tuple(context.shards(Assignment, "plan", stage.round)),
        tuple(context.rows(Task, "plan", stage.round)),
        _withdrawn(context, stage.round),
    )
    shards, sizes = planned_shards(context, stage.round)
    propose_all(context, stage, make_planned, job, shards, sizes)
    paths = shard_paths(stage.folder, Triplet.table)
    tables = [pq.read_table(path, columns=["problem", "tries"]) for path in paths]
    rows = sum(map(len, tables))
    stage.metrics = {
        "rows": rows,
        "unparsed": rows - sum(table["problem"].null_count for table in tables),
        "second_tries": sum(pc.sum(pc.greater(t["tries"], 1)).as_py() or 0 for t in tables),
        "rows_per_second": round(rows / (time.time() - started), 1),
        "cells_not_read": _not_read(context, stage, paths),
    }
    stage.metrics |= spending([(job.proposing.journals, job.proposing.backend)])


def _not_read(context: Context, stage: Stage, written: list[Path]) -> int:
    """Say which cells of the plan have no row that could be read; how many they are."""
    with Scan() as scan:
        made: dict[type[Row], list[Path]] = {
            kind: context.shards(kind, "plan", stage.round) for kind in (Assignment, Task)
        }
        for kind, shards in (made | {Triplet: written}).items():
            scan.table(kind.table, kind, shards)
        lines = not_read(scan, axes_of(context.config.generator.quotas))
    for line in lines[:SAID]:
        context.display.warn(f"round {stage.round}: {line}")
    if len(lines) > SAID:
        context.display.warn(f"round {stage.round}: and {len(lines) - SAID} more such cells")
    return len(lines)
