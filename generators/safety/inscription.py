"""A line of text written into a picture where it covers nothing, and the same again from a record.

It is written inside where the picture is flat and the finding's mask, if there is one, is not; else
on a strip that is added above or below, which covers nothing whatever the picture shows. Letters
are as bright as can be on a plate as dark as can be, or the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import PIL
import PIL.Image
from PIL import ImageDraw, ImageFont
from scipy import ndimage

SMALLEST = 11  # px of the letters' height as a font counts it, below which they blur
PER_SIDE = 20  # of the longer side in px for one of the font
FLAT = 3.0  # standard deviation of 255 of what may be covered: air, a black border
AWAY = 3  # px between the plate and the mask
MARGIN = 2  # px around the letters
LARGEST = 0.2  # share of the picture that a plate inside may take


@dataclass(frozen=True, slots=True)
class Inscription:
    """All that a picture with a text follows from, beside the picture without it."""

    lines: tuple[str, ...]
    font: int  # px
    plate: int  # 0 or 255; the letters are the other
    place: str  # inside, above or below: a strip that is added
    box: tuple[int, int, int, int]  # left, top, right, bottom of the plate in the new picture

    def to_dict(self) -> dict[str, Any]:
        """For a record, with what draws the letters."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()} | {
            "letters": f"Pillow {PIL.__version__}"
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Inscription:
        """From what `to_dict` gives."""
        known = {name: values[name] for name in ("font", "plate", "place")}
        return cls(lines=tuple(values["lines"]), box=tuple(values["box"]), **known)


def lay_out(
    pixels: np.ndarray, text: str, rng: np.random.Generator, mask: np.ndarray | None = None
) -> Inscription:
    """Where and how a text is written into (H, W) or (H, W, 3) uint8.

    `mask` (H, W) bool is the finding, none where it is not known: then a strip is added.
    """
    height, width = pixels.shape[:2]
    font = max(SMALLEST, round(max(height, width) / PER_SIDE))
    lines = wrapped(text, font, width - 2 * MARGIN)
    wide = max(_length(line, font) for line in lines) + 2 * MARGIN
    tall = len(lines) * _line(font) + 2 * MARGIN
    plate = int(rng.choice([0, 255]))
    if mask is not None and wide <= width and wide * tall <= LARGEST * width * height:
        corners = _corners(wide, tall, width, height)
        free = [box for box in corners if _covers_nothing(pixels, mask, box)]
        if free:
            return Inscription(lines, font, plate, "inside", free[rng.integers(len(free))])
    if rng.random() < 0.5:
        return Inscription(lines, font, plate, "above", (0, 0, width, tall))
    return Inscription(lines, font, plate, "below", (0, height, width, height + tall))


def _corners(wide: int, tall: int, width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    for left in (0, width - wide):
        for top in (0, height - tall):
            yield left, top, left + wide, top + tall


def _covers_nothing(pixels: np.ndarray, mask: np.ndarray, box: tuple[int, int, int, int]) -> bool:
    left, top, right, bottom = box
    around = ndimage.binary_dilation(mask, iterations=AWAY) if mask.any() else mask
    covered = pixels[top:bottom, left:right].reshape((bottom - top) * (right - left), -1)
    return not around[top:bottom, left:right].any() and bool(covered.std(axis=0).max() <= FLAT)


def written(pixels: np.ndarray, how: Inscription) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 with the text; higher by its strip, where that is added."""
    left, top, right, bottom = how.box
    if how.place != "inside":
        strip = np.full((bottom - top, *pixels.shape[1:]), how.plate, np.uint8)
        pixels = np.concatenate([strip, pixels] if how.place == "above" else [pixels, strip])
    picture = PIL.Image.fromarray(pixels)
    colour = 3 if pixels.ndim == 3 else 1
    plate, ink = (
        (level,) * colour if colour > 1 else level for level in (how.plate, 255 - how.plate)
    )
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right - 1, bottom - 1), fill=plate)
    for number, line in enumerate(how.lines):
        at = (left + MARGIN, top + MARGIN + number * _line(how.font))
        draw.text(at, line, fill=ink, font=_font(how.font))
    return np.asarray(picture)


def wrapped(text: str, font: int, width: int) -> tuple[str, ...]:
    """Lines of a text, none wider than `width` px, unless one word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _length(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines)


def _length(line: str, font: int) -> int:
    return int(np.ceil(_font(font).getlength(line)))


def _line(font: int) -> int:
    """A line's height: letters, what is below them, and a pixel between."""
    ascent, descent = _font(font).getmetrics()
    return int(ascent + descent + 1)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
