"""Candidates from the generator on fresh images, and pairs that the expert makes of them."""

from __future__ import annotations

from typing import Any

from engine.records import Preference, Task, Triplet, content_id, unique
from engine.workspace import Stage
from generators.quotas import wanted_of
from generators.tasks import Shown, draw_tasks, uniform_mix
from pipelines.context import Context
from pipelines.proposals import read_shards, run_proposer, write_tasks
from pipelines.record import (
    expert_images,
    expert_of,
    generator_of,
    held_out_shares,
    own_tasks,
    seed_triplets,
    shown,
)
from reward_model.experts import asked_of
from reward_model.experts.expert import Exemplar
from reward_model.streams import candidates

ALL = 10**6  # rows an image: every question that a benchmark has


def asked_pairs(context: Context) -> list[tuple[str, Task]]:
    """The image's id and the task that candidates are generated for, before the first judge.

    Where experts are asked for verdicts, more than they are asked about: some do not parse.
    """
    asked, expert = asked_of(context.config), expert_of(context)
    _, images = expert_images(context, expert)
    compared = max(asked.pairs, len(images)) if expert.compares_generated else 0
    number = max(compared, candidates(asked.verdicts.first))
    some = [(image.id, image.modality, image.anatomy) for image in images]
    pairs = _drawn(context, some, number, "compare")
    for split, share in held_out_shares(context, asked.verdicts.test).items():
        pairs += _drawn(context, list(shown(context, split)), candidates(share), split)
    return pairs


def _drawn(context: Context, images: list[Shown], number: int, what: str) -> list[tuple[str, Task]]:
    """Tasks of all kinds evenly, whatever the quotas: experts and judge are to know them all."""
    draws = int(content_id(context.config.seed, what)[:8], 16)
    mix = uniform_mix(modality for _, modality, _ in images)
    wanted = wanted_of(number, context.config.generator.styles)
    return list(draw_tasks(images, mix, wanted, draws).pairs)


def compare(context: Context, stage: Stage) -> None:
    """Candidates from the generator on fresh images, and pairs that the expert makes of them."""
    config, expert = context.config, expert_of(context)
    verdicts = asked_of(config).verdicts
    generated: list[Triplet] = []
    gold: list[Exemplar] = []
    spent: dict[str, Any] = {}
    if expert.compares_generated or verdicts.first or verdicts.test:
        pairs = asked_pairs(context)
        write_tasks(stage, config.generator, [task for _, task in pairs])
        spent = run_proposer(context, stage, generator_of(context, refresh=False), pairs)
        generated = read_shards(stage)
    if not expert.compares_generated:
        seed_images, images = expert_images(context, expert)
        gold = [pair for i in seed_images + images for pair in expert.rows(i, ALL)]
        stage.write(Task, unique([task for _, task in gold]), "gold")
    rows = generated + [row for row, _ in gold]
    made, preferences = expert.pairs(rows, asked_of(config).pairs, config.seed)
    free, implied = expert.implied(seed_triplets(context))
    asked = {row.id for row in rows}
    stage.write(Task, own_tasks(context, [m for m in made if m.id not in asked]), "made")
    known = {row.id for row in generated}  # written as they were generated
    stage.write(Triplet, unique([m for m in made + free if m.id not in known]), "made")
    stage.write(Preference, unique(preferences + implied))
    stage.metrics = {
        "candidates": len(rows),
        "preferences": len(preferences),
        "implied": len(implied),
        "holdout": sum(p.holdout for p in preferences),
    } | spent
