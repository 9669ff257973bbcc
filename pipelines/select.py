"""Select: decide on every row of a round, with the reason (`reward_model.threshold`).

Rows of one image are compared with each other, and all questions by how sure their choices are. So
it goes over the committed shards twice, in parts by image: once for each question's choice, then,
with the threshold that all of them give, for the decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq

from engine.caveats import at_chance, auc_in_words, of_selection
from engine.cluster import Places, Rows, cores
from engine.config.select import Select
from engine.records import Decision, Image, Row, Triplet, from_arrow
from engine.resume import Made, Shards, Worker, make_shards
from engine.scan import Scan
from engine.shards import shard_paths
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.parts import Parts, parts_of
from pipelines.record import judge_metrics, precision
from reward_model.threshold import (
    BEATEN,
    Choice,
    Duplicate,
    choices_of,
    decided,
    duplicate_key,
    threshold,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen(Row):
    """A question's choice on its way from the first pass to the second; no table of the record."""

    table: ClassVar[str] = "chosen"
    id: str  # the question's key
    triplet_id: str
    score: float
    confidence: float
    probability: float


@dataclass(frozen=True)
class Selecting:
    """What a worker decides on, and by which rules."""

    parts: Parts
    earlier: tuple[Path, ...]  # triplets of earlier rounds
    decisions: tuple[Path, ...]
    rules: Select
    round: int
    trusted: bool
    logprobs_known: bool
    chosen: Path  # the folder of the first pass
    threshold: float = 0.0

    def seen(self, part: int) -> set[Duplicate]:
        """What was kept of a part's images in earlier rounds."""
        with Scan() as scan:
            scan.table("triplets", Triplet, self.earlier)
            scan.table("decisions", Decision, self.decisions)
            kept = scan.rows(
                Triplet,
                f"SELECT * FROM triplets WHERE {self.parts.mine(part)} "
                "AND id IN (SELECT triplet_id FROM decisions WHERE keep)",
            )
        return {duplicate_key(t) for t in kept}


def make_chooser(job: Selecting) -> Worker:
    """A worker on parts {part}: the choice of each question."""

    def work(shard: str, rows: Rows) -> Made:
        triplets, judged = job.parts.rows(rows[0]["part"])
        choices = choices_of(triplets, judged, job.rules, job.trusted, job.logprobs_known)
        chosen = [
            Chosen(
                id=key,
                triplet_id=choice.triplet.id,
                score=choice.score,
                confidence=choice.confidence,
                probability=choice.probability,
            )
            for key, choice in choices.items()
        ]
        return {Chosen: chosen}

    return work


def make_decider(job: Selecting) -> Worker:
    """A worker on parts {part}: a decision on each row."""

    def work(shard: str, rows: Rows) -> Made:
        part = rows[0]["part"]
        triplets, judged = job.parts.rows(part)
        by_id = {t.id: t for t in triplets}
        chosen = from_arrow(Chosen, pq.read_table(job.chosen / f"{Chosen.table}-{shard}.parquet"))
        choices = {
            c.id: Choice(by_id[c.triplet_id], c.score, c.confidence, c.probability) for c in chosen
        }
        return {
            Decision: decided(
                triplets,
                judged,
                choices,
                job.threshold,
                job.rules,
                job.round,
                job.seen(part),
                job.trusted,
            )
        }

    return work


def select(context: Context, stage: Stage) -> None:
    """Decide on every triplet of the round; where truth is known, measure precision."""
    parts = parts_of(context, stage.round)
    judge = judge_metrics(context, _judge_of(parts.judgements))
    job = Selecting(
        parts=parts,
        earlier=tuple(context.shards(Triplet, "generate")),
        decisions=tuple(context.shards(Decision)),
        rules=context.config.select,
        round=stage.round,
        trusted=not at_chance(judge),
        logprobs_known=_logprobs_known(parts.triplets),
        chosen=stage.folder / "chosen",
    )
    shards = {f"{n:05d}": [{"part": n}] for n in range(parts.number)}
    places = Places(actors=min(cores(), parts.number), here=True)

    def advance(done: int, total: int) -> None:
        context.display.advance(done, total, "parts")

    make_shards(Shards(job.chosen, (Chosen,)), make_chooser, job, shards, places, advance)
    paths = [job.chosen / f"{Chosen.table}-{name}.parquet" for name in shards]
    confidence = [pq.read_table(p, columns=["confidence"])["confidence"].to_numpy() for p in paths]
    job = replace(job, threshold=threshold(np.concatenate(confidence), job.rules.keep))
    make_shards(Shards(stage.folder, (Decision,)), make_decider, job, shards, places, advance)
    stage.metrics = selection_metrics(context, stage, job)
    by = "judge" if job.trusted else "agreement"
    stage.metrics |= {"by": by, "judge": auc_in_words(judge)}
    for line in of_selection(stage.metrics):
        context.display.warn(f"round {stage.round}: {line}")


def _judge_of(shards: Iterable[Path]) -> set[str]:
    """Ids of the judges that gave opinions."""
    columns = [pq.read_table(path, columns=["judge_id"])["judge_id"] for path in shards]
    return {name for column in columns for name in column.unique().to_pylist()}


def _logprobs_known(shards: Sequence[Path]) -> bool:
    """Whether the log-probability of each row that parsed is known."""
    with Scan() as scan:
        scan.table("triplets", Triplet, shards)
        query = "SELECT 1 FROM triplets WHERE problem IS NULL AND logprob IS NULL LIMIT 1"
        return not list(scan.values(query))


def selection_metrics(context: Context, stage: Stage, job: Selecting) -> dict[str, Any]:
    """Counts by reason, kept share of questions, and precision before and after (phantoms only)."""
    with Scan() as scan:
        scan.table("triplets", Triplet, job.parts.triplets)
        scan.table("decisions", Decision, shard_paths(stage.folder, Decision.table))
        counts = dict(
            scan.values(
                "SELECT reason, count(*) FROM decisions WHERE NOT keep GROUP BY reason "
                "ORDER BY count(*) DESC, reason"
            )
        )
        ((kept,),) = scan.values("SELECT count(*) FROM decisions WHERE keep")
        ((questions,),) = scan.values(
            "SELECT count(DISTINCT (image_id, question, options)) FROM triplets "
            "WHERE problem IS NULL"
        )
    return {
        "kept": kept,
        "why_none": None if kept else next((r for r in counts if r not in BEATEN), None),
        "rejected": sum(counts.values()),
        "kept_fraction": round(kept / max(questions, 1), 4),
        "questions": questions,
        "reasons": counts,
    } | _precision(context, stage)


def _precision(context: Context, stage: Stage) -> dict[str, float | None]:
    """Of parsed rows and of kept ones the share that is right; None where truth is not known."""
    with context.scan(Image) as scan:
        known = list(scan.values("SELECT 1 FROM images WHERE truth IS NOT NULL LIMIT 1"))
    if not known:
        return {"precision_before": None, "precision_after": None}
    rows = context.rows(Triplet, "generate", stage.round)
    parsed = {t.id: t for t in rows if t.problem is None}
    paths = shard_paths(stage.folder, Decision.table)
    kept = [d.triplet_id for p in paths for d in from_arrow(Decision, pq.read_table(p)) if d.keep]
    return {
        "precision_before": precision(context, list(parsed.values())),
        "precision_after": precision(context, [parsed[i] for i in kept]),
    }
