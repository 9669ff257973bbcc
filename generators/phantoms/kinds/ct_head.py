"""Non-contrast CT of the head in Hounsfield units: no finding, intracerebral bleed, or infarct."""

import numpy as np
from scipy import ndimage

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import MIN_CNR, Phantom, Truth, contrast_to_noise, count_components
from generators.phantoms.brain import (
    FIELD_OF_VIEW_MM,
    Anatomy,
    Lesion,
    draw_anatomy,
    draw_extent,
    place,
)
from generators.phantoms.canvas import cover, streams, waves
from generators.phantoms.kind import EACH, Kind

TOLD = dict.fromkeys(("hemorrhage", "infarct"), EACH)
FINDINGS = ("none", *TOLD)
WINDOW = (40.0, 90.0)
HU = {
    "air": -1000.0,
    "skin": 40.0,
    "fat": -80.0,
    "bone": 1150.0,
    "marrow": 700.0,
    "csf": 6.0,
    "white": 27.0,
    "grey": 37.0,
    "deep": 38.0,
    "falx": 52.0,
    "choroid": 140.0,
}


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one axial slice.

    `size` is the side in pixels (a field of view of 230 mm), `difficulty` in [0, 1] makes lesions
    fainter and noise stronger, `finding` is one of FINDINGS or None for a uniform draw. Pixels are
    (size, size) int16 HU. Equal arguments give equal pixels; a lesion-free twin (`finding="none"`)
    has the same anatomy and noise.
    """
    of_anatomy, of_finding, of_noise = streams(seed)
    chosen = FINDINGS[of_finding.integers(len(FINDINGS))]
    finding = chosen if finding is None else finding
    anatomy = draw_anatomy(of_anatomy, size)
    healthy = anatomy.render(HU) + 0.9 * waves(of_anatomy, size, 10, 2, 9) * (anatomy.depth > 0)
    sigma = float(of_noise.uniform(2.0, 2.6) + 1.2 * difficulty)
    noise = _noise(of_noise, size, sigma)
    twin = _stored(healthy + noise)
    spacing = FIELD_OF_VIEW_MM / size
    if finding == "none":
        truth = Truth("CT", "head", "none")
        return Phantom(twin, np.zeros(twin.shape, bool), truth, spacing, WINDOW, seed, difficulty)

    side, extent, count = draw_extent(of_finding, asked=asked)
    texture = waves(of_finding, size, 8, 6, 16)
    while True:
        lesions = place(of_finding, anatomy.shape, finding, side, extent, count)
        shares = [
            _share(anatomy, lesion, 0.006 if finding == "hemorrhage" else 0.014)
            for lesion in lesions
        ]
        mask = np.maximum.reduce(shares) > 0.5
        if count_components(mask) == count:
            break
    faint = difficulty
    while True:
        ill = healthy.copy()
        if finding == "hemorrhage":
            _bleed(ill, anatomy, lesions, shares, 72.0 - 15.0 * faint + 2.0 * texture)
        else:  # water-logged tissue: the grey-white border and the sulci vanish in it
            for share in shares:
                ill += share * (11.0 + 8.0 * faint + 0.4 * texture - ill)
        pixels = _stored(ill + noise)
        cnr = contrast_to_noise(pixels, twin, mask, sigma)
        if cnr >= MIN_CNR or faint < 0.01:
            break
        faint *= 0.7
    diameter = 2 * np.sqrt(mask.sum() / count / np.pi) * spacing
    truth = Truth("CT", "head", finding, side, count, extent, round(float(diameter), 1), cnr)
    return Phantom(pixels, mask, truth, spacing, WINDOW, seed, difficulty)


def _stored(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, -1024, 3071)).astype(np.int16)


def _noise(rng: np.random.Generator, size: int, sigma: float) -> np.ndarray:
    """Gaussian noise of standard deviation `sigma` HU, grainy as a soft kernel leaves it."""
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size), np.float32), 0.55, truncate=3)
    return noise * np.float32(sigma / noise.std())


def _share(anatomy: Anatomy, lesion: Lesion, edge: float, grow: float = 0.0) -> np.ndarray:
    """Coverage (size, size) of a lesion grown by `grow`, within the brain."""
    box = anatomy.box(lesion.centre, lesion.diameter + grow)
    share = np.zeros(anatomy.u.shape, np.float32)
    distance = lesion.distance(anatomy.u[box], anatomy.v[box]) - grow
    inside = cover(-anatomy.depth[box], 1.3 / anatomy.size)
    share[box] = cover(distance, max(edge, 1.3 / anatomy.size)) * inside
    return share


def _bleed(
    image: np.ndarray,
    anatomy: Anatomy,
    lesions: list[Lesion],
    shares: list[np.ndarray],
    blood: np.ndarray,
) -> None:
    """Fresh blood in a thin rim of oedema; `blood` is its HU, (size, size)."""
    for lesion, share in zip(lesions, shares):
        rim = _share(anatomy, lesion, 0.02, 0.016)
        image += 0.7 * rim * (20.0 - image)
        image += share * (blood - image)


KIND = Kind(name="CT", modality="CT", anatomy="head", dicom="CT", draw=draw, findings=TOLD)
