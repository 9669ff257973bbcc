"""SFT of a round's policy on the expert's rows and on rows kept so far."""

from __future__ import annotations

import json

from engine.errors import TriptychError
from engine.job import TrainingJob
from engine.records import Model, Task, Triplet
from engine.trainer import first_use, write_training_set
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.jobs import job_of
from pipelines.record import fresh_triplets, kept_triplets, seed_triplets
from pipelines.training.launch import rows_per_step, train_on_cluster
from pipelines.training.sft import train_sft, turns_of


def fine_tune(
    context: Context, stage: Stage, model: Model, role: str, triplets: list[Triplet]
) -> None:
    """Train `model` on rows and record it as the stage's model of a role."""
    if not triplets:
        raise TriptychError(
            f"{stage.name}: no rows to train on; loosen select.keep or ask for more"
        )
    config = context.config
    tasks = {t.id: t for t in context.rows(Task)}
    style, ask_share = config.evaluate.style, config.sft.ask_share
    turns = turns_of(triplets, tasks, config.generator.prompts, style, ask_share, config.seed)
    write_training_set(stage.folder / "data", turns)
    job = job_of(TrainingJob, context, stage, config.sft, model)
    result = train_on_cluster(train_sft, job, context.display.advance)
    stage.metrics = result.to_dict() | {"rows": len(triplets), "turns": len(turns)}
    folder = stage.folder / "weights"
    use = first_use(len(turns), rows_per_step(config.sft), result.steps)
    metrics = json.dumps(result.to_dict())
    context.add_model(stage, role, folder, model, metrics, triplets, result.steps, use)


def sft(context: Context, stage: Stage) -> None:
    """The policy of a round: the base tuned on the seed and on rows kept so far.

    Questions left to GRPO are not among them.
    """
    kept = kept_triplets(context, stage.round)
    left = {t.id for t in fresh_triplets(context, kept)}
    rows = seed_triplets(context) + [t for t in kept if t.id not in left]
    if not rows:
        context.display.warn(f"sft, round {stage.round}: no rows to learn from, so it is left out")
        stage.metrics = {"skipped": "no rows to learn from"}
        return
    fine_tune(context, stage, context.base(), "sft", rows)
