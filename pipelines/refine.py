"""Refine the judge on pairs of a round; roll it back where it does worse on frozen pairs."""

from __future__ import annotations

import json

from engine.caveats import at_chance, of_judge
from engine.records import Preference, Task, Triplet, unique
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.judge_training import add_judge, fit_judge
from pipelines.parts import parts_of
from pipelines.record import expert_of, own_tasks
from reward_model.experts.expert import Expert
from reward_model.refinement import new_pairs, no_worse


def refine(context: Context, stage: Stage) -> None:
    """Train the judge further on pairs of this round; roll it back where the holdout got worse."""
    current = context.model("judge")
    trusted = not at_chance(json.loads(current.metrics))
    pairs, made = pairs_of_round(context, stage.round, trusted)
    stage.write(Triplet, unique(made), "made")
    stage.write(Task, own_tasks(context, made), "made")
    stage.write(Preference, unique(pairs))
    if not pairs:
        stage.metrics = {"accepted": False, "why": "no new pairs"}
        return
    section = context.config.reward
    everything = context.rows(Preference) + pairs
    result, learned = fit_judge(context, stage, current, everything, section.refine_epochs, made)
    before, after = result.before, result.after
    assert before is not None  # a judge is refined
    accepted = no_worse(before.auc, after.auc, section.tolerance)
    stage.metrics = {
        "auc_before": before.auc,
        "auc_after": after.auc if accepted else before.auc,
        "auc_refined": after.auc,
        "pairwise_before": before.pairwise,
        "pairwise": after.pairwise,
        "pairs": len(pairs),
        "accepted": accepted,
    }
    if accepted:
        metrics = result.to_dict()
        for line in of_judge(metrics):
            context.display.warn(line)
        add_judge(context, stage, current, metrics, learned)


def expert_of_new_rows(context: Context) -> Expert | None:
    """The expert, where it can compare new answers."""
    expert = expert_of(context)
    return expert if expert.compares_generated else None


def pairs_of_round(
    context: Context, round: int, trusted: bool = True
) -> tuple[list[Preference], list[Triplet]]:
    """`new_pairs` among what was generated and judged in a round."""
    return new_pairs(
        context.config,
        (part.rows() for part in parts_of(context, round)),
        expert_of_new_rows(context),
        round,
        trusted,
    )
