"""Images on demand: a layout in; pixels, a mask and where they came from out.

What an image is to show is planned first, in words; a drawer renders it after and answers for it:
what it returns shows the layout, or it refuses in one line. `generators.phantoms.drawer` is the
drawer of phantoms. A learned generator of images would be another, with its own `truth_of` check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

NO_FINDING = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What an image is to show. What is None, and an attribute that is not named, is left open.

    `side` is the patient's (in ultrasound the image's), `size` small, medium or large. `difficulty`
    from 0 to 1 is how faint the finding is and how noisy the image.
    """

    modality: str  # this and the body part are names of `engine.imaging.anatomy`
    anatomy: str
    finding: str = NO_FINDING
    side: str | None = None
    count: int | None = None
    size: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    difficulty: float = 0.3

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"attributes": dict(self.attributes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Layout:
        """The inverse of `to_dict`; raises TypeError for a key that is none of its fields."""
        return cls(**values)

    def __str__(self) -> str:
        values = (self.count, self.size, self.finding, self.side)
        shown = " ".join(str(value) for value in values if value is not None)
        told = [f"{name} {value}" for name, value in self.attributes.items()]
        return ", ".join([f"{self.modality} {self.anatomy}: {shown}", *told])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An image that shows a layout.

    `pixels` are (H, W) or (H, W, 3) uint8 as displayed, `mask` is (H, W) bool, true on the finding.
    `provenance` is JSON: who drew it, of which version, from which layout and seed, so that it can
    be drawn again.
    """

    pixels: np.ndarray
    mask: np.ndarray
    layout: Layout
    provenance: dict[str, Any]


class Drawer(Protocol):
    """Who renders layouts."""

    def draw(self, layout: Layout, seed: int, size: int) -> Drawn:
        """An image of `size` x `size` pixels, the same for the same arguments.

        Raises `generators.phantoms.asked.CannotDraw` where it cannot show the layout.
        """

    def write(self, layout: Layout, seed: int, size: int, path: Path, patient: str) -> Drawn:
        """The same, written as the file that ingest reads, of a plainly fake patient."""
