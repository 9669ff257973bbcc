"""Select: decide on every row of a round, with the reason (`reward_model.threshold`).

Rows of one image are compared with each other, in parts by image; the threshold is of all questions
together, and then decides of each part's choices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.caveats import at_chance, auc_in_words, of_selection
from engine.cluster import Places, Rows, cores
from engine.config.select import Select
from engine.records import Decision, Image, Judgement, Triplet, from_arrow
from engine.resume import Made, Shards, Worker, make_shards
from engine.shards import shard_paths, write_shard
from engine.sql import Scan
from engine.workspace import Stage
from generators.phantoms.oracle import truths
from pipelines.context import Context
from pipelines.parts import Part, parts_of
from pipelines.record import images_of, judge_metrics
from reward_model.threshold import (
    BEATEN,
    Duplicate,
    Weighed,
    choices_of,
    confidences,
    decisions,
    duplicate_key,
    threshold,
    weighed,
)


@dataclass(frozen=True)
class Selecting:
    """What a worker decides on, and by which rules."""

    parts: tuple[Part, ...]
    kept_before: Path | None  # rows of earlier rounds
    rules: Select
    round: int
    trusted: bool
    logprobs_known: bool

    def seen(self, part: Part) -> set[Duplicate]:
        """What was kept of a part's images in earlier rounds."""
        if self.kept_before is None:
            return set()
        between = [("image_id", ">=", part.first), ("image_id", "<=", part.last)]
        kept = from_arrow(Triplet, pq.read_table(self.kept_before, filters=between))
        return {duplicate_key(t) for t in kept}


def make_weigher(job: Selecting) -> Worker:
    """A worker on parts {part}: what is decided of each row if the threshold allows it."""

    def work(shard: str, rows: Rows) -> Made:
        part = job.parts[rows[0]["part"]]
        triplets, judged = part.rows()
        choices = choices_of(triplets, judged, job.rules, job.trusted, job.logprobs_known)
        return {
            Weighed: weighed(
                triplets, judged, choices, job.rules, job.round, job.seen(part), job.trusted
            )
        }

    return work


def select(context: Context, stage: Stage) -> None:
    """Decide on every triplet of the round; where truth is known, measure precision."""
    parts = parts_of(context, stage.round)
    judge = judge_metrics(context, _judge_of(context.shards(Judgement, "judge", stage.round)))
    job = Selecting(
        parts=tuple(parts),
        kept_before=_kept_before(context, stage),
        rules=context.config.select,
        round=stage.round,
        trusted=not at_chance(judge),
        logprobs_known=_logprobs_known(context.shards(Triplet, "generate", stage.round)),
    )
    to = Shards(stage.folder / "weighed", (Weighed,))
    shards: dict[str, Rows] = {f"{n:05d}": [{"part": n}] for n in range(len(parts))}
    places = Places(actors=min(cores(), len(parts) or 1), here=True)
    make_shards(
        to,
        make_weigher,
        job,
        shards,
        places,
        lambda done, total: context.display.advance(done, total, "parts"),
    )
    found = {name: to.folder / f"{Weighed.table}-{name}.parquet" for name in shards}
    each = [confidences(pq.read_table(path)) for path in found.values()]
    least = threshold(np.concatenate([np.empty(0), *each]), job.rules.keep)
    for name, path in found.items():
        decided = decisions(pq.read_table(path), least, job.rules, job.round, job.trusted)
        write_shard(stage.folder, f"{Decision.table}-{name}", decided)
    if not found:
        stage.write(Decision, [])
    stage.metrics = selection_metrics(context, stage, parts)
    by = "judge" if job.trusted else "agreement"
    stage.metrics |= {"by": by, "judge": auc_in_words(judge)}
    for line in of_selection(stage.metrics):
        context.display.warn(f"round {stage.round}: {line}")


def _kept_before(context: Context, stage: Stage) -> Path | None:
    """A file of what was kept in earlier rounds, by image; None where nothing was."""
    path = stage.folder / "before" / "kept.parquet"
    with context.scan(Triplet, Decision) as scan:
        number = scan.write(
            path,
            Triplet,
            "SELECT * FROM triplets WHERE id IN (SELECT triplet_id FROM decisions WHERE keep) "
            "ORDER BY image_id",
        )
    return path if number else None


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


def selection_metrics(context: Context, stage: Stage, parts: list[Part]) -> dict[str, Any]:
    """Counts by reason, kept share of questions, and precision before and after (phantoms only)."""
    with Scan() as scan:
        scan.table("triplets", Triplet, context.shards(Triplet, "generate", stage.round))
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
    } | _precision(context, stage, parts)


def _precision(context: Context, stage: Stage, parts: list[Part]) -> dict[str, float | None]:
    """Of parsed rows and of kept ones the share that is right; None where truth is not known."""
    with context.scan(Image) as scan:
        known = list(scan.values("SELECT 1 FROM images WHERE truth IS NOT NULL LIMIT 1"))
    parsed: Counter[bool] = Counter()
    kept: Counter[bool] = Counter()
    for part, shard in zip(parts if known else [], shard_paths(stage.folder, Decision.table)):
        rows = [t for t in part.rows()[0] if t.problem is None]
        images = images_of(context, [t.image_id for t in rows])
        keep = {d.triplet_id for d in from_arrow(Decision, pq.read_table(shard)) if d.keep}
        parsed.update(truths(images, rows))
        kept.update(truths(images, [t for t in rows if t.id in keep]))
    return {"precision_before": _share(parsed), "precision_after": _share(kept)}


def _share(counts: Counter[bool]) -> float | None:
    return round(counts[True] / counts.total(), 4) if counts else None
