"""A training on Ray Train, as a stage starts it: its arguments, its steps in the terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from engine import cluster
from engine.config.training import Optimiser
from engine.records import Model
from engine.trainer import steps_done
from engine.workspace import Stage
from pipelines.context import Context


def training_arguments(
    context: Context, stage: Stage, section: Optimiser, model: Model
) -> dict[str, Any]:
    """What every training loop is given; paths are absolute, for workers run elsewhere."""
    return section.model_dump() | {
        "stage": stage.name,
        "section": type(section).__name__.lower(),
        "model": context.path_of(model),
        "data": str((stage.folder / "data").resolve()),
        "out": str((stage.folder / "weights").resolve()),
        "seed": context.config.seed + stage.round,
        "threads": context.config.cluster.threads,
        "max_pixels": context.config.max_pixels,
    }


def rows_per_step(section: Optimiser) -> int:
    """How many rows of the training set an optimiser step takes."""
    return section.batch * section.accumulate * section.workers


def train_on_cluster(
    context: Context, loop: Callable[[dict[str, Any]], dict[str, Any]], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Run a training loop on Ray Train, its steps shown in the terminal."""

    def show() -> None:
        while not ended.wait(0.5):
            steps = steps_done(arguments["out"])
            if steps:
                context.display.advance(*steps, "steps")

    ended = threading.Event()
    watcher = threading.Thread(target=show, daemon=True)
    watcher.start()
    try:
        threads = context.config.cluster.threads
        return cluster.train(loop, arguments, arguments["workers"], threads, arguments["gpus"])
    finally:
        ended.set()
        watcher.join()
