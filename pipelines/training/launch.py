"""A training on Ray Train, as a stage starts it, and how far it is."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from engine import cluster
from engine.cluster.training import Job, Result
from engine.config.training import Optimiser
from engine.trainer import epoch_steps, steps_done


def rows_per_step(section: Optimiser) -> int:
    """How many rows of the training set an optimiser step takes."""
    return section.batch * section.accumulate * section.workers


def steps_of(rows: int, section: Optimiser) -> int:
    """How many steps a training by epochs takes over `rows` rows, as transformers counts them."""
    return math.ceil(section.epochs * epoch_steps(rows, rows_per_step(section)))


def train_on_cluster(
    loop: Callable[[Job], Result | None], job: Job, advance: Callable[[int, int, str], None]
) -> Result:
    """Run a training loop on Ray Train; `advance` is told (steps done, all steps, "steps")."""

    def show() -> None:
        while not ended.wait(0.5):
            steps = steps_done(job)
            if steps:
                advance(*steps, "steps")

    ended = threading.Event()
    watcher = threading.Thread(target=show, daemon=True)
    watcher.start()
    try:
        return cluster.train(loop, job)
    finally:
        ended.set()
        watcher.join()
