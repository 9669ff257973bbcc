"""Rows that teach safety, written by stage `compose` from what is known of training images.

What is right is what selection kept, an expert says or a phantom's truth has; that it cannot be
told follows from what the image shows, or from the question. Such rows come in whole groups
(`generators.safety`), are not judged, and no promise that selection makes is of them. A picture
with a text in it is an image of its own, of its original's patient and split; nothing else is asked
about it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np

from engine.config.policy import Policy
from engine.records import (
    Decision,
    Found,
    Image,
    Picture,
    Prompt,
    Task,
    Triplet,
    canonical,
    content_id,
)
from engine.workspace import Stage
from generators.filters import reason as filtered
from generators.found import found_of
from generators.phantoms.again import mask_of
from generators.phantoms.oracle import is_true
from generators.safety import elsewhere, instruction, unanswerable
from generators.safety.lessons import Answered, Lesson, Pool, of_row, of_truth
from generators.safety.rows import SAFETY, inscribed, row_of
from pipelines.context import Context
from pipelines.record import ORDINARY, SOME, known_rows, known_tables
from reward_model.threshold import round_to

POLICY = "policy"  # what a row of `prompts` calls it
KEPT = "teaches safety"
BEFORE = "it was taught before"
ENOUGH = 20  # questions whose answer is known, for a row that is wanted
LEAST = 2  # rows of a group
SHARD = 500  # rows
SALT = 0x5AFE  # of its random streams
KINDS: dict[str, Callable[[Pool, Policy, np.random.Generator], Iterator[list[Lesson]]]] = {
    "instruction": instruction.groups,
    "organ": elsewhere.groups,
    "unanswerable": unanswerable.groups,
}


@dataclass(frozen=True, slots=True)
class Taught:
    """A row with its task and its image; with the picture, where that was made for it."""

    row: Triplet
    task: Task
    image: Image
    confidence: float
    picture: Picture | None = None


def teach(context: Context, stage: Stage) -> dict[str, Any]:
    """Write the round's rows that teach safety; what was written, as the stage's figure `safety`.

    Empty where none are wanted.
    """
    section = context.config.safety
    if not section.on:
        return {}
    refused: Counter[str] = Counter()
    made = taught(context, stage.round, refused)
    told: Counter[str] = Counter()
    true: Counter[bool | None] = Counter()
    tasks: dict[str, Task] = {}
    for number in count():
        some = list(islice(made, SHARD))
        if not some:
            break
        shard = f"{SAFETY}{number:03d}"
        stage.write(Picture, [one.picture for one in some if one.picture], shard)
        stage.write(Image, [one.image for one in some if one.picture], shard)
        stage.write(Triplet, [one.row for one in some], shard)
        stage.write(Decision, [_decision(context, one) for one in some], shard)
        stage.write(Found, found_of([one.row for one in some], {}, {}), shard)
        told.update(_teaches(one.row) for one in some)
        true.update(is_true(one.image, one.row) for one in some)
        tasks |= {one.task.id: one.task for one in some}
        wanted = sum(section.wanted.values())
        context.display.advance(told.total(), wanted, "rows that teach safety")
    if tasks:
        stage.write(Task, tasks.values(), SAFETY)
        stage.write(Prompt, [policy_row(section.policy)], SAFETY)
    known = true[True] + true[False]
    return {
        SAFETY: {
            "rows": told.total(),
            "teaches": dict(sorted(told.items())),
            "refused": dict(sorted(refused.items())),
            "policy": section.policy.id,
            "precision": round(true[True] / known, 4) if known else None,
        }
    }


def policy_row(policy: Policy) -> Prompt:
    """The policy as the record has it, under its hash."""
    words = canonical(policy.model_dump())
    return Prompt(id=policy.id, words=POLICY, text=words, words_id=policy.id)


def _teaches(row: Triplet) -> str:
    told = json.loads(row.program or "{}")
    return str(told["teaches"]) + ("" if told["answerable"] else ", refused")


def _decision(context: Context, one: Taught) -> Decision:
    rules_id = content_id(SAFETY, context.config.safety.model_dump())
    told = json.loads(one.row.program or "{}")
    return Decision(
        id=content_id("decision", one.row.id, rules_id, one.row.round),
        triplet_id=one.row.id,
        rules_id=rules_id,
        round=one.row.round,
        keep=True,
        reason=f"{KEPT}: {told['teaches']}, clause {told['clause']}",
        score=round_to(one.confidence),
        threshold=0.0,
    )


def taught(context: Context, round: int, refused: Counter[str]) -> Iterator[Taught]:
    """A round's rows, the same of the same record; `refused` counts the reasons of groups."""
    section = context.config.safety
    pool = _pool(context, round, ENOUGH * sum(section.wanted.values()))
    before = _before(context, round)
    for place, (kind, wanted) in enumerate(section.wanted.items()):
        rng = np.random.default_rng([context.config.seed, round, place, SALT])
        groups = KINDS[kind](pool, section.policy, rng) if wanted else iter(())
        why: Counter[str] = Counter()
        number, fits = 0, True
        for group in groups:
            if wanted - number < LEAST:
                break
            if number + len(group) > wanted:
                fits = False
                continue
            rows = [_made(context, one, number + n, round, rng) for n, one in enumerate(group)]
            if problem := _problem(context, rows, before):
                why[problem] += 1
                continue
            number += len(group)
            yield from rows
        refused.update(why)
        if fits and wanted - number >= LEAST:  # else too few are left for a whole group
            because = ", ".join(f"{reason} {n} times" for reason, n in why.most_common())
            context.display.warn(
                f"safety.{kind}, round {round}: {number} of {wanted} rows, from "
                f"{len(pool.answered)} questions about {len(pool.images)} images"
                + (f" ({because})" if because else "")
            )


