"""Whether pixels carry lines of printed text: good for quarantine, not for clearance.

Without weights or a dictionary: characters are small, compact shapes that stand out from what is
around them and stand in a row, alike in height and equally bright, since a machine printed them.
What this finds on stamped text, and its false alarms, is measured by `benchmarks/burned_in.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

TEXT_FOUND = "printed text detected"  # why a picture waits
LUMA = np.array((0.299, 0.587, 0.114), np.float32)
MAX_SIDE = 1280  # a larger image is looked at reduced
LARGE, LARGE_FROM = 4, 400  # how much smaller it is shown for large print, from what side on
ASKEW = 0.2  # of a line: pixels up or down for each along, up to 11 degrees
STROKE = 9  # pixels: strokes are thinner, so that an opening of this size removes them
CONTRAST = 48  # of a stroke against its surroundings, of 255
HEIGHTS = (5, 48)  # of a character, in pixels
LINE = 4  # characters in a row that make a line
SPREADS = (24, 64, 4)  # grey levels by which pixels of print may differ from its ink
SPIKES, SPIKE = 2, 30  # how many inks are looked for, and pixels that make one
APART = 2.0  # heights between two characters of a line
EQUAL = 10  # grey levels by which the characters of a line may differ at their brightest


def text_lines(pixels: np.ndarray) -> int:
    """How many lines of text are found in (H, W) or (H, W, 3) uint8: bright ones, else dark."""
    step = -(-max(pixels.shape[:2]) // MAX_SIDE)
    sizes = [step, step * LARGE] if max(pixels.shape[:2]) > LARGE_FROM * step else [step]
    shown = (turned for size in sizes for turned in _turns(_reduced(pixels, size)))
    return next((found for picture in shown if (found := _level_lines(picture))), 0)


def _turns(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Level lines, and those that run up or down; what is upside down has level lines too."""
    yield pixels
    yield np.rot90(pixels)


def _reduced(pixels: np.ndarray, step: int) -> np.ndarray:
    """The means of step x step blocks."""
    if step == 1:
        return pixels
    rows, columns = (n // step * step for n in pixels.shape[:2])
    blocks = pixels[:rows, :columns].reshape(rows // step, step, columns // step, step, -1)
    return blocks.mean((1, 3)).astype(np.uint8).squeeze(-1 if pixels.ndim == 2 else ())


def _level_lines(pixels: np.ndarray) -> int:
    if pixels.ndim == 2 or (pixels == pixels[..., :1]).all():
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        sides = [grey, 255 - grey]
    else:
        grey = (pixels @ LUMA).astype(np.uint8)
        sides = [grey, 255 - grey, pixels.max(axis=2)]  # blue print on black is dark but for blue
    return next((found for side in sides if (found := _bright_lines(side))), 0)


def _bright_lines(grey: np.ndarray) -> int:
    """Lines in what stands out, else in the parts of it that have an ink's own brightness."""
    around = _slide(_slide(grey, np.minimum), np.maximum)  # an opening
    stands_out = (grey.astype(np.int16) - around) > CONTRAST
    if not stands_out.any():
        return 0
    found = _lines(grey, stands_out)
    for ink, spread in _inks(np.bincount(grey[stands_out], minlength=256)):
        if found:
            break
        found = _lines(grey, stands_out & (abs(grey.astype(np.int16) - ink) <= spread))
    return found


def _inks(counts: np.ndarray) -> list[tuple[int, int]]:
    """Brightnesses that print may have, and how far its pixels may be from each.

    Print is of one brightness and texture of many, so print is the commonest brightness, a spike
    among its neighbours, or brighter than all texture; strokes thinner than a pixel are fainter.
    """
    among = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(counts, 5), 11), axis=1)
    over = counts - 2 * among
    spikes = [int(level) for level in np.argsort(-over)[:SPIKES] if over[level] >= SPIKE]
    top = int(np.flatnonzero(counts[::-1].cumsum()[::-1] >= SPIKE).max(initial=0))
    ladder = [(ink, spread) for ink in (*spikes, top) for spread in SPREADS]
    return [*dict.fromkeys([(int(np.argmax(counts)), SPREADS[0]), *ladder])]


def _slide(values: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    """The extreme of each STROKE x STROKE neighbourhood, by doubling windows along each axis."""
    for _axis in range(2):
        values = np.pad(values, ((STROKE // 2, STROKE // 2), (0, 0)), mode="edge")
        for shift in (1, 2, 4, 1):  # windows of 2, 4, 8 and 9
            values = extreme(values[:-shift], values[shift:])
        values = np.ascontiguousarray(values.T)
    return values


def _lines(grey: np.ndarray, mask: np.ndarray) -> int:
    """Lines of a mask; one of LINE characters alone may be chance."""
    characters = _characters(grey, mask)
    lengths = []
    while len(characters) >= LINE:
        line = _line_from(characters[0], characters)
        if _printed(line):
            lengths.append(len(line))
        taken = {id(c) for c in line}
        characters = [c for c in characters if id(c) not in taken]
    return len(lengths) if sum(lengths) > LINE else 0


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
        if other[0] - last[2] > APART * height:
            break
        level = abs(other[3] - last[3]) <= max(1, 0.2 * height)
        alike = 0.65 <= (other[3] - other[1]) / height <= 1.55
        if other[0] >= last[2] - 1 and level and alike and abs(other[4] - first[4]) <= EQUAL:
            line.append(other)
    return line


def _slope(across: np.ndarray, down: np.ndarray) -> float:
    """The median slope of all pairs of points (Theil 1950, Sen 1968); 0 where they are above."""
    one, other = np.triu_indices(len(across), 1)
    run = across[other] - across[one]
    return float(np.median((down[other] - down[one])[run > 0] / run[run > 0])) if run.any() else 0.0


def _printed(line: list[Character]) -> bool:
    """Whether a row is long enough, level and even enough to have been printed."""
    if len(line) < LINE:
        return False
    bottoms, tops = np.array([c[3] for c in line]), np.array([c[1] for c in line])
    height = float(np.median(bottoms - tops))
    middles = np.array([(c[0] + c[2]) / 2 for c in line])
    slope = _slope(middles, (bottoms + tops) / 2)
    if abs(slope) > ASKEW:
        return False
    bottoms, tops = (ends - slope * (middles - middles[0]) for ends in (bottoms, tops))
    near = max(1, 0.1 * height)
    on_baseline = np.abs(bottoms - np.median(bottoms)) <= near
    level_tops = (np.abs(tops[:, None] - tops) <= near).mean(axis=1).max()
    return bool(on_baseline.mean() >= 0.75 and level_tops >= 2 / 3)
