"""Candidates from the generator on fresh images, and what the expert thinks of them."""

from __future__ import annotations

from engine.records import Preference, Task, Triplet, content_id, unique
from engine.workspace import Stage
from generators.tasks import draw_tasks, uniform_mix
from pipelines.context import Context
from pipelines.proposals import read_shards, run_proposer, write_tasks
from pipelines.record import expert_images, expert_of, generator_of, own_tasks, seed_triplets
from reward_model.experts import asked_of

ALL = 10**6  # rows an image: every question that a benchmark has


def asked_pairs(context: Context) -> list[tuple[str, Task]]:
    """The image's id and the task that candidates are generated for, before preferences."""
    config = context.config
    _, images = expert_images(context, expert_of(context))
    number = max(asked_of(config).pairs, len(images))
    draws = int(content_id(config.seed, "compare")[:8], 16)
    shown = [(image.id, image.modality) for image in images]
    mix = uniform_mix(modality for _, modality in shown)
    return list(draw_tasks(shown, mix, config.generator.styles, number, draws))


def compare(context: Context, stage: Stage) -> None:
    """Candidates from the generator on fresh images, and what the expert thinks of them."""
    config = context.config
    expert = expert_of(context)
    seed_images, images = expert_images(context, expert)
    if expert.compares_generated:
        pairs = asked_pairs(context)
        write_tasks(stage, config.generator.prompts, [task for _, task in pairs])
        run_proposer(context, stage, generator_of(context, refresh=False), pairs)
        rows = read_shards(stage)
    else:
        gold = [pair for i in seed_images + images for pair in expert.rows(i, ALL)]
        stage.write(Task, unique([task for _, task in gold]))
        rows = [row for row, _ in gold]
    made, preferences = expert.pairs(rows, asked_of(config).pairs, config.seed)
    free, implied = expert.implied(seed_triplets(context))
    asked = {row.id for row in rows}
    stage.write(Task, own_tasks(context, [m for m in made if m.id not in asked]), "made")
    known = asked if expert.compares_generated else set()  # written as they were generated
    stage.write(Triplet, unique([m for m in made + free if m.id not in known]), "made")
    stage.write(Preference, unique(preferences + implied))
    stage.metrics = {
        "candidates": len(rows),
        "preferences": len(preferences),
        "implied": len(implied),
        "holdout": sum(p.holdout for p in preferences),
    }
