"""The distinct values of an image, so that a function of the value is computed once a value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BLOCK = 1 << 18  # pixels looked up at once: numpy widens the index to 8 bytes a pixel


@dataclass(frozen=True)
class Levels:
    """`values` ascend and hold every value of the image (integers: those between, too).

    Pixel p of the image has the value `values[index[p] - low]`.
    """

    values: np.ndarray
    index: np.ndarray
    low: int

    @classmethod
    def of(cls, image: np.ndarray) -> Levels:
        """The levels of an (H, W) image of integers or floats."""
        if image.dtype.kind in "iu":
            low, high = int(image.min()), int(image.max())
            if high - low <= image.size:
                return cls(np.arange(low, high + 1), image, low)
        values, index = np.unique(image, return_inverse=True)
        if image.dtype.kind in "iu":
            values = values.astype(np.int64)  # so that differences do not wrap around
        return cls(values, index.reshape(image.shape), 0)

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        flat = self.index.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            block = slice(start, start + BLOCK)
            yield block, np.subtract(flat[block], self.low, dtype=np.intp)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many pixels have each value."""
        counts = np.zeros(len(self.values), np.int64)
        for _, index in self._blocks():
            counts += np.bincount(index, minlength=len(counts))
        return counts

    def pixels(self, which: np.ndarray) -> int:
        """How many pixels have one of the values that a mask over `values` names."""
        return int(self.counts[which].sum()) if which.any() else 0

    def look_up(self, table: np.ndarray) -> np.ndarray:
        """The image with each value replaced by its row of a table: (H, W) or (H, W, channels)."""
        out = np.empty((self.index.size, *table.shape[1:]), table.dtype)
        for block, index in self._blocks():
            np.take(table, index, axis=0, out=out[block], mode="clip")
        return out.reshape(self.index.shape + table.shape[1:])
