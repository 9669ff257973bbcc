"""Trainings of the tiny model as tests ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from engine.config import MAX_PIXELS
from engine.config.training import Optimiser
from engine.training_job import TrainingJob
from engine.vlm import tiny

Job = TypeVar("Job", bound=TrainingJob)


def job_in(folder: Path, section: Optimiser, kind: type[Job] = TrainingJob, **values: Any) -> Job:
    """A job whose `data`, `workspace` and `weights` are in a folder; `values` are its others."""
    fields = {
        "stage": "test",
        "model": str(tiny.FOLDER),
        "data": folder / "data",
        "workspace": folder / "workspace",
        "out": folder / "weights",
        "seed": 0,
        "threads": 1,
        "max_pixels": MAX_PIXELS,
    }
    return kind(section=section, **fields | values)
