"""The pictures of images that tests make: an `Image` has none of its own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.pixels import pixels_id, to_png
from engine.records import Image, Picture

PNG: dict[str, bytes] = {}  # by image id, of all that tests made


def shown(pixels: np.ndarray) -> str:
    """The id of an image with these pixels, whose picture is in PNG from now on."""
    image_id = pixels_id(pixels)
    PNG[image_id] = to_png(pixels)
    return image_id


def pictures_of(rows: Iterable[object]) -> list[Picture]:
    """The pictures of those rows that are images."""
    images = [row for row in rows if isinstance(row, Image) and row.id in PNG]
    return [Picture(id=image.id, png=PNG[image.id]) for image in images]
