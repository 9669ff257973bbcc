"""Select: decide on every row of a round, with the reason (`reward_model.threshold`).

Rows of one image are compared with each other, in parts by image; the threshold is of all questions
together, and then decides of each part's choices. Where `select.guarantee` is set it is certified
from what experts said of rows drawn at random, and nothing is kept where it cannot be. Before
that, rows are looked at beside benchmarks, copies of their pictures and each other
(`pipelines.across`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.caveats import auc_in_words, of_selection
from engine.reasons import FURTHER, KIND
from engine.records import Assignment, Decision, Found, Image, Row, Task, Triplet, from_arrow
from engine.shards import shard_paths, write_shard
from engine.sql import Scan
from engine.workspace import Stage
from generators.filters import MEASURED
from generators.phantoms.oracle import truths
from pipelines.across import across, guessable
from pipelines.adherence import adherence_of, axes_of, lines_of, recorded
from pipelines.adherence import table as cells_table
from pipelines.context import Context
from pipelines.guarantee import certificates_of, thresholds_of, told_of
from pipelines.parts import Part
from pipelines.record import images_of
from pipelines.waterfall import waterfall, waterfall_table
from pipelines.weighing import weigh
from reward_model.threshold import (
    BEATEN,
    confidences,
    decisions,
    threshold,
)


def select(context: Context, stage: Stage) -> None:
    """Decide on every triplet of the round; where truth is known, measure precision."""
    weighing, told = across(context, stage, weigh(context, stage))
    job, found = weighing.job, weighing.files
    guarantee = job.rules.guarantee
    certificates = certificates_of(context, weighing, guarantee) if guarantee else ()
    each = [confidences(pq.read_table(path)) for path in found.values()]
    share = threshold(np.concatenate([np.empty(0), *each]), job.rules.keep)
    for (name, path), part in zip(found.items(), job.parts):
        rows = pq.read_table(path)
        least = thresholds_of(context, part, rows, certificates) if guarantee else share
        decided = decisions(rows, least, job.rules, job.round, job.trusted)
        write_shard(stage.folder, f"{Decision.table}-{name}", decided)
        turned_out = pq.read_table(weighing.found[name])
        write_shard(stage.folder, f"{Found.table}-{name}", turned_out)
    if not found:
        stage.write(Decision, [])
    stage.metrics = selection_metrics(context, stage, job.parts) | told
    by = "judge" if job.trusted else "agreement"
    stage.metrics |= {"by": by, "judge": auc_in_words(weighing.judge)}
    stage.metrics |= told_of(context, certificates, stage.round) if guarantee else {}
    context.display.show(waterfall_table(stage.metrics["waterfall"], stage.round))
    stage.metrics |= adherence_metrics(context, stage)
    context.display.show(cells_table(stage.round, stage.metrics["cells"]))
    if more := stage.metrics.get("further"):
        context.display.done(
            f"round {stage.round}: {more:,} of {stage.metrics['kept']:,} kept rows are further "
            "reasonings of kept answers"
        )
    for line in of_selection(stage.metrics):
        context.display.warn(f"round {stage.round}: {line}")


def selection_metrics(context: Context, stage: Stage, parts: Sequence[Part]) -> dict[str, Any]:
    """Counts by reason, kept share of questions, and precision before and after (phantoms only).

    Of a question whose answer is kept with several reasonings the chosen row counts.
    """
    with Scan() as scan:
        scan.table("triplets", Triplet, context.shards(Triplet, "generate", stage.round))
        scan.table("decisions", Decision, shard_paths(stage.folder, Decision.table))
        counts = dict(
            scan.values(
                f"SELECT {KIND} AS why, count(*) FROM decisions WHERE NOT keep GROUP BY why "
                "ORDER BY count(*) DESC, why"
            )
        )
        query = "SELECT count(*), count(*) FILTER (reason = ?) FROM decisions WHERE keep"
        ((kept, further),) = scan.values(query, [FURTHER])
        ((questions,),) = scan.values(
            "SELECT count(DISTINCT (image_id, question, options)) FROM triplets "
            "WHERE problem IS NULL"
        )
        steps = waterfall(scan)
        balance = guessable(scan, context.config.select.balance)
    return (
        {
            "kept": kept,
            "why_none": None if kept else next((r for r in counts if r not in BEATEN), None),
            "rejected": sum(counts.values()),
            "kept_fraction": round((kept - further) / max(questions, 1), 4),
            "questions": questions,
            "reasons": counts,
            "waterfall": steps,
        }
        | ({"further": further} if context.config.select.rationales > 1 else {})
        | _refused(counts, parts)
        | balance
        | _precision(context, stage, parts)
    )


def adherence_metrics(context: Context, stage: Stage) -> dict[str, Any]:
    """What was asked, generated and kept by cell, and the share of rows that are as asked."""
    axes = axes_of(context.config.generator.quotas)
    with Scan() as scan:
        made: dict[type[Row], str] = {Assignment: "plan", Task: "plan", Triplet: "generate"}
        for kind, name in made.items():
            scan.table(kind.table, kind, context.shards(kind, name, stage.round))
        for kind in (Found, Decision):
            scan.table(kind.table, kind, shard_paths(stage.folder, kind.table))
        return {
            "adherence": adherence_of(scan),
            "cells": recorded(axes, lines_of(scan, axes)),
        }


def _refused(reasons: Mapping[str, int], parts: Sequence[Part]) -> dict[str, Any]:
    """By filter how many rows it refused by what was measured; nothing where nothing was."""
    if not any(part.verifications for part in parts):
        return {}
    filters = [check.__module__.rpartition(".")[2].replace("_", "-") for check in MEASURED]
    return {
        "refused": {
            name: sum(n for reason, n in reasons.items() if reason.startswith(f"{name}: "))
            for name in filters
        }
    }


def _precision(context: Context, stage: Stage, parts: Sequence[Part]) -> dict[str, float | None]:
    """Of parsed rows and of kept choices the share that is right; None where truth is unknown."""
    with context.scan(Image) as scan:
        known = list(scan.values("SELECT 1 FROM images WHERE truth IS NOT NULL LIMIT 1"))
    parsed: Counter[bool] = Counter()
    kept: Counter[bool] = Counter()
    for part, shard in zip(parts if known else (), shard_paths(stage.folder, Decision.table)):
        rows = [t for t in part.rows()[0] if t.problem is None]
        images = images_of(context, [t.image_id for t in rows])
        decided = from_arrow(Decision, pq.read_table(shard))
        keep = {d.triplet_id for d in decided if d.keep and d.reason != FURTHER}
        parsed.update(truths(images, rows))
        kept.update(truths(images, [t for t in rows if t.id in keep]))
    return {"precision_before": _share(parsed), "precision_after": _share(kept)}


def _share(counts: Counter[bool]) -> float | None:
    return round(counts[True] / counts.total(), 4) if counts else None
