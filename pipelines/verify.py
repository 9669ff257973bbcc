"""Verify a round's questions before they are judged: votes, blind answers, a rubric.

A shard of verifications for each shard of triplets. Each model has a pass of its own, so that no
worker holds two: what one pass found, the next reads. What a row must reach, `select` decides
(`generators.filters.refused`), so that a threshold can change without a model being asked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from engine.cluster import Places, Rows
from engine.config.backend import Backend
from engine.errors import TriptychError
from engine.knowledge import knowing
from engine.lineage.files import read_hashed
from engine.pixels import Pixels
from engine.records import Image, Model, Prompt, Triplet, Verification, canonical, from_arrow
from engine.resume import Made, Shards, Worker, make_shards
from engine.shards import shard_paths
from engine.sql import Scan
from engine.vlm.backends import open_vlm
from engine.vlm.journal import journaled
from engine.vlm.protocol import Sampling
from engine.workspace import Stage
from generators.verification.blind import Answering, answered, answered_blind, shares_of
from generators.verification.rubric import Assessing, assessed
from generators.verification.votes import counted, questions_of
from pipelines.context import Context
from pipelines.record import generator_of
from pipelines.spending import JOURNALS, spending

RUBRIC = "rubric"  # the words of a prompt that holds one


@dataclass(frozen=True)
class Asking:
    """What a worker needs for one pass: whose rows and pictures, and who is asked how.

    `before` is where the last pass wrote, `journals` where this one keeps what it is answered;
    without `how` the votes alone are counted.
    """

    workspace: Path
    round: int
    images: tuple[Path, ...]
    threads: int
    max_pixels: int
    name: str = "votes"
    before: Shards | None = None
    model: str = ""
    backend: Backend | None = None
    how: Answering | Assessing | None = None
    journals: Path | None = None


def make_asker(job: Asking) -> Worker:
    """A worker on committed shards of triplets {path, sha256}: verifications of their questions."""
    named = job.backend
    vlm = open_vlm(named, job.model, job.threads, job.max_pixels) if named else None
    pixels = Pixels(job.workspace)
    kinds = job.how.knowledge if isinstance(job.how, Assessing) else ()
    knows = knowing(job.workspace, kinds)

    def work(shard: str, rows: Rows) -> Made:
        tables = [read_hashed(job.workspace / row["path"], row["sha256"]) for row in rows]
        triplets = [t for table in tables for t in from_arrow(Triplet, table)]
        questions = questions_of(triplets)
        if job.before:
            found = from_arrow(Verification, pq.read_table(job.before.path(Verification, shard)))
        else:
            found = counted(questions, job.round)
        asked = vlm and journaled(vlm, job.journals and job.journals / f"{shard}.jsonl")
        if asked and found and isinstance(job.how, Answering):
            others = others_of(job.images, sorted({one.image_id for one in found}))
            rows_of = {t.id: t for t in triplets}
            found = answered(asked, found, rows_of, pixels, others, job.how)
        elif asked and found and isinstance(job.how, Assessing):
            known = knows(one.image_id for one in found)
            found = assessed(asked, found, questions, pixels, job.how, known)
        return {Verification: found}

    return work


# Groups of a modality and split stand in a ring, by their first image's id; each image is shown
# the first of the next group.
_OTHERS = """
WITH firsts AS (
    SELECT modality, split, "group" AS owner, min(id) AS first FROM images GROUP BY ALL
), ring AS (
    SELECT *, coalesce(lead(first) OVER turn, first_value(first) OVER turn) AS other FROM firsts
    WINDOW turn AS (PARTITION BY modality, split ORDER BY first)
)
SELECT DISTINCT i.id, r.other FROM images i
JOIN ring r ON r.modality = i.modality AND r.split = i.split AND r.owner = i."group"
WHERE i.id IN (SELECT unnest($1::VARCHAR[])) AND r.other <> r.first
"""


def others_of(images: Sequence[Path], ids: list[str]) -> dict[str, str]:
    """By image another patient's image of the same modality and split; none where there is none."""
    with Scan() as scan:
        scan.table("images", Image, images)
        return dict(scan.values(_OTHERS, [ids]))


def verify(context: Context, stage: Stage) -> None:
    """One verification for each question of the round."""
    section = context.config.verify
    if not section.on:
        raise TriptychError(
            "verify measures nothing: set verify.blind, verify.rubric or verify.pass_rate "
            "(docs/verification.md)"
        )
    shards, sizes, writer = _generated(context, stage.round)
    solver, verifier = _solver(context, writer), _verifier(context, writer)
    passes = _passes(context, stage, solver, verifier)
    for number, job in enumerate(passes):
        last = number == len(passes) - 1
        make_shards(
            Shards(stage.folder if last else stage.folder / job.name, (Verification,)),
            make_asker,
            job,
            shards,
            _places(job, section.actors),
            lambda done, total, name=job.name: context.display.advance(  # type: ignore[misc]
                done, total, f"triplets ({name})"
            ),
            sizes,
        )
    known = {model.id for model in context.rows(Model)}
    new = {m.id: m for m in (solver, verifier) if m and m.id not in known}
    if new:
        stage.write(Model, new.values())
    if section.rubric:
        asks = section.rubric.asks
        words = canonical(asks.model_dump())
        stage.write(Prompt, [Prompt(id=asks.id, words=RUBRIC, text=words)])
    stage.metrics = metrics_of(shard_paths(stage.folder, Verification.table))
    stage.metrics |= spending((job.journals, job.backend) for job in passes)


