"""A round's rows weighed: of each question the choice, how confident it is, and what else is out.

Stages consult and select both stand on it, so that experts are asked about the rows that selection
chooses from. Rows of one image are compared with each other, in parts by image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from engine.caveats import at_chance
from engine.cluster import Places, Rows, cores
from engine.config.select import Select, Verified
from engine.reasons import FURTHER
from engine.records import Decision, Found, Judgement, Triplet, Verification, from_arrow
from engine.resume import Made, Shards, Worker, make_shards
from engine.sql import Scan
from engine.workspace import Stage
from generators.filters import refused
from generators.found import found_table
from generators.safety.rows import SAFETY
from pipelines.context import Context
from pipelines.parts import Part, parts_of
from pipelines.record import judge_metrics
from reward_model.process import least_logit
from reward_model.threshold import Duplicate, Weighed, choices_of, duplicate_key, weighed


@dataclass(frozen=True)
class Selecting:
    """What a worker decides on, and by which rules."""

    parts: tuple[Part, ...]
    kept_before: Path | None  # rows of earlier rounds
    rules: Select
    round: int
    trusted: bool
    logprobs_known: bool
    reasoning: float  # the judge's logit from which reasoning is sound

    def seen(self, part: Part) -> set[Duplicate]:
        """What was kept of a part's images in earlier rounds."""
        if self.kept_before is None:
            return set()
        between = [("image_id", ">=", part.first), ("image_id", "<=", part.last)]
        kept = from_arrow(Triplet, pq.read_table(self.kept_before, filters=between))
        return {duplicate_key(t) for t in kept}


def make_weigher(job: Selecting) -> Worker:
    """A worker on parts {part}: what is decided of each row if the threshold allows it.

    And what each row was found to be, which hangs on the choice of its question.
    """

    def work(shard: str, rows: Rows) -> Made:
        part = job.parts[rows[0]["part"]]
        triplets, judged = part.rows()
        how = (job.trusted, job.logprobs_known, job.reasoning)
        choices = choices_of(triplets, judged, job.rules, *how)
        chosen = {key: choice.triplet.answer for key, choice in choices.items()}
        out = refusals(triplets, part.verified(), job.rules.verified)
        of_round = (job.rules, job.round, job.seen(part), job.trusted, out)
        return {
            Found: found_table(triplets, chosen),
            Weighed: weighed(triplets, judged, choices, *of_round),
        }

    return work


def refusals(
    triplets: Iterable[Triplet], verified: Mapping[str, Verification], held_to: Verified
) -> dict[str, str]:
    """By id the rows that parsed and that a filter refuses by what was measured, with the reason.

    Rows of one question with one answer have one reason, so it is worked out once.
    """
    known: dict[tuple[str, str], str | None] = {}
    out: dict[str, str] = {}
    for row in triplets if verified else ():
        key = row.question_key
        if row.problem is not None or key not in verified:
            continue
        given = (key, row.answer)
        if given not in known:
            known[given] = refused(row, verified[key], held_to)
        if why := known[given]:
            out[row.id] = why
    return out


@dataclass(frozen=True)
class Weighing:
    """A round's rows weighed, by part a file of `Weighed` and of `Found`; the judge's metrics."""

    job: Selecting
    files: dict[str, Path]
    found: dict[str, Path]
    judge: dict[str, Any]


def weigh(context: Context, stage: Stage) -> Weighing:
    """Weigh the rows of the stage's round, into scratch files of the stage."""
    parts = parts_of(context, stage.round)
    judge = judge_metrics(context, _judge_of(context.shards(Judgement, "judge", stage.round)))
    job = Selecting(
        parts=tuple(parts),
        kept_before=_kept_before(context, stage),
        rules=context.config.select,
        round=stage.round,
        trusted=not at_chance(judge),
        logprobs_known=_logprobs_known(context.shards(Triplet, "generate", stage.round)),
        reasoning=least_logit(context.config.select.reasoning, judge.get("reasoning")),
    )
    to = Shards(stage.folder / "weighed", (Weighed, Found))
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
    files, found = ({name: to.path(kind, name) for name in shards} for kind in (Weighed, Found))
    return Weighing(job, files, found, judge)


def _kept_before(context: Context, stage: Stage) -> Path | None:
    """A file of what was kept in earlier rounds, a row a question, by image; None of nothing.

    Rows that teach safety are not among it: no later row is a copy of one.
    """
    path = stage.folder / "before" / "kept.parquet"
    with context.scan(Triplet, Decision) as scan:
        number = scan.write(
            path,
            Triplet,
            "SELECT * FROM triplets WHERE id IN (SELECT triplet_id FROM decisions "
            f"WHERE keep AND reason <> '{FURTHER}') AND generator_id <> '{SAFETY}' "
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
