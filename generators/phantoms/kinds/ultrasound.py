"""A breast B-mode scan from random scatterers.

Lengths are fractions of the image width: x from -0.5 to 0.5, depth y from 0 to 1. Complex Gaussian
scatterers weighted by tissue echogenicity (dB) are convolved with the point-spread function; the
envelope of that sum is Rayleigh speckle (Wagner et al., IEEE Trans. Sonics Ultrason. 30, 1983),
and 20 log10 of it is displayed. Sides are the sides of the image.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from generators.phantoms.asked import NOTHING, Asked, CannotDraw
from generators.phantoms.base import (
    DIAMETER,
    MIN_CNR,
    Phantom,
    Truth,
    contrast_to_noise,
    count_components,
)
from generators.phantoms.kind import EACH, Kind, Spill

TOLD = dict.fromkeys(("cyst", "solid mass"), EACH)
FINDINGS = ("none", *TOLD)
FIELD_MM = 40.0
DYNAMIC_RANGE_DB = 58.0
SIZE_AND_COUNT = (
    ("small", 1), ("small", 2), ("small", 3), ("medium", 1), ("medium", 2), ("large", 1),
)  # fmt: skip
MIN_GAP = 0.045
POSTERIOR = {"none": "none", "cyst": "enhancement", "solid mass": "shadowing"}


@dataclass(frozen=True, slots=True)
class Lesion:
    """Centre, mean radius, width-to-height ratio and border harmonics (amplitude, phase)."""

    x: float
    y: float
    radius: float
    aspect: float
    angle: float
    harmonics: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """A finding before it is drawn."""

    finding: str
    side: str
    size: str
    lesions: tuple[Lesion, ...]


def _step(v: np.ndarray, width: float) -> np.ndarray:
    """A soft edge: 0 below -width, 1 above width."""
    t = np.clip(v / (2 * width) + 0.5, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return axis[None, :] - np.float32(0.5), axis[:, None]


def _texture(rng: np.random.Generator, size: int, rows: int, cols: int) -> np.ndarray:
    """Smooth unit-variance field drawn on a coarse grid, so that it is the same at any size."""
    coarse = rng.standard_normal((rows, cols))

    def basis(n: int) -> np.ndarray:
        at = (np.arange(size) + 0.5) / size * (n - 1)
        kernel = np.exp(-0.5 * ((at[:, None] - np.arange(n)[None, :]) / 0.6) ** 2)
        return kernel / np.sqrt((kernel**2).sum(axis=1, keepdims=True))

    return (basis(rows) @ coarse @ basis(cols).T).astype(np.float32)


def _wave(rng: np.random.Generator, x: np.ndarray, amount: float) -> np.ndarray:
    """A wavy layer boundary, (1, size)."""
    phase, gain = rng.uniform(0, 2 * np.pi, 4), rng.normal(0, 1.3, 4)
    k = np.array([0.6, 1.3, 2.4, 4.0])[:, None]
    waves = gain[:, None] / k * np.sin(2 * np.pi * k * x + phase[:, None])
    return (amount * waves.sum(axis=0, keepdims=True)).astype(np.float32)


def _tissue(rng: np.random.Generator, size: int) -> np.ndarray:
    """Echogenicity in dB of skin, fat lobules, glandular tissue, muscle and chest wall."""
    x, y = _grid(size)
    skin = rng.uniform(0.030, 0.045)
    fat = rng.uniform(0.13, 0.19) + _wave(rng, x, 0.016)
    gland = rng.uniform(0.64, 0.71) + _wave(rng, x, 0.016)
    muscle = gland + rng.uniform(0.12, 0.17) + _wave(rng, x, 0.006)
    lobes = _texture(rng, size, 9, 8)
    septa = np.exp(-((lobes / 0.16) ** 2))
    strands = _texture(rng, size, 34, 7)
    fibres = _texture(rng, size, 70, 5)
    in_fat = _step(y - skin, 0.006) * _step(fat - y, 0.008)
    in_gland = _step(y - fat, 0.008) * _step(gland - y, 0.008)
    in_muscle = _step(y - gland, 0.008) * _step(muscle - y, 0.008)
    deep = _step(y - muscle, 0.008)
    db = 4.0 * _step(skin - y, 0.006) + in_fat * (-11 + 7 * septa + 1.2 * lobes)
    db = db + in_gland * (-2.5 + 1.5 * lobes + 1.5 * strands + 2.5 * septa)
    db = db + in_muscle * (-12 + 3.4 * fibres) + deep * (-14 + 1.5 * strands)
    for border, gain in ((fat, 5.0), (gland, 10.0), (muscle, 12.0)):
        db = db + gain * np.exp(-(((y - border) / 0.0055) ** 2))
    db += 6.0 * np.exp(-(((y - skin) / 0.004) ** 2)) - rng.uniform(3, 6) * np.clip(y - 0.5, 0, 1)
    return (db - 2.0 * (2 * x) ** 4 + 0.8 * _texture(rng, size, 3, 4)).astype(np.float32)


def _lesion(rng: np.random.Generator, finding: str, size: str, sign: float) -> Lesion:
    """One lesion, with its edge on its own side and within the glandular layer's reach."""
    radius = rng.uniform(*DIAMETER[size]) / 2
    inner = radius * 1.12 + (0.01 if size == "large" else 0.055)
    u = rng.uniform(inner, max(inner + 0.01, 0.485 - radius * 1.12))
    y = rng.uniform(0.21 + radius, 0.62 - radius)
    aspect = rng.uniform(1.02, 1.2) if finding == "cyst" else rng.uniform(0.9, 1.15)
    amount = np.array([0.0, 0.0, 0.0, 0.0])
    if finding != "cyst":
        amount = rng.uniform(0.4, 1.0, 4) * np.array([0.08, 0.09, 0.08, 0.05])
    phases = rng.uniform(0, 2 * np.pi, 4)
    harmonics = tuple((float(a), float(p)) for a, p in zip(amount, phases))
    return Lesion(sign * u, y, radius, aspect, rng.uniform(-0.25, 0.25), harmonics)


