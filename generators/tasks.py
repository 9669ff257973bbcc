"""Tasks: what to ask of which image. The mix decides how often each kind is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
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
) -> Iterator[tuple[str, Task]]:
    """`number` pairs of an image's id (at most 32 letters of ASCII) and a task, by the ids' order.

    Cells are drawn by the mix's weights, images evenly within a modality. Of an image its id and
    16 bytes are in memory.
    """
    rng = np.random.default_rng(seed)
    kinds: dict[str, int] = {}
    rows = ((image_id, kinds.setdefault(modality, len(kinds))) for image_id, modality in images)
    shown = np.fromiter(rows, [("id", "S32"), ("kind", "i2")])
    shown.sort(order="id")
    cells = [cell for cell in sorted(mix) if cell.partition("/")[0] in kinds and mix[cell]]
    weights = np.array([mix[cell] for cell in cells])
    names, shares = list(styles), np.array(list(styles.values()))
    drawn = np.stack(
        [
            rng.choice(len(cells), number, p=weights / weights.sum()),
            rng.choice(len(DIFFICULTIES), number),
            rng.choice(len(ANSWER_FORMATS), number, p=[0.3, 0.6, 0.1]),
            rng.choice(len(names), number, p=shares / shares.sum()),
        ],
        axis=1,
    ).astype(np.int16)
    kind_of_cell = np.array([kinds[cell.partition("/")[0]] for cell in cells])
    image = np.empty(number, np.int32)
    for modality in sorted(kinds):
        mine = np.flatnonzero(kind_of_cell[drawn[:, 0]] == kinds[modality])
        there = np.flatnonzero(shown["kind"] == kinds[modality])
        turns = [rng.permutation(there) for _ in range(-(-len(mine) // len(there)))]
        image[mine] = np.concatenate([np.empty(0, np.int32), *turns])[: len(mine)]

    @cache
    def task(cell: int, difficulty: int, answer_format: int, style: int) -> Task:
        modality, _, question_type = cells[cell].partition("/")
        return Task.make(
            modality,
            question_type,
            DIFFICULTIES[difficulty],
            ANSWER_FORMATS[answer_format],
            names[style],
        )

    for place in np.argsort(image, kind="stable"):
        yield shown["id"][image[place]].decode(), task(*drawn[place].tolist())
