"""A judge on shards of triplets, as several stages have it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.cluster import Places, Rows
from engine.config import Config
from engine.lineage.files import read_hashed
from engine.pixels import Pixels
from engine.records import Judgement, Triplet, from_arrow
from engine.resume import Made, Worker
from reward_model.scoring import Judge


@dataclass(frozen=True)
class Judging:
    """What a worker needs to judge: whose rows and pictures, and which judge."""

    workspace: Path
    model: str
    judge_id: str
    threads: int


def places_of(config: Config) -> Places:
    """Where shards are judged."""
    return Places(config.reward.actors, config.cluster.threads, config.reward.gpus)


def make_judge(job: Judging) -> Worker:
    """A worker on shards of triplets {path, sha256}: judgements of what parsed out.

    Paths are of the workspace; the hash is None of a shard that is not committed.
    """
    judge, pixels = Judge(job.model, job.judge_id, job.threads), Pixels(job.workspace)

    def work(shard: str, rows: Rows) -> Made:
        tables = [read_hashed(job.workspace / row["path"], row["sha256"]) for row in rows]
        triplets = [t for table in tables for t in from_arrow(Triplet, table)]
        return {Judgement: judge.judge([t for t in triplets if t.problem is None], pixels)}

    return work
