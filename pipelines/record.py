"""Questions to the record: which rows a stage works on, by what earlier stages committed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from engine.records import Assignment, Decision, Image, Model, Task, Triplet, unique
from generators.phantoms.oracle import is_true
from pipelines.context import Context
from reward_model.experts import asked_of, open_expert
from reward_model.experts.expert import EXPERT, Exemplar


def kept_triplets(context: Context, rounds: int) -> list[Triplet]:
    """Rows that select kept in rounds 1 to `rounds`, in the order generated."""
    kept = {d.triplet_id for d in context.rows(Decision) if d.keep and d.round <= rounds}
    return [t for t in context.rows(Triplet, "generate") if t.id in kept]


def fresh_triplets(context: Context, kept: list[Triplet]) -> list[Triplet]:
    """Of the kept rows those left to GRPO: a question is left in every round or in none."""
    share = context.config.grpo.share if context.config.grpo.steps else 0.0
    return [t for t in kept if int(t.question_key[:8], 16) < share * 2**32]


def seed_triplets(context: Context) -> list[Triplet]:
    """The expert's own rows."""
    return [t for t in context.rows(Triplet, "seed") if t.generator_id == EXPERT]


def training_images(context: Context) -> list[Image]:
    """Images that generation may ask about: the training split."""
    return context.images("train")


def own_tasks(context: Context, rows: list[Triplet]) -> list[Task]:
    """The tasks of rows that the expert wrote of its own accord, in no plan and no seed."""
    own = [row for row in rows if row.generator_id == EXPERT and not row.derived_from]
    if not own:
        return []
    expert = open_expert(context.config, context.images())
    images = {i.id: i for i in context.images()}
    told = {
        written.id: task
        for row in own
        for written, task in expert.rows(images[row.image_id], row.sample + 1)
    }
    return unique([told[row.id] for row in own])


def expert_images(context: Context) -> tuple[list[Image], list[Image]]:
    """Training images with expert rows, and further ones for preferences; in order of id."""
    train = sorted(context.images("train"), key=lambda i: i.id)
    asked = asked_of(context.config)
    rows = train[: asked.images]
    rest = train[asked.images : asked.images + asked.preference_images]
    return rows, rest or rows


def held_out(context: Context, split: str, number: int) -> list[Exemplar]:
    """About `number` expert questions on a split's images, spread evenly over the images."""
    images = sorted(context.images(split), key=lambda i: i.id)
    if not images:
        return []
    expert = open_expert(context.config, context.images())
    each = -(-number // len(images))
    return [row for image in images for row in expert.rows(image, each)][:number]


VALIDATION_SHARE = 0.5  # of as many questions as the test has


def validation_questions(context: Context) -> list[Exemplar]:
    """What steers the loop: expert questions on the validation split; none where it is empty."""
    return held_out(context, "val", int(context.config.evaluate.questions * VALIDATION_SHARE))


def generator_of(context: Context, refresh: bool = True) -> Model:
    """Who generates: the model named in the configuration, else the tuned one, later the policy."""
    named = context.config.generator.model
    if named:
        return context.outside("generator", named)
    if refresh and context.config.generator.refresh and context.has("sft"):
        return context.model("policy")
    return context.model("generator")


def planned_pairs(context: Context, round: int) -> list[tuple[str, Task]]:
    """What a round's plan asks: an image's id and a task each, without images withdrawn since."""
    tasks = {t.id: t for t in context.rows(Task, "plan", round)}
    asked = sorted(context.rows(Assignment, "plan", round), key=lambda a: a.place)
    there = {i.id for i in context.images()}
    return [(a.image_id, tasks[a.task_id]) for a in asked if a.image_id in there]


def judge_metrics(context: Context, judges: set[str]) -> dict[str, Any]:
    """What was measured of the judge that gave opinions, of the newest where none did."""
    named = judges or {context.model("judge").id}
    models = [m for m in context.rows(Model) if m.id in named]
    return dict(json.loads(models[-1].metrics)) if models else {}


def purity(context: Context, rows: list[Triplet]) -> float | None:
    """Share in [0, 1] of rows that are right on their image; None where truth is not known."""
    images = {i.id: i for i in context.images()}
    truths = [is_true(images[row.image_id], row) for row in rows]
    known = [truth for truth in truths if truth is not None]
    return round(float(np.mean(known)), 4) if known else None
