"""A frontal chest radiograph from analytic tissue thicknesses.

Lengths are fractions of the image width: x runs from -0.5 to 0.5, y from 0 to 1 downwards, and
u = |x| on either side. The patient's right is at negative x. Tissue thicknesses in cm go through
Beer–Lambert, I = I0 exp(-sum_i mu_i t_i), gain scatter, and are shown as logarithmic exposure with
the wide-area contrast compressed, as digital detectors present it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from generators.phantoms.asked import NOTHING, Asked, CannotDraw, Extent
from generators.phantoms.base import (
    DIAMETER,
    MIN_CNR,
    Phantom,
    Truth,
    contrast_to_noise,
    count_components,
)
from generators.phantoms.kind import EACH, Kind, Spill

TOLD = dict.fromkeys(("nodule", "effusion", "pneumothorax"), EACH)
FINDINGS = ("none", *TOLD)
FIELD_MM = 380.0
MU_SOFT, MU_BONE, MU_LUNG = 0.19, 0.45, 0.05  # 1/cm, about 70 keV effective
SCATTER = (0.12, 0.010)  # share of the local primary beam, and a constant share of I0
WINDOW = (2048.0, 3300.0)
GAIN = 1750.0  # detector values per unit of processed density
SIZE_AND_COUNT = (
    ("small", 1), ("small", 2), ("small", 3), ("medium", 1), ("medium", 2), ("large", 1),
)  # fmt: skip
LUNG_SHARE = {"small": (0.15, 0.22), "medium": (0.35, 0.45), "large": (0.60, 0.75)}
MIN_GAP = 0.045


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One patient's outline; lengths in image widths, depths in cm."""

    body: float
    depth: float
    lung_u: float
    lung_a: float
    lung_y: float
    lung_b: float
    dome: tuple[float, float]
    heart: tuple[float, float, float, float, float]  # x, y, semi-axes, angle
    rib_gap: float
    rib_y: float
    clavicle: float
    knob: float
    tilt: float

    @property
    def heart_extent(self) -> float:
        """Half the horizontal extent of the rotated heart ellipse."""
        _, _, a, b, angle = self.heart
        return math.hypot(a * math.cos(angle), b * math.sin(angle))

    @property
    def cardiothoracic_ratio(self) -> float:
        """Greatest heart width over greatest inner thoracic width."""
        return self.heart_extent / (self.lung_u + self.lung_a)


@dataclass(frozen=True, slots=True)
class Scene:
    """Maps of one patient, (size, size) float32: attenuation and what a finding needs to know."""

    x: np.ndarray
    y: np.ndarray
    attenuation: np.ndarray
    lung: np.ndarray
    vessels: np.ndarray
    air: np.ndarray


@dataclass(frozen=True, slots=True)
class Placement:
    """A finding before it is drawn."""

    finding: str
    side: str
    size: str
    discs: tuple[tuple[float, float, float], ...]
    share: float


def _anatomy(rng: np.random.Generator) -> Anatomy:
    u = rng.uniform
    lung_u, lung_a = u(0.222, 0.240), u(0.155, 0.175)
    lung_y, ratio, angle = u(0.50, 0.55), u(0.38, 0.55), u(0.35, 0.65)
    extent = ratio * (lung_u + lung_a)
    slim = u(0.68, 0.82)
    a = extent / math.hypot(math.cos(angle), slim * math.sin(angle))
    dome = u(0.70, 0.75)
    heart = (extent * u(0.25, 0.36), dome - u(0.62, 0.78) * slim * a, a, slim * a, angle)
    return Anatomy(
        body=u(0.465, 0.50), depth=u(18.5, 22.0), lung_u=lung_u, lung_a=lung_a, lung_y=lung_y,
        lung_b=lung_y - u(0.06, 0.10), dome=(dome, dome + u(0.01, 0.03)), heart=heart,
        rib_gap=u(0.074, 0.090), rib_y=u(0.0, 1.0), clavicle=u(0.10, 0.14), knob=u(0.8, 1.2),
        tilt=u(-0.02, 0.02),
    )  # fmt: skip


