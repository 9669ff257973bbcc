"""What every phantom is: stored pixel values, the mask they were drawn from, and the exact truth.

Sides are the patient's (radiological convention: the patient's right is on the left of the image);
for ultrasound, which has no such convention, they are the sides of the image.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

GENERATOR = "triptych-phantoms"
VERSION = "1"
SIZES = ("small", "medium", "large")
# Lesion diameter as a fraction of the image width. The gaps keep the classes apart at 64 px.
DIAMETER = {"small": (0.085, 0.115), "medium": (0.165, 0.205), "large": (0.27, 0.34)}
MIN_CNR = 1.0


@dataclass(frozen=True, slots=True)
class Truth:
    """What the image shows, exactly. What does not apply is None: without a finding `side`, `size`
    and `size_mm`; a side where sides mean nothing (a liver, an eye's own scan, skin, a slide).

    `attributes` hold what else can be asked (see `generators.phantoms.kind`) and exact measures.
    """

    modality: str
    anatomy: str
    finding: str
    side: str | None = None
    count: int = 0
    size: str | None = None
    size_mm: float | None = None
    cnr: float = 0.0
    attributes: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Phantom:
    """One drawn image.

    `pixels` is (H, W): int16 Hounsfield units for CT, uint16 for MR and X-ray, uint8 for
    ultrasound and OCT; or (H, W, 3) uint8 RGB for fundus, dermoscopy and histology. `mask` is
    (H, W) bool, true on the finding. `window` is (centre, width) in the units of `pixels`, or None
    where the values are already for display. `pixel_spacing_mm` is that of columns; an OCT's rows
    are closer (`generators.phantoms.kinds.oct`).
    """

    pixels: np.ndarray
    mask: np.ndarray
    truth: Truth
    pixel_spacing_mm: float
    window: tuple[float, float] | None
    seed: int
    difficulty: float


def contrast_to_noise(image: np.ndarray, twin: np.ndarray, mask: np.ndarray, noise: float) -> float:
    """|mean difference from the lesion-free twin inside the mask| / noise standard deviation.

    Both images share anatomy and noise streams, so the difference is the finding alone.
    """
    if not mask.any():
        return 0.0
    return float(abs((image.astype(float) - twin)[mask].mean()) / max(noise, 1e-6))


def count_components(mask: np.ndarray) -> int:
    """How many separate regions the mask has (8-connected)."""
    return int(ndimage.label(mask, structure=np.ones((3, 3)))[1])


def until_visible(
    render: Callable[[float], np.ndarray],
    twin: np.ndarray,
    mask: np.ndarray,
    noise: float,
    difficulty: float,
) -> tuple[np.ndarray, float]:
    """A finding's image and its contrast-to-noise ratio, made easier until that is MIN_CNR.

    `render` draws it at a difficulty, which is lowered, below 0 where it must be. The contrast is
    the root mean square difference from the twin in the mask, since a finding may be darker than
    one tissue and brighter than another; colours are averaged.
    """
    for effective in np.arange(difficulty, -1.51, -0.25):
        image = render(float(effective))
        change = (image.astype(np.float32) - twin)[mask]
        cnr = float(np.sqrt((change**2).mean()) / noise)
        if cnr >= MIN_CNR:
            break
    return image, round(cnr, 2)


def diameter_mm(mask: np.ndarray, spacing: float) -> float:
    """Mean diameter of the mask's regions, each taken as a disc of its area."""
    return round(float(2 * np.sqrt(mask.sum() / count_components(mask) / np.pi) * spacing), 1)
