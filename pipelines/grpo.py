"""GRPO of a round's policy, on kept questions that SFT has not seen.

Of those, the ones on which the SFT model's own samples are mixed: a group of completions that
are all right or all wrong has no advantage and teaches nothing. DAPO (arXiv 2503.14476) drops such
groups while it trains; here they are found before, so that every step has a full batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from heapq import nsmallest
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from engine.caveats import at_chance
from engine.config.training import Grpo, PolicyReward
from engine.records import Model, Preference, Triplet
from engine.shards import replace_file
from engine.trainer import first_use, write_training_set
from engine.vlm.protocol import Sampling
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.examine import ask_arms, examine
from pipelines.record import (
    each_kept,
    left_to_grpo,
    precision,
    seed_triplets,
    validation_questions,
)
from pipelines.training.composite_reward import mixed
from pipelines.training.grpo import (
    GrpoJob,
    GrpoResult,
    looked_at,
    questions_of,
    questions_per_step,
    train_grpo,
)
from pipelines.training.launch import train_on_cluster
from pipelines.training_jobs import job_of


def mixed_rows(
    context: Context, model: Model, rows: list[Triplet], number: int, folder: Path
) -> list[Triplet]:
    """The rows on whose questions the model's own samples in round `number` are mixed."""
    section = context.config.grpo
    seed = context.config.seed * 1000 + number
    sampling = Sampling(section.group, section.temperature, section.max_tokens, seed)
    replies = ask_arms(context, {"sft": (model, rows)}, sampling, folder)["sft"]
    return [row for row, said in zip(rows, replies) if mixed(said, row.answer, row.options)]


def questions_for_grpo(context: Context, stage: Stage, start: Model) -> list[Triplet]:
    """What GRPO trains on: kept questions that SFT left, on which its model is mixed.

    Of those left, `looked_at` many are looked at. Where they do not fill one step, the others left
    follow, then what SFT saw. The choice is written down, for a training that is taken up again
    must see the same rows.
    """
    section = context.config.grpo
    step, most = questions_per_step(section), looked_at(section)
    kept = partial(each_kept, context, stage.round, further=False)  # a question is asked once
    fresh = some((row for row in kept() if left_to_grpo(context, row)), most) or some(kept(), most)
    choice = stage.folder / "asked" / "mixed.json"
    if not choice.exists():
        teach = [
            row.id for row in mixed_rows(context, start, fresh, stage.round, stage.folder / "asked")
        ]
        choice.parent.mkdir(exist_ok=True)
        replace_file(choice, json.dumps(teach).encode())
    ids = set(json.loads(choice.read_text()))
    teaching = [t for t in fresh if t.id in ids]
    stage.metrics = {"fresh": len(fresh), "mixed": len(teaching)}
    chosen: dict[str, Triplet] = {}
    for row in chain(teaching, fresh, kept(), seed_triplets(context)):
        if len(chosen) >= max(len(teaching), step):
            break
        chosen.setdefault(row.id, row)
    return list(chosen.values())


def some(rows: Iterable[Triplet], most: int) -> list[Triplet]:
    """At most so many rows, by the hashes of their questions, in the order given."""
    found = nsmallest(most, enumerate(rows), key=lambda pair: (pair[1].question_key, pair[0]))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def rewards_of(section: Grpo, judge: Model) -> PolicyReward:
    """The reward as configured; a judge at chance has no weight in it, whatever is configured."""
    if at_chance(json.loads(judge.metrics)):
        return section.reward.without_judge()
    return section.reward


def used_by(section: Grpo, rows: int, steps: int) -> tuple[int, int | None]:
    """(earliest, latest) step at which GRPO first saw any one of `rows` questions.

    `engine.trainer.first_use`, where completions are drawn every `iterations` steps.
    """
    every = section.iterations
    first, last = first_use(rows, questions_per_step(section), -(-steps // every))
    return first, last and (last - 1) * every + 1


def fit_policy(
    context: Context, stage: Stage, start: Model, judge: Model, rows: list[Triplet]
) -> GrpoResult:
    """GRPO of `start` on the questions of `rows`: weights in the stage's folder."""
    config = context.config
    questions = questions_of(rows, config.generator.prompts, config.evaluate.style)
    write_training_set(stage.folder / "data", questions)
    section = config.grpo.model_copy(update={"reward": rewards_of(config.grpo, judge)})
    job = job_of(GrpoJob, context, stage, section, start, judge=context.path_of(judge))
    return train_on_cluster(train_grpo, job, context.display.advance)


def validation_accuracy(context: Context, stage: Stage, start: Model) -> dict[str, float]:
    """Accuracy in [0, 1] on validation questions before and after GRPO; empty without questions."""
    questions = validation_questions(context)
    if not questions:
        return {}
    trained = replace(start, id="grpo", path=str((stage.folder / "weights").resolve()))
    arms = {"validation_before": (start, questions), "validation": (trained, questions)}
    answers = examine(context, arms, stage.round, stage.folder / "examined")
    return {
        arm: round(float(np.mean([a.correct for a in answers if a.arm == arm])), 4) for arm in arms
    }


def refused(section: Grpo, metrics: dict[str, Any]) -> str | None:
    """Why the trained weights are not the policy; None where they are.

    Accuracy on validation questions fell by more than `grpo.tolerance`; or GRPO was stopped, since
    its judge was fooled, and no such questions say whether harm was done.
    """
    lost = metrics.get("validation_before", 0.0) - metrics.get("validation", 0.0)
    if lost > section.tolerance:
        return f"GRPO lost {100 * lost:.1f} points on validation"
    if metrics["stopped"] and "validation" not in metrics:
        return "GRPO was stopped, and there are no validation questions to decide"
    return None


def grpo(context: Context, stage: Stage) -> None:
    """The policy of a round: its SFT model after GRPO, or as it was where that did it no good.

    Weights that are `refused` are not recorded, and the SFT model stays the policy.
    """
    section, start, judge = context.config.grpo, context.model("sft"), context.model("judge")
    if not section.steps:
        return
    rows = questions_for_grpo(context, stage, start)
    if not rows:
        context.display.warn(f"grpo, round {stage.round}: no questions, so it is left out")
        stage.metrics |= {"skipped": "no questions"}
        return
    result = fit_policy(context, stage, start, judge, rows)
    if result.stopped:
        context.display.say(f"GRPO stopped at step {result.steps}: {result.stopped}")
    metrics = result.to_dict() | validation_accuracy(context, stage, start)
    why = refused(section, metrics)
    stage.metrics |= metrics | {
        "rows": len(rows),
        "precision": precision(context, rows),
        "accepted": why is None,
    }
    if why:
        context.display.say(f"{why}: SFT stays the policy")
        return
    del metrics["by_step"]  # the commit has it
    use = used_by(section, len(rows), result.steps)
    weights = rewards_of(section, judge).weights
    rewarded_by = [judge] if weights["judge"] or weights.get("process") else []
    consumed: list[Triplet | Preference | Model] = [*rows, *rewarded_by]
    folder = stage.folder / "weights"
    context.add_model(
        stage, "policy", folder, start, json.dumps(metrics), consumed, result.steps, use
    )
