"""CT of the chest in Hounsfield units: lungs with vessels and airways, heart and great vessels.

Findings: nodules, consolidation, pleural effusion, pneumothorax. The slice lies at the level of the
left atrium. Half of the patients have had contrast medium.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from generators.phantoms.asked import NOTHING, Asked, CannotDraw
from generators.phantoms.base import Phantom, count_components
from generators.phantoms.canvas import (
    blob,
    capsule,
    cover,
    discs,
    grow_tree,
    harmonics,
    largest,
    oval,
    paint,
    streams,
    texture,
)
from generators.phantoms.kind import EACH, Attribute, Kind
from generators.phantoms.torso import (
    AIR,
    CONTRAST,
    FAT,
    ONE_OF_A_SIZE,
    SIZE_AND_COUNT,
    Body,
    Scan,
    draw_body,
    noise,
    paint_ribs,
    paint_spine,
    paint_wall,
    shell,
)

TOLD = dict.fromkeys(("nodule", "consolidation", "effusion", "pneumothorax"), EACH)
FINDINGS = ("none", *TOLD)
WINDOWS = ((-400.0, 1200.0), (-200.0, 1600.0))
LUNG_SHARE = {"small": (0.07, 0.11), "medium": (0.19, 0.25), "large": (0.38, 0.48)}
DIAMETER = {"small": (0.04, 0.05), "medium": (0.078, 0.095), "large": (0.135, 0.16)}
SPINE_DEPTH = 0.098  # from the vertebra's middle to the back of the ribs


@dataclass(frozen=True, slots=True)
class Chest:
    """A healthy chest: HU, the lung field as a signed distance, airways and vessels' coverage."""

    body: Body
    image: np.ndarray
    lung: np.ndarray
    airways: np.ndarray
    solid: float  # HU of soft tissue that takes up contrast medium


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one axial slice; equal arguments give equal pixels, (size, size) int16 HU.

    `size` is the side in pixels (a field of view of 390 mm), `difficulty` in [0, 1] makes findings
    fainter and noise stronger, `finding` is one of FINDINGS or None for a uniform draw. A twin
    (`finding="none"`) has the same anatomy and noise.
    """
    of_anatomy, of_finding, of_noise = streams(seed)
    chosen = FINDINGS[of_finding.integers(len(FINDINGS))]
    finding = chosen if finding is None else finding
    chest = _chest(of_anatomy, size, asked)
    window = WINDOWS[of_anatomy.integers(len(WINDOWS))]
    sigma = float(of_noise.uniform(14, 20) + 16 * difficulty)
    grain = noise(of_noise, chest.body, sigma)
    told = {"contrast": "enhanced" if chest.body.enhanced else "unenhanced"}
    scan = Scan("chest", seed, difficulty, chest.image, grain, sigma, window, told)
    if finding == "none":
        return scan.without()
    side = "left" if asked.left_or(of_finding.random() < 0.5) else "right"
    drawn = SIZE_AND_COUNT[of_finding.integers(len(SIZE_AND_COUNT))]
    margin = {}
    if finding == "nodule":
        edge = asked.told("margin", "spiculated" if of_finding.random() < 0.5 else "smooth")
        margin = {"margin": edge}
        extent, count = asked.extent(drawn, SIZE_AND_COUNT)
        share, mask = _nodules(of_finding, chest, side, extent, count, edge == "spiculated")
    else:
        extent, _ = asked.extent(ONE_OF_A_SIZE[of_finding.integers(3)], ONE_OF_A_SIZE)
        share, mask = _region(of_finding, chest, finding, side, extent)
    value = _values(of_finding, chest, finding, share)

    fades = finding in ("nodule", "consolidation")

    def fill(image: np.ndarray, effective: float) -> None:
        paint(image, share * (1 - 0.45 * effective * fades), value)

    return scan.having(finding, side, extent, mask, fill, **margin)


def _chest(rng: np.random.Generator, size: int, asked: Asked) -> Chest:
    body = draw_body(rng, size, asked)
    u, v, a = body.u, body.v, np.abs(body.u)
    image = paint_wall(rng, body, 55.0)
    half = (body.half[0] - body.fat - 0.052, body.half[1] - body.fat - 0.045)
    cage = shell(u, v + 0.004, half, 0.12) + 0.004 * texture(rng, size, 8)
    spine_at = half[1] - SPINE_DEPTH
    _paint_breast_and_back(image, rng, body, half)
    paint_ribs(image, rng, body, (half[0] + 0.016, half[1] + 0.013), (1.05, -1.05), 7)
    _paint_sternum(image, rng, body, half)
    mediastinum = _mediastinum(rng, body)
    spine = np.minimum(
        oval(a, v, (0.0, spine_at + 0.004), (0.066, 0.054)),
        capsule(a, v, (0.02, spine_at + 0.055), (0.062, spine_at + 0.092), 0.028, 0.022),
    )
    lung = np.maximum.reduce([cage, -mediastinum, -spine])
    solid = 120.0 if body.enhanced else 45.0
    body.fill(image, cage, FAT + 12 * texture(rng, size, 24))
    body.fill(image, spine, 40.0)
    paint_spine(image, rng, body, spine_at)
    _paint_heart(image, rng, body)
    airways = _paint_lungs(image, rng, body, lung)
    return Chest(body, image, lung, airways, solid)


def _paint_breast_and_back(
    image: np.ndarray, rng: np.random.Generator, body: Body, half: tuple[float, float]
) -> None:
    """Shoulder blades with their muscles at the back, the pectoral muscles in front."""
    a, v = np.abs(body.u), body.v
    fat = FAT + 8 * texture(rng, body.size, 30)
    at, rise = float(rng.uniform(0.16, 0.20)), float(rng.uniform(0.12, 0.16))
    blade = capsule(a, v, (at, rise + 0.055), (at + 0.115, rise - 0.015), 0.006, 0.008)
    gap = np.abs(shell(body.u, v, (half[0] + 0.036, half[1] + 0.031))) - 0.003
    body.fill(image, np.maximum(gap, -v - 0.1), fat)
    body.fill(image, blade - 0.004, 60.0)
    body.fill(image, blade, 800.0)
    body.fill(image, blade + 0.005, 350.0)


def _paint_sternum(
    image: np.ndarray, rng: np.random.Generator, body: Body, half: tuple[float, float]
) -> None:
    front = -half[1] - 0.006
    a, v = np.abs(body.u), body.v
    bone = oval(a, v, (0.0, front), (0.048, 0.014))
    cartilage = capsule(a, v, (0.055, front + 0.004), (0.125, front + 0.028), 0.012, 0.010)
    body.fill(image, cartilage, 110.0 + 30 * texture(rng, body.size, 40))
    body.fill(image, bone, 520.0)
    body.fill(image, bone + 0.0048, 150.0 + 40 * texture(rng, body.size, 60))


def _mediastinum(rng: np.random.Generator, body: Body) -> np.ndarray:
    """Signed distance to all between the lungs: heart, fat in front of it, hila, aorta."""
    u, v, a = body.u, body.v, np.abs(body.u)
    big = float(rng.uniform(0.95, 1.1))
    heart = oval(u, v, (0.042, -0.062), (0.142 * big, 0.098 * big), 0.38)
    front = np.maximum(a - 0.014 - 0.35 * np.clip(-v - 0.13, 0, 1), np.abs(v + 0.14) - 0.13)
    hila = oval(a, v, (0.062, 0.018), (0.052, 0.034), -0.3)
    back = np.maximum(np.abs(u - 0.008) - 0.030, np.abs(v - 0.06) - 0.08)
    aorta = oval(u, v, (0.052, 0.098), (0.033, 0.033))
    joined = np.minimum.reduce([heart, front, hila, back, aorta])
    return joined + 0.0035 * texture(rng, body.size, 18)


def _paint_heart(image: np.ndarray, rng: np.random.Generator, body: Body) -> None:
    """Muscle, four chambers, aorta, gullet; blood is bright where contrast medium was given."""
    u, v = body.u, body.v
    blood = float(rng.uniform(190, 260)) if body.enhanced else 44.0
    wall = 105.0 if body.enhanced else 48.0
    soft = 3 * texture(rng, body.size, 30)
    big = float(rng.uniform(0.94, 1.06))
    heart = oval(u, v, (0.040, -0.055), (0.128 * big, 0.086 * big), 0.38)
    bend = 0.004 * texture(rng, body.size, 14)
    left = oval(u, v, (0.098, -0.055), (0.062 * big, 0.036 * big), 0.62) + bend
    right = oval(u, v, (0.008, -0.112), (0.066 * big, 0.034 * big), 0.42) + bend
    atrium = oval(u, v, (0.022, 0.022), (0.060 * big, 0.030 * big), 0.05) + bend
    other = oval(u, v, (-0.070, -0.040), (0.036 * big, 0.048 * big), 0.2) + bend
    veins = capsule(np.abs(u - 0.012), v, (0.05, 0.022), (0.098, 0.026), 0.012, 0.010)
    arteries = oval(np.abs(u - 0.004), v, (0.074, -0.006), (0.016, 0.020), 0.3)
    body.fill(image, heart, wall + soft)
    groove = np.abs(oval(u, v, (-0.026, -0.066), (0.036, 0.056), 0.35)) - 0.0032
    body.fill(image, np.maximum(groove, heart), -60.0)
    mixing = blood + 0.06 * blood * texture(rng, body.size, 10)
    for chamber, share in ((left, 1.0), (right, 0.93), (atrium, 1.0), (other, 0.9), (veins, 1.0),
                           (arteries, 0.95)):  # fmt: skip
        body.fill(image, chamber, share * mixing + soft)
    aorta = oval(u, v, (0.052, 0.098), (0.029, 0.029))
    body.fill(image, aorta, 40.0)
    body.fill(image, aorta + 0.003, blood)
    if rng.random() < 0.4:
        turn = rng.uniform(0, 6.28)
        spot = (0.052 + 0.028 * np.cos(turn), 0.098 + 0.028 * np.sin(turn))
        body.fill(image, oval(u, v, spot, (0.005, 0.005)), 600.0)
    gullet = oval(u, v, (0.006, 0.074), (0.015, 0.010))
    body.fill(image, gullet, 40.0)
    body.fill(image, gullet + 0.0065, -500.0 if rng.random() < 0.6 else 30.0)
    body.fill(image, oval(u, v, (-0.026, 0.098), (0.008, 0.008)), blood * 0.85)


def _paint_lungs(
    image: np.ndarray, rng: np.random.Generator, body: Body, lung: np.ndarray
) -> np.ndarray:
    """Parenchyma denser below, vessels and airways from the hila; returns the airways' coverage."""
    size = body.size
    air = -850 + float(rng.uniform(-20, 30)) + 190 * np.clip(body.v + 0.05, -0.2, 0.4)
    tissue = air + 16 * texture(rng, size, 22) + 16 * texture(rng, size, 60)
    inside = cover(lung, body.pixel)
    paint(image, inside, tissue)
    blood = 150.0 if body.enhanced else 45.0
    sides = np.repeat([-1.0, 1.0], 9)
    roots = np.stack([sides * 0.085, np.tile(np.linspace(-0.02, 0.05, 9), 2)], 1)
    spread = np.tile(np.linspace(-1.5, 1.35, 9), 2) + rng.normal(0, 0.12, 18)
    heading = np.where(sides > 0, spread, np.pi - spread)
    length = rng.uniform(0.13, 0.21, 18)
    x, y, r = grow_tree(rng, roots, heading, length, rng.uniform(0.0045, 0.0072, 18), 3, 3, 0.35)
    cross = rng.uniform(-0.45, 0.45, (2, 150))
    thick = rng.gamma(2.0, 0.0009, 150) + 0.0009
    x, y, r = (np.concatenate(p) for p in ((x, cross[0]), (y, 0.6 * cross[1]), (r, thick)))
    paint(image, discs(size, x, y, r) * cover(lung + 0.003, body.pixel), blood)
    pick = rng.permutation(18)[:7]
    tubes = grow_tree(rng, roots[pick] + 0.008, heading[pick] + 0.12, length[pick] * 0.6,
                      rng.uniform(0.0055, 0.0085, 7), 2, 2, 0.2)  # fmt: skip
    wall = discs(size, tubes[0], tubes[1], tubes[2] + 0.0022) * inside
    lumen = discs(size, tubes[0], tubes[1], tubes[2]) * inside
    paint(image, wall * (1 - lumen), -250.0)
    paint(image, lumen, -960.0)
    main = np.minimum(
        oval(body.u, body.v, (-0.052, 0.030), (0.013, 0.011), 0.4),
        oval(body.u, body.v, (0.070, 0.034), (0.012, 0.010), -0.4),
    )
    body.fill(image, main - 0.003, 40.0)
    body.fill(image, main, -970.0)
    return lumen


