"""Ultrasound cut to its regions (DICOM PS3.3 C.8.5.5): around them is the scanner's text."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset

from engine.imaging.voi import numbers

CORNERS = ("RegionLocationMinX0", "RegionLocationMinY0",
           "RegionLocationMaxX1", "RegionLocationMaxY1")  # fmt: skip

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom not included


def crop_to_regions(pixels: np.ndarray, header: Dataset) -> tuple[np.ndarray, Box | None]:
    """Pixels (H, W, ...) cut to the smallest box around the regions, black outside each region.

    Without a valid region they come back as they are, with None for the box.
    """
    boxes = _regions(header, pixels.shape[1], pixels.shape[0])
    if not boxes:
        return pixels, None
    inside = np.zeros(pixels.shape[:2], bool)
    for left, top, right, bottom in boxes:
        inside[top:bottom, left:right] = True
    kept = np.where(inside if pixels.ndim == 2 else inside[..., None], pixels, 0)
    lefts, tops, rights, bottoms = zip(*boxes)
    box = (min(lefts), min(tops), max(rights), max(bottoms))
    return np.ascontiguousarray(kept[box[1] : box[3], box[0] : box[2]]), box


def _regions(header: Dataset, width: int, height: int) -> list[Box]:
    found = []
    for item in header.get("SequenceOfUltrasoundRegions") or []:
        corners = [next(iter(numbers(item.get(name))), float("nan")) for name in CORNERS]
        if not np.isfinite(corners).all():
            continue
        left, top, right, bottom = (int(c) for c in corners)
        right, bottom = min(right, width - 1), min(bottom, height - 1)  # some give one past the end
        if 0 <= left < right and 0 <= top < bottom:
            found.append((left, top, right + 1, bottom + 1))
    return found
