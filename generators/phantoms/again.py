"""A drawn image's phantom again, with its mask: what its row says it was drawn from."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import numpy as np

from engine.pixels import pixels_id
from engine.records import Image
from generators.layout import Layout
from generators.phantoms import to_display
from generators.phantoms.asked import CannotDraw
from generators.phantoms.base import Phantom
from generators.phantoms.dicom import phantom_seed
from generators.phantoms.drawer import PhantomDrawer
from generators.phantoms.kinds import KINDS
from generators.phantoms.twin_cohort import is_twin
from generators.phantoms.twins import Recipe


def mask_of(image: Image, size: int, seed: int, difficulty: float) -> np.ndarray | None:
    """Where the finding of a drawn image is, (H, W) bool, all False where there is none.

    `size`, `seed` and `difficulty` are the cohort's. None of an image that was not drawn, of a
    twin, and where what is drawn now is not that image pixel for pixel.
    """
    phantom = _again(image, size, seed, difficulty)
    if phantom is None or pixels_id(to_display(phantom)) != image.id:
        return None
    return phantom.mask


def _again(image: Image, size: int, seed: int, difficulty: float) -> Phantom | None:
    path = PurePosixPath(image.source)
    if not image.is_synthetic or image.twin_of or is_twin(path.name):
        return None
    try:
        if image.drawn:
            made = json.loads(image.drawn)
            layout = Layout.from_dict(made["layout"])
            return PhantomDrawer().draw(layout, made["seed"], made["size"]).phantom
        kind = path.parent.name
        if kind not in KINDS or not path.stem.isdecimal():
            return None
        return Recipe(kind, phantom_seed(seed, kind, int(path.stem)), size, difficulty).draw()
    except (CannotDraw, KeyError, ValueError):
        return None
