"""A stage's training job: where its section, its folder and the model that it starts from go."""

from __future__ import annotations

from typing import Any, TypeVar

from engine.config.training import Optimiser
from engine.records import Model
from engine.training_job import TrainingJob
from engine.workspace import Stage
from pipelines.context import Context

Job = TypeVar("Job", bound=TrainingJob)


def job_of(
    kind: type[Job], context: Context, stage: Stage, section: Optimiser, model: Model, **more: Any
) -> Job:
    """A job of a kind, with what this kind has `more` than every training."""
    return kind(
        stage=stage.name,
        section=section,
        model=context.path_of(model),
        data=(stage.folder / "data").resolve(),
        workspace=context.workspace.root.resolve(),
        out=(stage.folder / "weights").resolve(),
        seed=context.config.seed + stage.round,
        threads=context.config.cluster.threads,
        max_pixels=context.config.max_pixels,
        **more,
    )