def _place(
    rng: np.random.Generator, finding: str, size: str, count: int, sign: float
) -> tuple[Lesion, ...]:
    """Lesions that keep apart, none hidden in the shadow of another."""
    for _ in range(400):
        found: list[Lesion] = []
        for _ in range(20 * count):
            new = _lesion(rng, finding, size, sign)
            if all(
                np.hypot(new.x - q.x, new.y - q.y) > 1.18 * (new.radius + q.radius) + MIN_GAP
                and abs(new.x - q.x) > 0.75 * (new.radius + q.radius)
                for q in found
            ):
                found.append(new)
            if len(found) == count:
                return tuple(found)
    raise CannotDraw(f"no room for {count} {size} lesions")


def _placement(rng: np.random.Generator, finding: str | None, asked: Asked) -> Placement:
    drawn = FINDINGS[rng.integers(len(FINDINGS))]
    finding = drawn if finding is None else finding
    sign = -1.0 if asked.left_or(rng.choice([-1.0, 1.0]) < 0) else 1.0
    size, count = asked.extent(SIZE_AND_COUNT[rng.integers(len(SIZE_AND_COUNT))], SIZE_AND_COUNT)
    lesions = () if finding == "none" else _place(rng, finding, size, count, sign)
    return Placement(finding, "left" if sign < 0 else "right", size, lesions)


def _radius(lesion: Lesion, size: int) -> np.ndarray:
    """Distance from the lesion's centre over the distance of its border: 1 on the border."""
    x, y = _grid(size)
    c, s = math.cos(lesion.angle), math.sin(lesion.angle)
    dx, dy = x - lesion.x, y - lesion.y
    px = (c * dx + s * dy) / math.sqrt(lesion.aspect)
    py = (c * dy - s * dx) * math.sqrt(lesion.aspect)
    r = np.hypot(px, py) / lesion.radius
    if not any(a for a, _ in lesion.harmonics):
        return r
    turn = np.arctan2(py, px)
    border = 1 + sum(a * np.sin(k * turn + p) for k, (a, p) in zip((2, 3, 5, 8), lesion.harmonics))
    return r / border


def _beneath(lesion: Lesion, size: int, narrow: float) -> np.ndarray:
    """The strip behind a lesion, 0 to 1, soft at its sides."""
    x, y = _grid(size)
    half = lesion.radius * narrow
    return _step(half - np.abs(x - lesion.x), 0.018) * _step(y - lesion.y, 0.5 * lesion.radius)


