"""Tasks: what to ask of which image, by quotas and the mix (`generators.quotas`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from engine.records import Task
from generators.phantoms.bank import QUESTION_TYPES
from generators.quotas import ANY, DEALT, Unfilled, Wanted, dealt, planned

Shown = tuple[str, str, str]  # an image's id, modality and anatomy
Mix = dict[str, float]  # "modality/question type" -> weight


def uniform_mix(modalities: Iterable[str]) -> Mix:
    """Every question type of every modality there is, with the easy two asked for less."""
    weights = {"modality": 0.2, "anatomy": 0.2}
    return {
        f"{modality}/{kind}": weights.get(kind, 1.0)
        for modality in sorted(set(modalities))
        for kind in QUESTION_TYPES
    }


@dataclass(frozen=True)
class Drawn:
    """A plan: pairs of an image's id and a task, to be gone through once, and what it lacks."""

    pairs: Iterator[tuple[str, Task]]
    number: int
    unfilled: list[Unfilled]


def draw_tasks(images: Iterable[Shown], mix: Mix, wanted: Wanted, seed: int) -> Drawn:
    """Pairs of an image's id (at most 32 letters of ASCII) and a task, by the ids' order.

    How many of which kind, `generators.quotas` says; of the images that a kind allows, all are
    asked about evenly. The same images in any order give the same plan. Of an image its id and 16
    bytes are in memory.
    """
    rng = np.random.default_rng(seed)
    numbers: dict[tuple[str, str], int] = {}
    rows = (
        (image_id, numbers.setdefault((modality, anatomy), len(numbers)))
        for image_id, modality, anatomy in images
    )
    shown = np.fromiter(rows, [("id", "S32"), ("place", "i2")])
    shown.sort(order="id")
    there = np.bincount(shown["place"], minlength=len(numbers)).tolist()
    places = {place: there[number] for place, number in numbers.items()}
    kinds, unfilled = planned(wanted, places, mix, QUESTION_TYPES, rng)
    counts = [one.tasks for one in kinds]
    kind = np.repeat(np.arange(len(kinds), dtype=np.int16), counts)
    cell = np.repeat(np.array([one.cell for one in kinds], np.int16), counts)
    values, codes = zip(*(dealt(axis, wanted, cell, rng) for axis in DEALT))
    drawn = np.stack([kind, *codes], axis=1)
    image = np.empty(len(drawn), np.int32)
    for place in sorted({one.kind[:2] for one in kinds}):
        mine = np.flatnonzero(np.array([one.kind[:2] == place for one in kinds])[kind])
        allowed = [n for spot, n in numbers.items() if place in (spot, (spot[0], ANY))]
        shows = np.flatnonzero(np.isin(shown["place"], allowed))
        turns = [rng.permutation(shows) for _ in range(-(-len(mine) // len(shows)))]
        image[mine] = np.concatenate(turns)[: len(mine)]

    @cache
    def task(kind: int, *codes: int) -> Task:
        modality, anatomy, question_type = kinds[kind].kind
        difficulty, form, style, steps = (of[n] for of, n in zip(values, codes))
        asked = (modality, question_type, str(difficulty), str(form), str(style))
        return Task.make(*asked, anatomy, int(steps))

    def pairs() -> Iterator[tuple[str, Task]]:
        for place in np.argsort(image, kind="stable"):
            yield shown["id"][image[place]].decode(), task(*drawn[place].tolist())

    return Drawn(pairs(), len(drawn), unfilled)
