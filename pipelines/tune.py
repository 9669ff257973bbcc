"""Tune the generator: the base trained on the expert seed; it asks and answers."""

from __future__ import annotations

from engine.workspace import Stage
from pipelines.context import Context
from pipelines.fine_tuning import fine_tune
from pipelines.record import seed_triplets


def tune(context: Context, stage: Stage) -> None:
    """The generator: the base tuned on the expert seed; without a seed the base as it is."""
    if not seed_triplets(context):
        stage.metrics = {"skipped": "no rows to imitate: the base asks and answers"}
        return
    fine_tune(context, stage, context.base(), "generator", lambda: seed_triplets(context))
