"""Evaluate on held-out images: accuracy by modality and question type, invalid answers counted."""

from __future__ import annotations

from engine.records import Evaluation
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.evaluation.metrics import arm_metrics
from pipelines.examine import examine
from pipelines.record import held_out, images_of, validation_questions


def evaluate(context: Context, stage: Stage) -> None:
    """Base (once), SFT and policy on the same test questions; the policy on validation too."""
    test = held_out(context, "test", context.config.evaluate.questions)
    validation = validation_questions(context)
    arms = {
        "sft": (context.model("sft"), test),
        "policy": (context.model("policy"), test + validation),
    }
    if stage.round == 1:
        arms = {"base": (context.base(), test), **arms}
    rows = examine(context, arms, stage.round, stage.folder / "replies")
    stage.write(Evaluation, rows)
    images = images_of(context, [row.image_id for row in rows])
    stage.metrics = {"arms": arm_metrics(rows, {i.id: i.group for i in images.values()})}
