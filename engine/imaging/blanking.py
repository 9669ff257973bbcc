"""The weaker counterfactual of a real image: a region put out, so that what it shows is gone.

A phantom is drawn again without its finding (`generators.phantoms.twins`). Of a real image nobody
knows what lies behind a finding; where a mask or segmentation is given, the region is filled with
the grey of its surroundings and feathered. An answer that stays as sure as before did not come from
the region. It is no image of the patient without the finding, so nothing is to be learned from it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

RING = 0.06  # of the image's side: how wide the surroundings are whose grey is taken
FEATHER = 0.015  # of the image's side


def blanked(pixels: np.ndarray, mask: np.ndarray, feather: float = FEATHER) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 with the region of `mask` (H, W) bool filled and feathered.

    Each pixel of a region takes the mean of the ring around it, weighted by nearness, so that the
    fill follows the surroundings and holds nothing of the region's edge or texture. `feather` is
    the width of the transition in shares of the longer side; it lies outside the mask, so that no
    pixel of the region shows through. Pixels further out are as they were, and so is an image whose
    mask is empty. Raises ValueError where shapes differ, or where the mask leaves no surroundings.
    """
    if mask.shape != pixels.shape[:2]:
        raise ValueError(f"a mask of {mask.shape} is not of an image of {pixels.shape[:2]}")
    if not mask.any():
        return pixels.copy()
    side = max(mask.shape)
    away = ndimage.distance_transform_edt(~mask)
    width = max(feather * side, 1.0)
    ring = (away > width) & (away <= width + max(RING * side, 2.0))
    if not ring.any():
        raise ValueError("the mask leaves nothing of the image around it")
    share = np.clip(1 - away / (width + 1), 0, 1)  # 1 inside, 0 from `width` on
    colours = pixels.astype(np.float64).reshape(*mask.shape, -1)
    fill = _spread(colours, ring, RING * side)
    out = colours + share[..., None] * (fill - colours)
    return np.rint(np.clip(out, 0, 255)).astype(np.uint8).reshape(pixels.shape)


def _spread(colours: np.ndarray, ring: np.ndarray, sigma: float) -> np.ndarray:
    """The ring's colours carried inwards: a Gaussian mean of them, and their plain mean far off."""
    weight = ndimage.gaussian_filter(ring.astype(float), sigma)
    mean = colours[ring].mean(0)
    near = np.stack(
        [ndimage.gaussian_filter(ring * c, sigma) for c in np.moveaxis(colours, -1, 0)], -1
    )
    faint = 1e-3  # of weight is given to the plain mean, which decides where the ring is far
    return np.asarray((near + faint * mean) / (weight + faint)[..., None])
