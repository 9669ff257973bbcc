"""Train the judge on the expert's preferences, and refine it each round on newly judged pairs.

A share of the expert's pairs, chosen by image, is frozen: never trained on. It calibrates the
judge, and a refined judge that does worse on it is rolled back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.caveats import of_judge
from engine.errors import TriptychError
from engine.records import Model, Preference, Triplet
from engine.statistics import auc
from engine.trainer import first_use
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.jobs import job_of
from pipelines.record import triplets_of
from pipelines.training.launch import rows_per_step, train_on_cluster
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


def backbone(context: Context) -> Model:
    """What the first judge is trained from: the base, the tuned generator, or a model named."""
    named = context.config.reward.model
    if named == "generator":
        return context.model("generator")
    return context.outside("judge", named) if named else context.base()


def reward(context: Context, stage: Stage) -> None:
    """The first judge, from its backbone."""
    start = backbone(context)
    preferences = context.rows(Preference, "compare")
    result, learned = fit_judge(context, stage, start, preferences, context.config.reward.epochs)
    metrics = result.to_dict() | {"logprob_auc": logprob_auc(context, preferences)}
    stage.metrics = metrics
    for line in of_judge(metrics):
        context.display.warn(line)
    add_judge(context, stage, start, metrics, learned)


def logprob_auc(context: Context, preferences: list[Preference]) -> float | None:
    """The baseline: the generator's own log-probability, on frozen pairs of its own samples."""
    triplets = triplets_of(context, [p for p in preferences if p.holdout])
    sampled = [
        p
        for p in preferences
        if p.holdout
        and p.criterion == "factuality"
        and all((triplets[i].logprob or 0.0) < 0 for i in (p.chosen_id, p.rejected_id))
        and triplets[p.rejected_id].generator_id == triplets[p.chosen_id].generator_id
    ]
    if not sampled:
        return None
    scores = [triplets[i].logprob for p in sampled for i in (p.chosen_id, p.rejected_id)]
    return round(auc(np.array(scores), np.tile([True, False], len(sampled))), 4)