def _step(v: np.ndarray, width: float) -> np.ndarray:
    """A soft edge: 0 below -width, 1 above width."""
    t = np.clip(v / (2 * width) + 0.5, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _ellipse(
    x: np.ndarray, y: np.ndarray, cx: float, cy: float, a: float, b: float, angle: float = 0.0
) -> np.ndarray:
    """Squared normalised radius: 1 on the ellipse."""
    c, s = math.cos(angle), math.sin(angle)
    dx, dy = x - cx, y - cy
    return ((c * dx + s * dy) / a) ** 2 + ((c * dy - s * dx) / b) ** 2


def _pleura(an: Anatomy, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Power-2.4 radius of the lung field without its floor: below 1 inside."""
    rise = np.clip((an.lung_y - y) / an.lung_b, 0.0, None)
    shift = (u - an.lung_u + 0.085 * rise * rise) / an.lung_a
    return np.exp(1.2 * np.log(shift * shift + 1e-6)) + np.exp(1.2 * np.log(rise * rise + 1e-6))


def _floor(an: Anatomy, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Height y of the diaphragm; the patient's right dome stands higher."""
    top = an.dome[0] + (an.dome[1] - an.dome[0]) * (x > 0).astype(x.dtype)
    lateral = (u - 0.19) / (an.lung_u + an.lung_a - 0.19)
    return top + (0.03 + 0.065 * (lateral > 0).astype(x.dtype)) * lateral * lateral


def _ribs(an: Anatomy, u: np.ndarray, y: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """Bone thickness (cm) of posterior and anterior ribs, brighter along their cortices."""
    reach = u / (an.lung_u + an.lung_a)
    back = (
        y + 0.055 * np.sin(3.0 * np.clip(reach, 0, 1)) - (0.10 + 0.13 * y) * reach * reach * reach
    )
    front = y + 0.52 * reach * 0.40 + 0.10 * (reach * reach) ** 2
    bone = np.zeros_like(u)
    for line, half, amount, near in ((back, 0.0135, 0.85, 0.035), (front, 0.016, 0.46, 0.17)):
        phase = line / an.rib_gap + (an.rib_y if near < 0.1 else 0.6 - an.rib_y)
        off = np.abs(phase - np.floor(phase) - 0.5) * an.rib_gap
        band = _step(half - off, 0.004)
        cortex = np.exp(-(((off - half + 0.003) / 0.003) ** 2))
        bone += amount * (0.55 * band + 0.45 * cortex) * _step(u - near, 0.02)
    return bone * _step(1.22 - rim, 0.06) * _step(0.86 - y, 0.05) * _step(y - 0.07, 0.02)


def _spine(an: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bone thickness (cm) of the vertebral column, discs and spinous processes."""
    half = 0.034 + 0.012 * y
    body = _step(half - np.abs(x), 0.006)
    discs = np.cos(2 * np.pi * y / (0.052 + 0.012 * y))
    process = np.exp(-((x / 0.008) ** 2)) * (0.5 + 0.5 * discs)
    return body * (1.2 + 0.45 * discs) + 0.35 * process


def _girdle(an: Anatomy, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bone thickness (cm) of the clavicles, scapulae and humeral heads."""
    line = an.clavicle + 0.055 - 0.16 * (u - 0.03) - 0.016 * np.sin(14 * u)
    off = np.abs(y - line)
    half = 0.013 + 0.006 * np.exp(-(((u - 0.05) / 0.03) ** 2))
    ends = _step(u - 0.035, 0.008) * _step(0.43 - u, 0.02)
    shaft = _step(half - off, 0.004) * 0.5 + 0.35 * np.exp(-(((off - half + 0.003) / 0.003) ** 2))
    blade_u = 0.385 + 0.05 * np.sin(3 * (y - 0.1))
    blade = _step(u - blade_u, 0.006) * _step(y - 0.14, 0.02) * _step(0.42 - y, 0.05)
    head = _step(1 - _ellipse(u, y, 0.475, 0.15, 0.055, 0.06), 0.1)
    return 1.7 * shaft * ends + 0.32 * blade + 1.1 * head


def _branches(rng: np.random.Generator, sides: tuple[float, ...]) -> list[tuple[np.ndarray, ...]]:
    """Vessel centre lines by generation, (branches, samples): x, y, thickness (cm), step length."""
    roots = np.repeat(np.array([(s * 0.085, 0.435) for s in sides]), 9, axis=0)
    outward = np.repeat(np.array(sides), 9)
    angle = np.tile(np.linspace(-1.35, 1.35, 9), len(sides)) + rng.normal(0, 0.12, len(roots))
    length, thick = rng.uniform(0.20, 0.32, len(roots)), 1.25
    levels: list[tuple[np.ndarray, ...]] = []
    for samples in (40, 26, 14):
        t = np.linspace(0, 1, samples)
        bend = rng.normal(0, 0.45, len(roots))
        heading = angle[:, None] + bend[:, None] * t
        step = (length / len(t))[:, None]
        px = roots[:, :1] + outward[:, None] * np.cumsum(np.cos(heading) * step, axis=1)
        py = roots[:, 1:] + np.cumsum(np.sin(heading) * step, axis=1)
        levels.append((px, py, thick * (1 - 0.65 * t) * np.ones_like(px), step))
        at = rng.integers(samples // 4, samples, (len(roots), 3)).ravel()
        parent = np.repeat(np.arange(len(roots)), 3)
        roots = np.stack([px[parent, at], py[parent, at]], axis=1)
        turn = rng.choice([-1.0, 1.0], len(parent)) * rng.uniform(0.35, 0.8, len(parent))
        angle, outward = heading[parent, at] + turn, outward[parent]
        length, thick = length[parent] * rng.uniform(0.35, 0.55, len(parent)), thick * 0.62
    return levels


def _vessels(rng: np.random.Generator, size: int) -> np.ndarray:
    """Blood thickness (cm) of the pulmonary vessels, each level blurred to its calibre."""
    total = np.zeros((size, size), np.float32)
    for (px, py, thick, step), sigma in zip(_branches(rng, (-1.0, 1.0)), (0.006, 0.004, 0.0028)):
        wide = max(sigma * size, 0.5)
        col, row = (px + 0.5) * size - 0.5, py * size - 0.5
        inside = (col > 0) & (row > 0) & (col < size - 1) & (row < size - 1)
        weight = (thick * step * size * np.sqrt(2 * np.pi) * sigma * size)[inside]
        c, r = col[inside], row[inside]
        c0, r0 = c.astype(int), r.astype(int)
        fc, fr = c - c0, r - r0
        flat = np.concatenate([(r0 + i) * size + c0 + j for i in (0, 1) for j in (0, 1)])
        share = np.concatenate(
            [weight * abs(1 - i - fr) * abs(1 - j - fc) for i in (0, 1) for j in (0, 1)]
        )
        points = np.bincount(flat, share, size * size).reshape(size, size).astype(np.float32)
        total += ndimage.gaussian_filter(points, wide, truncate=3)
    return total


def _scene(rng: np.random.Generator, an: Anatomy, size: int) -> Scene:
    """Attenuation sum_i mu_i t_i of the healthy chest."""
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = np.meshgrid(axis - np.float32(0.5), axis)
    xs = x - np.float32(an.tilt) * (y - 0.5)
    u = np.abs(xs)
    edge = 0.006
    rim = _pleura(an, u, y)
    inner = np.clip(1 - rim, 0, 1) ** 0.42
    above = _step(_floor(an, xs, u) - y, edge)
    heart_r = _ellipse(xs, y, *an.heart)
    heart = np.clip(1 - heart_r, 0, 1) ** 0.5
    knob = np.clip(1 - _ellipse(xs, y, 0.045, 0.315, 0.052 * an.knob, 0.055 * an.knob), 0, 1) ** 0.5
    trunk = np.clip(1 - _ellipse(xs, y, 0.015, 0.42, 0.085, 0.24), 0, 1) ** 0.5
    hila = np.exp(-_ellipse(u, y, 0.10, 0.44, 0.035, 0.055))
    lung = inner * (0.12 + 0.88 * above) * _step(0.90 - y, 0.06)
    air_cm = np.clip(14.5 * lung - 11.5 * heart - 8 * knob - 7 * trunk - 2.0 * hila, 0, None)
    body_half = np.minimum(an.body + 0.02 * np.sin(5 * y), 0.13 + 4.0 * np.clip(y - 0.03, 0, None))
    flank = np.clip(1 - (xs / body_half) ** 4, 0, 1) ** 0.5
    soft = an.depth * (0.72 + 0.28 * _step(y - 0.18, 0.2)) * flank + 1.2 * (knob + trunk)
    soft -= 1.9 * _step(0.021 - np.abs(xs + 0.004), 0.006) * _step(0.37 - y, 0.03)
    soft -= 4.5 * np.clip(1 - _ellipse(xs, y, 0.20, an.dome[1] + 0.075, 0.06, 0.035), 0, 1) ** 0.6
    vessels = _vessels(rng, size) * _step(1 - rim, 0.04) * above
    bone = _ribs(an, u, y, rim) + _spine(an, xs, y) + _girdle(an, u, y)
    total = MU_SOFT * (soft + vessels) + (MU_BONE - MU_SOFT) * bone * _step(flank, 0.1)
    total -= (MU_SOFT - MU_LUNG) * air_cm
    field = (rim < 1) & (above > 0.5) & (heart_r > 1) & (u > 0.06)
    return Scene(xs, y, np.maximum(total, 0).astype(np.float32), field, vessels, air_cm)


@lru_cache(maxsize=8)
def _smoother(size: int, sigma: float) -> np.ndarray:
    """(size, size) Gaussian smoothing matrix, rows summing to 1; sigma in image widths."""
    i = np.arange(size) / size
    kernel = np.exp(-0.5 * ((i[:, None] - i[None, :]) / sigma) ** 2)
    return (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)


def _expose(attenuation: np.ndarray, noise: np.ndarray, sigma: float) -> np.ndarray:
    """Detector values (float, 0–4095; bone bright) after scatter, quantum noise and processing."""
    size = len(attenuation)
    wide = _smoother(size, 0.10)
    primary = np.exp(-attenuation)
    exposure = primary + SCATTER[0] * (wide @ primary @ wide.T) + SCATTER[1]
    density = -np.log(exposure) + noise * sigma * np.sqrt(np.float32(0.12) / exposure)
    local = density - 0.42 * (wide @ density @ wide.T)
    return 2048.0 + GAIN * np.tanh((local - 1.16) / 0.95)


def _inside(an: Anatomy, sign: float, u: float, y: float, radius: float, large: bool) -> bool:
    """Whether a disc lies in the lung field and clear of the heart and the midline."""
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    reach = radius * (0.72 if large else 0.95)
    pu, py = u + reach * np.cos(turn), y + reach * np.sin(turn)
    if u - radius < (0.005 if large else 0.06) or u + radius > 0.47:
        return False
    if (_pleura(an, pu, py) > 1).any() or (py > _floor(an, sign * pu, pu)).any():
        return False
    return bool(_ellipse(np.array(sign * u), np.array(y), *an.heart) > (1.0 if large else 1.25))


def _place(
    rng: np.random.Generator, an: Anatomy, sign: float, size: str, count: int
) -> tuple[tuple[float, float, float], ...]:
    """Centres and radii (x, y, r) of nodules that keep apart; afresh when they do not fit."""
    low, high = DIAMETER[size]
    for _ in range(400):
        discs: list[tuple[float, float, float]] = []
        for _ in range(30 * count):
            radius = rng.uniform(low, high) / 2
            u, y = rng.uniform(0.08, 0.38), rng.uniform(0.12, 0.75)
            apart = all(
                np.hypot(sign * u - q[0], y - q[1]) > radius + q[2] + MIN_GAP for q in discs
            )
            if apart and _inside(an, sign, u, y, radius, size == "large"):
                discs.append((sign * u, y, radius))
            if len(discs) == count:
                return tuple(discs)
    raise CannotDraw(f"no room for {count} {size} nodules")


def _placement(
    rng: np.random.Generator, an: Anatomy, finding: str | None, asked: Asked
) -> Placement:
    drawn = FINDINGS[rng.integers(len(FINDINGS))]
    finding = drawn if finding is None else finding
    sign = 1.0 if asked.left_or(rng.choice([-1.0, 1.0]) > 0) else -1.0
    side = "right" if sign < 0 else "left"
    possible: Sequence[Extent] = SIZE_AND_COUNT
    extent = possible[int(rng.integers(len(possible)))]
    if finding != "nodule":
        possible = tuple((share, 1) for share in LUNG_SHARE)
        extent = possible[int(rng.choice(len(possible)))]
    size, count = asked.extent(extent, possible)
    discs = _place(rng, an, sign, size, count) if finding == "nodule" else ()
    return Placement(finding, side, size, discs, rng.uniform(*LUNG_SHARE[size]))


def _nodules(scene: Scene, placed: Placement, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Added attenuation of round soft-tissue opacities with a crisp rim, and their mask."""
    added = np.zeros_like(scene.attenuation)
    mask = np.zeros(added.shape, bool)
    for cx, cy, radius in placed.discs:
        r2 = _ellipse(scene.x, scene.y, cx, cy, radius, radius)
        added += (0.80 + 1.6 * radius) * np.clip(1.04 - r2, 0, 1) ** 0.35
        mask |= r2 < 1
    return strength * added, mask


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, n = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if n > 1 else mask


def _effusion(
    scene: Scene, an: Anatomy, placed: Placement, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fluid from the lung base up to a meniscus that climbs the lateral wall."""
    sign = -1.0 if placed.side == "right" else 1.0
    u = sign * scene.x
    field = _largest(scene.lung & (u > 0))
    climb = np.clip((u - 0.13) / (an.lung_u + an.lung_a - 0.13), 0, 1.2)
    depth = scene.y + 0.10 * climb**3
    level = np.quantile(depth[field], 1 - placed.share)
    mask = _largest(field & (depth > level))
    fluid = _step(depth - level, 0.014) * (u > 0)
    added = fluid * (0.14 * np.minimum(scene.air, 11.0) - 0.12 * scene.vessels)
    return strength * added, mask


def _pneumothorax(
    scene: Scene, an: Anatomy, placed: Placement, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Air over a lung that has drawn back towards its hilum, with the pleural line between them."""
    sign = -1.0 if placed.side == "right" else 1.0
    u = sign * scene.x
    field = _largest(scene.lung & (u > 0))
    rise = np.clip(0.62 - scene.y, 0, None) / 0.5
    reach = np.sqrt(((u - 0.06) / 0.33) ** 2 + rise**2)
    edge = np.quantile(reach[field], 1 - placed.share)
    mask = _largest(field & (reach > edge))
    air = _step(reach - edge, 0.012)
    open_field = (u > 0) * np.clip(scene.air / 4, 0, 1)
    line = np.exp(-(((reach - edge + 0.008) / 0.010) ** 2))
    collapsed = (1 - air) * (0.12 + 0.55 * placed.share)
    lost = MU_SOFT * scene.vessels + 0.62
    return strength * open_field * (collapsed + 0.22 * line - lost * air), mask


def _apply(
    scene: Scene, an: Anatomy, placed: Placement, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    if placed.finding == "nodule":
        return _nodules(scene, placed, strength)
    draw_one = _effusion if placed.finding == "effusion" else _pneumothorax
    return draw_one(scene, an, placed, strength)


def _extent_mm(placed: Placement, mask: np.ndarray) -> float:
    """Mean nodule diameter, or the greatest extent of fluid or air, in mm."""
    if placed.discs:
        return float(np.mean([2 * r for _, _, r in placed.discs]) * FIELD_MM)
    rows, cols = np.nonzero(mask)
    return float(max(np.ptp(rows), np.ptp(cols)) + 1) * FIELD_MM / len(mask)


def _truth(placed: Placement, an: Anatomy, mask: np.ndarray, cnr: float) -> Truth:
    attributes = {"cardiothoracic_ratio": f"{an.cardiothoracic_ratio:.2f}"}
    if placed.finding == "none":
        return Truth("X-ray", "chest", "none", attributes=attributes)
    return Truth(
        "X-ray", "chest", placed.finding, placed.side, count_components(mask), placed.size,
        round(_extent_mm(placed, mask), 1), round(cnr, 2), attributes,
    )  # fmt: skip


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one chest radiograph; the same arguments give the same image.

    `size` is the side in pixels, `difficulty` in [0, 1] fades the finding and adds quantum noise,
    `finding` is one of FINDINGS or None for a uniform draw. Pixels are (size, size) uint16 of
    12 bits, MONOCHROME2 with bone bright. Attenuation follows Beer–Lambert, I = I0 exp(-sum mu t).
    A finding below MIN_CNR is redrawn stronger, so that what the truth names can be seen.
    """
    body, lesion, grain = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    an = _anatomy(body)
    scene = _scene(body, an, size)
    placed = _placement(lesion, an, finding, asked)
    noise = grain.standard_normal((size, size), dtype=np.float32)
    sigma = 0.018 + 0.014 * difficulty
    twin = _expose(scene.attenuation, noise, sigma)
    image, mask, cnr, effective = twin, np.zeros((size, size), bool), 0.0, difficulty
    while placed.finding != "none":
        added, mask = _apply(scene, an, placed, 1.0 - 0.35 * effective)
        image = _expose(np.maximum(scene.attenuation + added, 0), noise, sigma)
        cnr = contrast_to_noise(image, twin, mask, sigma * GAIN)
        if cnr >= MIN_CNR or effective < -1.0:
            break
        effective -= 0.25
    pixels = np.clip(np.rint(image), 0, 4095).astype(np.uint16)
    truth = _truth(placed, an, mask, cnr)
    return Phantom(pixels, mask, truth, FIELD_MM / size, WINDOW, seed, difficulty)


KIND = Kind(
    name="X-ray",
    modality="X-ray",
    anatomy="chest",
    dicom="DX",
    draw=draw,
    findings=TOLD,
    spill=Spill(
        0.15,
        wider={"pneumothorax": 0.3},
        levels=24,
        why="scatter, and wide-area contrast that is compressed; a lung that has drawn back is "
        "denser as a whole",
    ),
)
