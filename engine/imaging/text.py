"""Whether pixels carry lines of printed text: good for quarantine, not for clearance.

Without weights or a dictionary: characters are small, compact shapes that stand out from what is
around them and stand in a row, alike in height and equally bright, since a machine printed them.
What this finds on stamped text, and its false alarms, is measured by `benchmarks/burned_in.py`.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MAX_SIDE = 1280  # a larger image is looked at reduced
STROKE = 9  # pixels: strokes are thinner, so that an opening of this size removes them
CONTRAST = 48  # of a stroke against its surroundings, of 255
HEIGHTS = (5, 48)  # of a character, in pixels
LINE = 4  # characters in a row that make a line
INK = 24  # grey levels that print may differ from its commonest brightness
EQUAL = 16  # grey levels by which the characters of a line may differ at their brightest


def text_lines(pixels: np.ndarray) -> int:
    """How many lines of text are found in (H, W) or (H, W, 3) uint8, bright or dark."""
    grey = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    step = -(-max(grey.shape) // MAX_SIDE)
    if step > 1:
        rows, columns = (n // step * step for n in grey.shape)
        blocks = grey[:rows, :columns].reshape(rows // step, step, columns // step, step)
        grey = blocks.mean((1, 3)).astype(np.uint8)
    dark = 255 - (pixels.min(axis=2) if pixels.ndim == 3 and step == 1 else grey)
    return sum(_bright_lines(side) for side in (grey, dark))


def _bright_lines(grey: np.ndarray) -> int:
    """Lines in what stands out, else in the part of it that has the ink's own brightness."""
    around = _slide(_slide(grey, np.minimum), np.maximum)  # an opening
    stands_out = (grey.astype(np.int16) - around) > CONTRAST
    if not stands_out.any():
        return 0
    values = np.bincount(grey[stands_out], minlength=256)
    ink = int(np.argmax(values))  # print is of one brightness, texture of many
    return _lines(grey, stands_out) or _lines(
        grey, stands_out & (abs(grey.astype(np.int16) - ink) <= INK)
    )


def _slide(values: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    """The extreme of each STROKE x STROKE neighbourhood, by doubling windows along each axis."""
    for _axis in range(2):
        values = np.pad(values, ((STROKE // 2, STROKE // 2), (0, 0)), mode="edge")
        for shift in (1, 2, 4, 1):  # windows of 2, 4, 8 and 9
            values = extreme(values[:-shift], values[shift:])
        values = np.ascontiguousarray(values.T)
    return values


def _lines(grey: np.ndarray, mask: np.ndarray) -> int:
    characters = _characters(grey, mask)
    lines = 0
    while len(characters) >= LINE:
        line = _line_from(characters[0], characters)
        lines += _printed(line)
        taken = {id(c) for c in line}
        characters = [c for c in characters if id(c) not in taken]
    return lines


Character = tuple[int, int, int, int, int]  # left, top, right, bottom, brightest value


def _characters(grey: np.ndarray, mask: np.ndarray) -> list[Character]:
    """Small compact shapes of a mask, from left to right."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return []
    boxes = ndimage.find_objects(labels)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    peaks = np.zeros(count + 1, np.uint8)
    np.maximum.at(peaks, labels[mask], grey[mask])
    found = []
    for (rows, columns), area, peak in zip(boxes, areas, peaks[1:]):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        compact = 0.15 <= area / (height * width) <= 0.95
        if HEIGHTS[0] <= height <= HEIGHTS[1] and width <= 1.6 * height and compact and area >= 6:
            found.append((columns.start, rows.start, columns.stop, rows.stop, int(peak)))
    return sorted(found)


def _line_from(first: Character, characters: list[Character]) -> list[Character]:
    """The row of characters that `first` begins: each near the last, level with it and alike."""
    line = [first]
    for other in characters:
        last = line[-1]
        height = last[3] - last[1]
        if other[0] - last[2] > 1.5 * height:
            break
        level = abs(other[3] - last[3]) <= max(1, 0.2 * height)
        alike = 0.65 <= (other[3] - other[1]) / height <= 1.55
        if other[0] >= last[2] - 1 and level and alike and abs(other[4] - first[4]) <= EQUAL:
            line.append(other)
    return line


def _printed(line: list[Character]) -> bool:
    """Whether a row is long enough, level and even enough to have been printed."""
    if len(line) < LINE:
        return False
    bottoms, tops = np.array([c[3] for c in line]), np.array([c[1] for c in line])
    height = float(np.median(bottoms - tops))
    on_baseline = np.abs(bottoms - np.median(bottoms)) <= max(1, 0.1 * height)
    return bool(on_baseline.mean() >= 0.75)