def _places(job: Asking, actors: int) -> Places:
    """Actors that each hold the model; votes are counted in this process."""
    if job.backend is None:
        return Places(here=True)
    return Places(actors, job.threads, job.backend.gpus, job.backend.shards)


def _generated(context: Context, round: int) -> tuple[dict[str, Rows], dict[str, int], Model]:
    """The round's shards of triplets, how many rows each has, and who wrote them."""
    root = context.workspace.root
    shards: dict[str, Rows] = {}
    sizes: dict[str, int] = {}
    writers: set[str] = set()
    for commit, path, digest in context.workspace.shards(Triplet.table):
        if (commit["stage"], commit["round"]) == ("generate", round):
            name = path.stem.rpartition("-")[2]
            shards[name] = [{"path": str(path.relative_to(root)), "sha256": digest}]
            column = pq.read_table(path, columns=["generator_id"])["generator_id"]
            sizes[name] = len(column)
            writers.update(column.unique().to_pylist())
    known = [m for m in context.rows(Model) if m.id in writers]
    return shards, sizes, known[-1] if known else generator_of(context)


def _solver(context: Context, writer: Model) -> Model | None:
    """Who answers with and without the image; None where nobody is asked to."""
    blind = context.config.verify.blind
    if blind is None:
        return None
    return context.outside("solver", blind.model) if blind.model else writer


def _verifier(context: Context, writer: Model) -> Model | None:
    """Who answers the rubric. Raises TriptychError where the rows are its own, or its offspring's.

    A model that was tuned from the verifier has its weights for the most part.
    """
    rubric = context.config.verify.rubric
    if rubric is None:
        return None
    verifier = context.outside("verifier", rubric.model)
    models = {model.id: model for model in context.rows(Model)}
    line: Model | None = writer
    met: set[str] = set()
    while line and line.id not in met:
        if line.id == verifier.id:
            raise TriptychError(
                f"verify.rubric.model {rubric.model} is the generator's own, or what it was tuned "
                "from: name another model, since a writer passes its own faults"
            )
        met.add(line.id)
        line = models.get(line.parent_id or "")
    return verifier


def _passes(
    context: Context, stage: Stage, solver: Model | None, verifier: Model | None
) -> list[Asking]:
    """A pass for each model, or one that counts votes alone."""
    config, section = context.config, context.config.verify
    votes = Asking(
        workspace=context.workspace.root.absolute(),
        round=stage.round,
        images=tuple(context.shards(Image)),
        threads=config.cluster.threads,
        max_pixels=config.max_pixels,
    )
    seed = config.seed * 1000 + stage.round
    passes, journals = [], stage.folder.absolute() / JOURNALS
    if section.blind and solver:
        blind, writing = section.blind, config.generator
        drawn = writing.temperature if blind.samples > 1 else 0.0
        sampling = Sampling(blind.samples, drawn, blind.max_tokens, seed)
        how = Answering(solver.id, writing.prompts, tuple(blind.without), sampling)
        backend = blind.backend or writing.backend
        named = replace(votes, name="blind", model=context.path_of(solver))
        passes.append(replace(named, backend=backend, how=how, journals=journals / named.name))
    if section.rubric and verifier:
        rubric = section.rubric
        sampling = Sampling(1, 0.0, rubric.max_tokens, seed)
        knowledge = tuple(rubric.knowledge)
        asked = Assessing(verifier.id, rubric.asks, rubric.answers, sampling, knowledge)
        before = Shards(stage.folder / "blind", (Verification,)) if passes else None
        named = replace(votes, name="rubric", model=context.path_of(verifier), before=before)
        passes.append(
            replace(named, backend=rubric.backend, how=asked, journals=journals / named.name)
        )
    return passes or [votes]


def metrics_of(paths: Sequence[Path]) -> dict[str, Any]:
    """Of the questions: the mean pass rate and margin, and the shares answered blind and passed.

    `margins` counts questions by margin, in tenths from -1 to 1.
    """
    rates: list[float] = []
    margins: list[float] = []
    scores: list[float] = []
    blind = passed = assessed_too = unreadable = items = 0
    for path in paths:
        for one in from_arrow(Verification, pq.read_table(path)):
            rates.append(one.agreeing / one.samples)
            if one.margin is not None:
                margins.append(one.margin)
                blind += answered_blind(shares_of(one, one.answer))
            if one.rubric:
                told = json.loads(one.rubric)
                own = told["answers"][one.answer]
                assessed_too += 1
                passed += not own["failed"]
                said = [*told["items"].values()]
                said += [r for each in told["answers"].values() for r in each["items"].values()]
                items += len(said)
                unreadable += sum(reply["yes"] is None for reply in said)
                scores += [] if one.score is None else [one.score]
    found: dict[str, Any] = {"questions": len(rates), "pass_rate": _mean(rates)}
    if margins:
        counts, _ = np.histogram(margins, bins=21, range=(-1.05, 1.05))
        found |= {"margin": _mean(margins), "answered_blind": round(blind / len(margins), 4)}
        found |= {"margins": counts.tolist()}
    if assessed_too:
        found |= {"essentials_passed": round(passed / assessed_too, 4), "score": _mean(scores)}
        found |= {"unreadable": round(unreadable / max(items, 1), 4)}
    return found


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
