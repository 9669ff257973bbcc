"""Reward: the first judge, trained on what experts said.

Patients are in four sets for ever (`reward_model.patient_sets`): the judge learns from one, and the
others calibrate it, decide whether it is used, and say how good it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.caveats import of_judge
from engine.records import Model, Preference, Task, Triplet, unique
from engine.statistics import auc
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.judge_training import add_judge, fit_judge, stand_ins, taught
from pipelines.record import twins_of
from reward_model.blind import blind_scores
from reward_model.examples import FACTUALITY, Example
from reward_model.twins import twin_preferences


def backbone(context: Context) -> Model:
    """What the first judge is trained from: the base, the tuned generator, or a model named."""
    named = context.config.reward.model
    if named == "generator":
        return context.model("generator")
    return context.outside("judge", named) if named else context.base()


def reward(context: Context, stage: Stage) -> None:
    """The first judge, from its backbone."""
    start = backbone(context)
    number, seed = context.config.reward.twins, context.config.seed
    made, pairs, tasks = twin_preferences(twins_of(context) if number else [], number, seed)
    if number:
        stage.write(Task, unique(tasks))
        stage.write(Triplet, unique(made))
        stage.write(Preference, unique(pairs))
    told = taught(context, unique(pairs), made)
    result = fit_judge(context, stage, start, told, context.config.reward.epochs)
    metrics = result.to_dict() | {
        "logprob_auc": logprob_auc(told.frozen),
        "blind_auc": blind_auc(told.learned, told.frozen),
    }
    stage.metrics = metrics | told.counts() | ({"twins": len(pairs)} if number else {})
    for line in [*of_judge(metrics), *stand_ins(metrics)]:
        context.display.warn(line)
    add_judge(context, stage, start, metrics, told)


def logprob_auc(frozen: Sequence[Example]) -> float | None:
    """The baseline: the generator's own log-probability, on frozen pairs of its own samples."""
    pairs = [
        (e.first, e.second)
        for e in frozen
        if e.second is not None
        and e.targets.get(FACTUALITY) == 1.0
        and e.first.generator_id == e.second.generator_id
        and all((row.logprob or 0.0) < 0 for row in (e.first, e.second))
    ]
    if not pairs:
        return None
    scores = [row.logprob for pair in pairs for row in pair]
    return round(auc(np.array(scores), np.tile([True, False], len(pairs))), 4)


def blind_auc(learned: Sequence[Example], frozen: Sequence[Example]) -> float | None:
    """What a judge of words alone reaches on frozen rows, having learned from the same.

    Of factuality; None where the frozen rows are not of both kinds.
    """
    (rows, targets), (asked, right) = (_single(some) for some in (learned, frozen))
    if len(set(right)) < 2:
        return None
    return round(auc(blind_scores(rows, targets, asked), right), 4)


def _single(examples: Sequence[Example]) -> tuple[list[Triplet], list[float]]:
    """Rows that are right or wrong in fact, each of a pair by itself."""
    known = [
        (row, target)
        for e in examples
        if FACTUALITY in e.targets and e.targets[FACTUALITY] != 0.5
        for row, target in (
            (e.first, e.targets[FACTUALITY]),
            *([(e.second, 1 - e.targets[FACTUALITY])] if e.second else []),
        )
    ]
    return [row for row, _ in known], [round(target) * 1.0 for _, target in known]
