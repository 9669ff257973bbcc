"""Tasks: what to ask of which image. The mix decides how often each kind is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from engine.records import Task
from generators.phantoms.bank import ANSWER_FORMATS, DIFFICULTIES, QUESTION_TYPES

Shown = tuple[str, str]  # an image's id and modality
Mix = dict[str, float]  # "modality/question type" -> weight


def uniform_mix(modalities: Iterable[str]) -> Mix:
    """Every question type of every modality there is, with the easy two asked for less."""
    weights = {"modality": 0.2, "anatomy": 0.2}
    return {
        f"{modality}/{kind}": weights.get(kind, 1.0)
        for modality in sorted(set(modalities))
        for kind in QUESTION_TYPES
    }


def draw_tasks(
    images: Iterable[Shown], mix: Mix, styles: Mapping[Any, float], number: int, seed: int
) -> list[tuple[str, Task]]:
    """`number` pairs of an image's id and a task.

    Cells are drawn by the mix's weights, images evenly within a modality.
    """
    rng = np.random.default_rng(seed)
    by_modality: dict[str, list[str]] = {}
    for image_id, modality in sorted(images):
        by_modality.setdefault(modality, []).append(image_id)
    cells = [cell for cell in sorted(mix) if cell.partition("/")[0] in by_modality and mix[cell]]
    weights = np.array([mix[cell] for cell in cells])
    picked = rng.choice(len(cells), size=number, p=weights / weights.sum())
    queues = {m: list(rng.permutation(len(rows))) for m, rows in by_modality.items()}
    names, shares = list(styles), np.array(list(styles.values()))
    pairs = []
    for cell in picked:
        modality, _, question_type = cells[cell].partition("/")
        queue = queues[modality]
        if not queue:
            queue += list(rng.permutation(len(by_modality[modality])))
        task = Task.make(
            modality,
            question_type,
            str(rng.choice(DIFFICULTIES)),
            str(rng.choice(ANSWER_FORMATS, p=[0.3, 0.6, 0.1])),
            str(rng.choice(names, p=shares / shares.sum())),
        )
        pairs.append((by_modality[modality][queue.pop()], task))
    return pairs
