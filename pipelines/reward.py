"""Reward: the first judge, trained on the expert's preferences.

A share of the expert's pairs, chosen by image, is frozen: never trained on. It calibrates the
judge, and a refined judge that does worse on it is rolled back.
"""

from __future__ import annotations

import numpy as np

from engine.caveats import of_judge
from engine.records import Model, Preference
from engine.statistics import auc
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.judge_training import add_judge, fit_judge
from pipelines.record import triplets_of


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