def _finding(
    tissue: np.ndarray, placed: Placement, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tissue in dB with the lesions drawn in, and their mask."""
    size = len(tissue)
    db, mask = tissue.copy(), np.zeros((size, size), bool)
    cyst = placed.finding == "cyst"
    _, y = _grid(size)
    for lesion in placed.lesions:
        r = _radius(lesion, size)
        inside = _step(1 - r, 0.05 if cyst else 0.09)
        fade = np.exp(-np.clip(y - lesion.y - lesion.radius, 0, None) / 0.45)
        behind = _beneath(lesion, size, 0.85 if cyst else 0.8)
        db += (7.5 if cyst else -8.0 * strength - 1) * behind * fade * (1 - inside)
        level = -6 - 38 * strength if cyst else -8 - 15 * strength + 0.25 * tissue
        rim = 3.5 * np.exp(-(((r - 1.05) / 0.07) ** 2)) * (0.4 + 0.6 * (not cyst))
        db = db * (1 - inside) + level * inside + rim
        mask |= r < 1
    return db, mask


def _scan(db: np.ndarray, scatter: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Log-compressed envelope, 0–255 float, of (2, size, size) scatterers weighted by tissue."""
    size = len(scatter[0])
    echo = scatter * np.exp(db * (math.log(10) / 20))
    axial, lateral = max(0.0026 * size, 0.45), max(0.0062 * size, 0.6)
    echo = ndimage.gaussian_filter1d(echo, axial, axis=1, truncate=3, mode="reflect")
    echo = ndimage.gaussian_filter1d(echo, lateral, axis=2, truncate=3, mode="reflect")
    gain = 4 * math.pi * axial * lateral  # restores the variance the convolution averages away
    power = gain * (echo[0] ** 2 + echo[1] ** 2) + floor
    level = 10 * np.log10(power + 1e-7)
    return np.clip(255 * (level + 36) / DYNAMIC_RANGE_DB, 0, 255)


def _speckle(twin: np.ndarray) -> float:
    """Standard deviation of the speckle left after averaging over 2 % of the width."""
    size = len(twin)
    patch = ndimage.uniform_filter(twin, max(3, round(0.02 * size)))
    rest = patch - ndimage.uniform_filter(twin, round(0.1 * size))
    return float(rest[size // 5 : size // 2].std())


def _truth(placed: Placement, mask: np.ndarray, cnr: float) -> Truth:
    attributes = {"posterior_feature": POSTERIOR[placed.finding]}
    if placed.finding == "none":
        return Truth("ultrasound", "breast", "none", attributes=attributes)
    size_mm = round(float(np.mean([2 * q.radius for q in placed.lesions])) * FIELD_MM, 1)
    return Truth(
        "ultrasound", "breast", placed.finding, placed.side, count_components(mask), placed.size,
        size_mm, round(cnr, 2), attributes,
    )  # fmt: skip


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one breast scan; the same arguments give the same image.

    `size` is the side in pixels, `difficulty` in [0, 1] fades the finding and adds electronic
    noise, `finding` is one of FINDINGS or None for a uniform draw. Pixels are (size, size) uint8,
    ready for display. The noise of the truth's cnr is speckle averaged over 2 % of the width.
    A finding below MIN_CNR is redrawn stronger, so that what the truth names can be seen.
    """
    body, lesion, grain = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    tissue = _tissue(body, size)
    placed = _placement(lesion, finding, asked)
    scatter = grain.standard_normal((2, size, size), dtype=np.float32)
    floor = (3e-4 + 9e-4 * difficulty) * grain.standard_exponential((size, size), dtype=np.float32)
    twin = _scan(tissue, scatter, floor)
    image, mask, cnr, effective = twin, np.zeros((size, size), bool), 0.0, difficulty
    while placed.finding != "none":
        db, mask = _finding(tissue, placed, 1.0 - 0.55 * effective)
        image = _scan(db, scatter, floor)
        cnr = contrast_to_noise(image, twin, mask, _speckle(twin))
        if cnr >= MIN_CNR or effective < -1.0:
            break
        effective -= 0.25
    truth = _truth(placed, mask, cnr)
    pixels = np.rint(image).astype(np.uint8)
    return Phantom(pixels, mask, truth, FIELD_MM / size, None, seed, difficulty)


KIND = Kind(
    name="ultrasound",
    modality="ultrasound",
    anatomy="breast",
    dicom="US",
    draw=draw,
    findings=TOLD,
    spill=Spill(columns="below", why="enhancement or shadow behind it"),
)