def _before(context: Context, round: int) -> set[str]:
    """Ids of what earlier rounds taught, and of pictures with texts."""
    with context.scan(Image) as scan:
        scan.table("triplets", Triplet, context.shards(Triplet, "compose"))
        query = "SELECT id FROM triplets WHERE generator_id = ? AND round < ?"
        rows = {name for (name,) in scan.values(query, [SAFETY, round])}
        query = f"SELECT id FROM images WHERE NOT {ORDINARY}"
        return rows | {name for (name,) in scan.values(query)}


def _problem(context: Context, group: list[Taught], before: set[str]) -> str | None:
    """Why a group is not written: all of its rows stay together."""
    if any(not before.isdisjoint((one.row.id, one.image.id)) for one in group):
        return BEFORE
    filters = context.config.generator.filters
    return next((why for one in group if (why := filtered(one.row, filters))), None)


def _made(
    context: Context, lesson: Lesson, number: int, round: int, rng: np.random.Generator
) -> Taught:
    picture = None
    if lesson.text:
        source, image = context.config.source, lesson.image
        mask = mask_of(image, source.size, context.config.seed, source.difficulty)
        lesson, picture = inscribed(lesson, context.pixels[image.id], mask, rng)
    row, task = row_of(lesson, context.config.seed, number, round)
    return Taught(row, task, lesson.image, lesson.confidence, picture)


def _pool(context: Context, round: int, enough: int) -> Pool:
    """Training images, in an order that each round draws anew, and what is known of them.

    So many of either as are `enough`, and those that are looked at together with the last.
    """
    section = context.config.safety
    images: list[Image] = []
    answered: list[Answered] = []
    with context.scan(Image) as scan:
        known_tables(context, scan)
        query = (
            f"SELECT id FROM images WHERE split = 'train' AND {ORDINARY} ORDER BY md5(id || ?), id"
        )
        ids = [image_id for (image_id,) in scan.values(query, [f"{SAFETY}{round}"])]
        for low in range(0, len(ids), SOME):
            if len(answered) >= enough:
                break
            some = ids[low : low + SOME]
            query = "SELECT * FROM images WHERE id IN (SELECT unnest(?::VARCHAR[]))"
            found = {image.id: image for image in scan.rows(Image, query, [some])}
            images += [found[name] for name in some[: max(enough - len(images), 0)]]
            known: dict[str, list[Answered]] = {name: [] for name in some}
            for row, _, confidence in known_rows(scan, some, round, section.answers):
                one = of_row(found[row.image_id], row, confidence)
                known[row.image_id] += [one] if one else []
            for name in some if "truth" in section.answers else ():
                rng = np.random.default_rng([context.config.seed, round, int(name[:8], 16)])
                known[name] += of_truth(found[name], rng)
            answered += [one for name in some for one in known[name]]
    return Pool(images, answered)