def _nodules(
    rng: np.random.Generator, chest: Chest, side: str, extent: str, count: int, spiculated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and mask of `count` nodules that keep apart in one lung."""
    body, sign = chest.body, 1.0 if side == "left" else -1.0
    low, high = DIAMETER[extent]
    for attempt in range(60):
        share = np.zeros(body.u.shape, np.float32)
        mask = np.zeros(body.u.shape, bool)
        radius = rng.uniform(low, high) / 2 * 0.97**attempt
        room = np.argwhere((sign * body.u > 0) & (chest.lung < -0.85 * radius))
        for _ in range(count if len(room) else 0):
            row, column = room[rng.integers(len(room))]
            centre = (float(body.u[row, column]), float(body.v[row, column]))
            border = harmonics(rng, 0.10 if spiculated else 0.03)
            distance = blob(body.u, body.v, centre, radius, border, rng.uniform(1, 1.15),
                            rng.uniform(0, 3.1))  # fmt: skip
            mask |= distance < 0
            share = np.maximum(share, cover(distance, 1.4 * body.pixel))
            if spiculated:
                turns = np.linspace(0, 6.28, 13)[:-1] + rng.normal(0, 0.15, 12)
                t = np.linspace(0.8, 1.0, 10)[None] * np.ones((12, 1))
                t = 0.8 + (t - 0.8) / 0.2 * rng.uniform(0.35, 0.95, (12, 1))
                x0, y0 = (column + 0.5) / body.size - 0.5, (row + 0.5) / body.size - 0.5
                x = x0 + radius * t * np.cos(turns[:, None])
                y = y0 + radius * t * np.sin(turns[:, None])
                rays = discs(body.size, x.ravel(), y.ravel(), 0.0042 * (1.75 - t).ravel())
                share = np.maximum(share, 0.75 * rays)
        clear = cover(chest.lung, body.pixel)
        if len(room) and count_components(mask) == count and (mask & (clear < 0.5)).sum() == 0:
            return share * clear, mask
    raise CannotDraw(f"no room for {count} {extent} nodules in this chest")


def _region(
    rng: np.random.Generator, chest: Chest, finding: str, side: str, extent: str
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and mask of fluid (sinks), air (rises) or a filled segment in one lung."""
    body, sign = chest.body, 1.0 if side == "left" else -1.0
    lung = largest((sign * body.u > 0) & (chest.lung < 0))
    rough = texture(rng, body.size, 12)
    lateral = np.clip(sign * body.u / 0.33, 0, 1.1)
    if finding == "effusion":  # a level that climbs along the chest wall
        order = -body.v - 0.055 * (2 * lateral - 1) ** 2 * np.sign(lateral - 0.5) + 0.003 * rough
    elif finding == "pneumothorax":
        order = body.v - 0.07 * lateral**2 + 0.002 * rough
    else:  # from the pleura inwards around a segment
        seed = rng.uniform(-0.9, 0.9)
        centre = (sign * 0.33 * np.cos(seed), 0.20 * np.sin(seed))
        order = np.hypot(body.u - centre[0], body.v - centre[1]) + 0.016 * rough
    edge = np.quantile(order[lung], rng.uniform(*LUNG_SHARE[extent]))
    mask = largest(lung & (order < edge))
    soft = 0.012 if finding == "consolidation" else 1.5 * body.pixel
    share = cover(order - edge, soft) * cover(chest.lung - body.pixel, body.pixel)
    return share * (sign * body.u > 0) * _around(mask), mask


def _around(mask: np.ndarray) -> np.ndarray:
    """The mask and two pixels around it: paint stays with its own region."""
    return np.asarray(ndimage.binary_dilation(mask, iterations=2))


def _values(
    rng: np.random.Generator, chest: Chest, finding: str, share: np.ndarray
) -> float | np.ndarray:
    """HU of the finding: fluid is flat, a filled lung keeps its airways."""
    if finding == "effusion":
        return float(rng.uniform(5, 22))
    if finding == "pneumothorax":
        line = np.exp(-(((share - 0.35) / 0.3) ** 2))
        return np.asarray(AIR + 10 + 330 * line * (share < 0.9), np.float32)
    if finding == "nodule":
        return float(rng.uniform(10, 60)) + 12 * texture(rng, chest.body.size, 40)
    rough = texture(rng, chest.body.size, 30)
    filled = chest.solid * 0.5 - 10 + 25 * rough - 60 * np.clip(rough - 1, 0, 1)
    return np.asarray(filled + chest.airways * (-850 - filled), np.float32)


MARGINS = ("smooth", "spiculated")
KIND = Kind(
    name="CT-chest",
    modality="CT",
    anatomy="chest",
    dicom="CT",
    draw=draw,
    findings=TOLD,
    attributes={
        "contrast": CONTRAST,
        "margin": Attribute(
            "attribute", ("What margin does the nodule have?",), MARGINS, of={"nodule": MARGINS}
        ),
    },
    no_article=frozenset({"consolidation"}),
)
