"""A grey frame before its window is chosen: what each stored value stands for, and is drawn as."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.imaging.voi import Window

NARROWEST = 1000  # windows of a frame's range that lie side by side, where values are no integers


@dataclass(frozen=True, slots=True)
class Scale:
    """What levels stand for: `values[i]` in the units of the modality LUT's output.

    `hidden[i]` says that level i is padding or not finite, and black in any window; `inverted` that
    small values are bright.
    """

    values: np.ndarray
    hidden: np.ndarray
    inverted: bool

    def table(self, display: np.ndarray) -> np.ndarray:
        """The (n,) uint8 that levels are drawn as, of their display values in 0..255."""
        table = np.round(255 - display if self.inverted else display).astype(np.uint8)
        table[self.hidden] = 0
        return table

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that is shown; 0 and 1 where none is."""
        shown = self.values[~self.hidden]
        return (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Grey:
    """A frame's levels, (H, W) uint16 indices into `scale`, and how its own window draws them.

    `window` is its centre and width, None where a LUT draws it.
    """

    index: np.ndarray
    scale: Scale
    table: np.ndarray
    window: tuple[float, float] | None
    function: str

    @property
    def pixels(self) -> np.ndarray:
        """The frame as its own window draws it, (H, W) uint8."""
        return np.asarray(self.table[self.index])

    def bounded(self, centre: float, width: float) -> tuple[float, float]:
        """A window within the range of what is shown: no wider, and its centre inside."""
        low, high = self.scale.limits
        least = min(1.0, (high - low) / NARROWEST) or 1.0
        return min(max(centre, low), high), min(max(width, least), max(high - low, least))

    def windowed(self, centre: float, width: float) -> np.ndarray:
        """The (n,) uint8 that levels are drawn as through another window, `bounded`."""
        centre, width = self.bounded(centre, width)
        function = "LINEAR_EXACT" if width < 1 else self.function
        return self.scale.table(Window(centre, width, function).apply(self.scale.values))
