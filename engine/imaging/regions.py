"""Ultrasound cut to its regions (DICOM PS3.3 C.8.5.5): around them is the scanner's text."""

from __future__ import annotations

import numpy as np

from engine.imaging.header import FrameHeader, items
from engine.imaging.values import whole

CORNERS = ("RegionLocationMinX0", "RegionLocationMinY0",
           "RegionLocationMaxX1", "RegionLocationMaxY1")  # fmt: skip

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom not included


def crop_to_regions(pixels: np.ndarray, header: FrameHeader) -> tuple[np.ndarray, Box | None]:
    """Pixels (H, W, ...) cut to the smallest box around the regions, black outside each region.

    Without a region that has a size they come back as they are, with None for the box. Raises
    ImagingError for a region that cannot be read: what lies outside of it would stay.
    """
    boxes = _regions(header, pixels.shape[1], pixels.shape[0])
    if not boxes:
        return pixels, None
    lefts, tops, rights, bottoms = zip(*boxes)
    box = (min(lefts), min(tops), max(rights), max(bottoms))
    shape = (box[3] - box[1], box[2] - box[0], *pixels.shape[2:])
    kept = np.zeros(shape, pixels.dtype)
    for left, top, right, bottom in boxes:
        inside = slice(top - box[1], bottom - box[1]), slice(left - box[0], right - box[0])
        kept[inside] = pixels[top:bottom, left:right]
    return kept, box


def _regions(header: FrameHeader, width: int, height: int) -> list[Box]:
    found = []
    for item in items(header, "SequenceOfUltrasoundRegions"):
        corners = FrameHeader(item)
        left, top, right, bottom = (whole(corners, name) for name in CORNERS)
        right, bottom = min(right, width - 1), min(bottom, height - 1)  # some give one past the end
        if 0 <= left < right and 0 <= top < bottom:
            found.append((left, top, right + 1, bottom + 1))
    return found
