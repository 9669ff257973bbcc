"""Procedurally drawn medical images with exact truth; a file a kind in `kinds`.

A kind is a modality, or a modality and a body part where there is more than one.
"""

from __future__ import annotations

import numpy as np

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import Phantom
from generators.phantoms.kinds import KINDS


def draw(
    kind: str,
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one phantom of `size` x `size` pixels, the same for the same arguments.

    `difficulty` in [0, 1] lowers the finding's contrast and raises the noise; `finding` None draws
    one at random, and so does what is not `asked`. Raises KeyError for an unknown kind, CannotDraw
    where lesions of what is asked have no room.
    """
    return KINDS[kind].draw(seed, size, difficulty, finding, asked)


def to_display(phantom: Phantom) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 as a viewer shows it: the window's analytic range onto 0..255."""
    if phantom.window is None:
        return phantom.pixels.astype(np.uint8)
    centre, width = phantom.window
    # DICOM PS3.3 C.11.2.1.2.1 (LINEAR)
    scaled = ((phantom.pixels - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return np.round(np.clip(scaled, 0, 255)).astype(np.uint8)
