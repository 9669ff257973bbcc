"""A judge trained in a stage, on all pairs but the frozen ones, and recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.errors import TriptychError
from engine.records import Model, Preference, Triplet
from engine.trainer import first_use
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.record import triplets_of
from pipelines.training.launch import rows_per_step, train_on_cluster
from pipelines.training_jobs import job_of
from reward_model.model import JudgeSettings
from reward_model.training import JudgeJob, JudgeResult, train_and_measure, write_pairs


def fit_judge(
    context: Context,
    stage: Stage,
    start: Model,
    preferences: list[Preference],
    epochs: float,
    made: Sequence[Triplet] = (),
) -> tuple[JudgeResult, list[Preference]]:
    """Train from `start` on all pairs that are not frozen; returns (result, pairs trained on).

    `made` are rows of this stage that pairs refer to and that are not committed yet.
    """
    frozen = [p for p in context.rows(Preference, "compare") if p.holdout]
    learned = [p for p in preferences if not p.holdout]
    if not learned or not frozen:
        raise TriptychError(
            f"{stage.name}: {len(learned)} pairs to learn and {len(frozen)} frozen; "
            "raise expert.pairs or expert.preference_images"
        )
    config = context.config
    triplets = triplets_of(context, frozen + learned) | {t.id: t for t in made}
    prompts, holdout = config.generator.prompts, (stage.folder / "holdout").resolve()
    write_pairs(stage.folder / "data", learned, triplets, prompts)
    write_pairs(holdout, frozen, triplets, prompts)
    section = config.reward.model_copy(update={"epochs": epochs})
    criteria = {str(name): weight for name, weight in section.criteria.items()}
    settings = JudgeSettings(criteria=criteria, prompts=prompts, max_pixels=config.max_pixels)
    job = job_of(JudgeJob, context, stage, section, start, holdout=holdout, settings=settings)
    return train_on_cluster(train_and_measure, job, context.display.advance), learned


def add_judge(
    context: Context,
    stage: Stage,
    start: Model,
    metrics: dict[str, Any],
    learned: list[Preference],
) -> None:
    """Record a trained judge with the pairs that it learned from."""
    steps = metrics["steps"]
    use = first_use(len(learned), rows_per_step(context.config.reward), steps)
    folder = stage.folder / "weights"
    context.add_model(stage, "judge", folder, start, json.dumps(metrics), learned, steps, use)
