"""The pictures of images that tests make: an `Image` has none of its own."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image

from engine.imaging.ingest import picture_of
from engine.lineage.opening import writing
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
    return [picture(image.id) for image in images]


def picture(image_id: str) -> Picture:
    """The picture of an image, as `shown` told its id."""
    with PIL.Image.open(io.BytesIO(PNG[image_id])) as opened:
        return picture_of(image_id, np.asarray(opened))


def workspace_of(root: Path, images: Iterable[str]) -> None:
    """A workspace that has the pictures of these images, as `shown` told their ids."""
    with writing(root, "demo", {}) as workspace:
        stage = workspace.begin("ingest", 0, "pictures")
        stage.write(Picture, map(picture, images))
        workspace.commit(stage)
