"""Twins of a cohort's phantoms, as DICOM files beside their originals: kind/NNNN-twin.dcm."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np

from engine.pixels import pixels_id
from generators.phantoms import to_display
from generators.phantoms.asked import CannotDraw
from generators.phantoms.dicom import patient_of, phantom_seed, write_dicom
from generators.phantoms.twins import Change, Recipe, Twin, changes, twin_of

END = "-twin"
LEAST = 2.0  # mean difference of 255 in the findings' masks, below which nothing is to be seen


def write_twins(
    folder: Path,
    counts: dict[str, int],
    size: int,
    seed: int,
    difficulty: float,
    kept: Container[str] = (),
) -> Iterator[Path]:
    """Write a twin of each kind's first `counts[kind]` phantoms and yield every path.

    Files named in `kept` as <kind>/NNNN-twin.dcm stay. What is changed is drawn from the cohort's
    seed: first what (finding, side, count, size, look), each as often, then to what. A phantom none
    of whose changes can be drawn has no twin. A twin is of the patient of its original.
    """
    for kind, count in counts.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = folder / kind / f"{number:04d}{END}.dcm"
            if f"{kind}/{path.name}" in kept or write_twin(path, size, seed, difficulty):
                yield path


def is_twin(name: str) -> bool:
    """Whether a file of a cohort is called as a twin is."""
    return Path(name).stem.endswith(END)


def write_twin(path: Path, size: int, seed: int, difficulty: float) -> bool:
    """Write the twin that a path (kind/NNNN-twin.dcm) stands for; False where there is none."""
    kind, number = path.parent.name, int(path.stem.removesuffix(END))
    recipe = Recipe(kind, phantom_seed(seed, kind, number), size, difficulty)
    twin = some_twin(recipe, np.random.default_rng([recipe.seed, 1]))
    if twin is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    made = twin.to_dict() | {"twin_of": pixels_id(to_display(twin.original))}
    write_dicom(twin.phantom, path, patient_of(number), seed, made, twin.original)
    return True


def some_twin(recipe: Recipe, rng: np.random.Generator) -> Twin | None:
    """A twin of a phantom with a change that is drawn at random and can be seen; None without."""
    possible: dict[str, list[Change]] = {}
    for change in changes(recipe.draw().truth):
        possible.setdefault(change.what, []).append(change)
    for what in rng.permutation(list(possible)):
        for place in rng.permutation(len(possible[what])):
            try:
                twin = twin_of(recipe, possible[what][place])
            except CannotDraw:
                continue
            if _seen(twin):
                return twin
    return None


def _seen(twin: Twin) -> bool:
    one, two = (to_display(p).astype(float) for p in (twin.original, twin.phantom))
    either = twin.original.mask | twin.phantom.mask
    return bool(np.abs(one - two)[either].mean() > LEAST)
