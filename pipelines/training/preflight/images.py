"""How many tokens a picture takes: first the pixel budget, then the processor's own resizing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.vlm.inputs import MAX_ASPECT, shown_size

REFUSED = 200  # sides to one, that the processor takes no picture of


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What a Qwen2-VL image processor goes by; pixels are of a whole picture."""

    patch: int
    merge: int
    min_pixels: int
    max_pixels: int

    @property
    def side(self) -> int:
        """Pixels of a token's side."""
        return self.patch * self.merge

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """(columns, rows) of tokens of a picture: `smart_resize` of transformers' Qwen2-VL."""
        side = self.side
        across, down = round(width / side), round(height / side)
        if across * down * side**2 > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            across = max(1, math.floor(width / shrink / side))
            down = max(1, math.floor(height / shrink / side))
        elif across * down * side**2 < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            across, down = math.ceil(width * grow / side), math.ceil(height * grow / side)
        return across, down

    def tokens(self, size: tuple[int, int], budget: int) -> int:
        """Of a picture of a size (width, height) within `budget` pixels, as a model is shown it."""
        return math.prod(self.grid(*shown_size(size, budget)))

    def most(self, budget: int) -> int:
        """The most tokens of any picture within a budget: of a strip, whose sides are rounded up.

        Not fewer than the smallest pictures have, which are made larger.
        """
        reached = max(math.prod(self.grid(*size)) for size in _strips(budget))
        thinnest = math.ceil(math.sqrt(REFUSED * self.min_pixels) / self.side)
        grown = [
            (n + 1) * math.ceil(self.min_pixels / (n * self.side) / self.side)
            for n in range(1, math.isqrt(self.min_pixels) // self.side + 1)
        ]
        return max(reached, thinnest, *grown)


def _strips(budget: int) -> Iterator[tuple[int, int]]:
    """(longer, shorter) side of the largest pictures within a budget, as `shown_size` leaves them.

    Its sides are cut to whole pixels, so that a strip may be a little longer than MAX_ASPECT.
    """
    for longer in range(math.isqrt(budget), budget + 1):
        shorter = budget // longer
        if longer > MAX_ASPECT * (shorter + 1):
            return
        yield longer, shorter


def processor_of(values: Mapping[str, Any]) -> Processor:
    """From `preprocessor_config.json`, or what `processor_config.json` has of images."""
    told = values.get("image_processor", values)
    size = told.get("size") or {}
    return Processor(
        patch=told.get("patch_size", 14),
        merge=told.get("merge_size", 2),
        min_pixels=told.get("min_pixels") or size.get("shortest_edge") or 56 * 56,
        max_pixels=told.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Tokens of a row's picture: the most, on average, and of how many pictures that is known.

    With none (`seen` 0) both are the most that the pixel budget allows.
    """

    most: int
    mean: float
    seen: int
    pixels: float = 0.0  # of a picture as it is stored, on average


def pictures(processor: Processor, budget: int, sizes: Sequence[tuple[int, int]]) -> Pictures:
    """Of pictures of some sizes (width, height); of any picture where there are none."""
    if not sizes:
        most = processor.most(budget)
        return Pictures(most=most, mean=most, seen=0)
    found = [processor.tokens(size, budget) for size in sizes]
    return Pictures(
        most=max(found),
        mean=sum(found) / len(found),
        seen=len(found),
        pixels=sum(map(math.prod, sizes)) / len(sizes),
    )
