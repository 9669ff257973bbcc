"""CT of the abdomen in Hounsfield units, at the level of liver, spleen, pancreas and kidneys.

Findings: liver metastasis, kidney cyst, kidney stone, hydronephrosis. Half of the patients have had
contrast medium (portal venous phase).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.phantoms.asked import NOTHING, Asked, CannotDraw
from generators.phantoms.base import Phantom, count_components
from generators.phantoms.canvas import (
    blob,
    capsule,
    cover,
    discs,
    grow_tree,
    harmonics,
    oval,
    paint,
    streams,
    texture,
)
from generators.phantoms.kind import EACH, Kind
from generators.phantoms.torso import (
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

TOLD = {
    "liver metastasis": ("count", "size"),
    **dict.fromkeys(("kidney cyst", "kidney stone", "hydronephrosis"), EACH),
}
FINDINGS = ("none", *TOLD)
WINDOWS = ((50.0, 400.0), (40.0, 350.0))
DIAMETER = {
    "liver metastasis": {"small": (0.04, 0.05), "medium": (0.072, 0.088), "large": (0.125, 0.15)},
    "kidney cyst": {"small": (0.034, 0.042), "medium": (0.06, 0.072), "large": (0.11, 0.13)},
    "kidney stone": {"small": (0.014, 0.018), "medium": (0.026, 0.032), "large": (0.045, 0.055)},
}
PELVIS = {"small": 0.012, "medium": 0.021, "large": 0.031}  # radius of a dilated renal pelvis


@dataclass(frozen=True, slots=True)
class Kidney:
    """Signed distance to a kidney, where it lies and how it is turned."""

    distance: np.ndarray
    centre: tuple[float, float]
    sign: float  # of u: -1 for the patient's right
    turn: float


@dataclass(frozen=True, slots=True)
class Abdomen:
    """A healthy abdomen: HU, the liver as a signed distance, the kidneys by side."""

    body: Body
    image: np.ndarray
    liver: np.ndarray
    kidneys: dict[str, Kidney]


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
    abdomen = _abdomen(of_anatomy, size, asked)
    window = WINDOWS[of_anatomy.integers(len(WINDOWS))]
    sigma = float(of_noise.uniform(7, 10) + 8 * difficulty)
    grain = noise(of_noise, abdomen.body, sigma)
    told = {"contrast": "enhanced" if abdomen.body.enhanced else "unenhanced"}
    scan = Scan("abdomen", seed, difficulty, abdomen.image, grain, sigma, window, told)
    if finding == "none":
        return scan.without()
    side: str | None = "left" if asked.left_or(of_finding.random() < 0.5) else "right"
    drawn = SIZE_AND_COUNT[of_finding.integers(len(SIZE_AND_COUNT))]
    if finding == "hydronephrosis":
        extent, _ = asked.extent(ONE_OF_A_SIZE[of_finding.integers(3)], ONE_OF_A_SIZE)
        share, mask = _dilate(abdomen, abdomen.kidneys[str(side)], extent)
    else:
        extent, count = asked.extent(drawn, SIZE_AND_COUNT)
        within = None if finding == "liver metastasis" else abdomen.kidneys[str(side)]
        share, mask = _lesions(of_finding, abdomen, within, finding, extent, count)
    side = None if finding == "liver metastasis" else side
    rough = texture(of_finding, size, 40)

    def fill(image: np.ndarray, effective: float) -> None:
        _fill(image, abdomen.body, finding, share, rough, effective)

    return scan.having(finding, side, extent, mask, fill)


def _fill(
    image: np.ndarray, body: Body, finding: str, share: np.ndarray, rough: np.ndarray, faint: float
) -> None:
    if finding == "kidney stone":
        paint(image, share, 750.0 - 350.0 * faint)
    elif finding == "kidney cyst":
        paint(image, share, 4.0 + 8 * faint)
    elif finding == "hydronephrosis":
        paint(image, share, 8.0 * faint - 2.0)
    else:  # a dark centre in a slightly brighter rim
        paint(image, share, (62.0 if body.enhanced else 38.0) - 14 + 16 * faint + 5 * rough)
        paint(image, np.clip(2 * share - 1, 0, 1) ** 6 * 0.7, 22.0 + 14 * faint + 5 * rough)


def _abdomen(rng: np.random.Generator, size: int, asked: Asked) -> Abdomen:
    body = draw_body(rng, size, asked)
    u, v = body.u, body.v
    image = paint_wall(rng, body, 55.0)
    half = (body.half[0] - body.fat - 0.040, body.half[1] - body.fat - 0.036)
    cavity = shell(u, v, half) + 0.004 * texture(rng, size, 8)
    spine_at = half[1] - 0.105
    paint_ribs(image, rng, body, (half[0] + 0.014, half[1] + 0.012), (1.0, -0.35), 5)
    seam = np.maximum(np.abs(np.abs(cavity - 0.016) - 0.005) - 0.0018, v - 0.12)
    body.fill(image, np.maximum(seam, 0.12 - np.abs(u)), FAT)
    body.fill(image, np.maximum(np.abs(u) - 0.006, np.abs(v + half[1] + 0.012) - 0.02), FAT)
    body.fill(image, cavity, FAT + 9 * texture(rng, size, 26))
    paint_spine(image, rng, body, spine_at)
    solid = _Tissue(rng, body)
    _paint_psoas(image, body, spine_at, solid.muscle)
    _paint_bowel(image, rng, body, cavity, solid)
    kidneys = {
        "right": _kidney(image, rng, body, -1.0, spine_at, solid),
        "left": _kidney(image, rng, body, 1.0, spine_at, solid),
    }
    _paint_vessels(image, rng, body, spine_at, solid)
    _paint_pancreas(image, rng, body, solid)
    _paint_stomach(image, rng, body, cavity, solid)
    _paint_spleen(image, rng, body, cavity, kidneys["left"], solid)
    liver = _paint_liver(image, rng, body, cavity, kidneys["right"], solid)
    return Abdomen(body, image, liver, kidneys)


class _Tissue:
    """HU of this patient's organs, with or without contrast medium, and their grain."""

    def __init__(self, rng: np.random.Generator, body: Body) -> None:
        on = body.enhanced
        self.liver = float(rng.uniform(100, 120) if on else rng.uniform(50, 64))
        self.spleen = float(rng.uniform(115, 132) if on else rng.uniform(44, 52))
        self.cortex = float(rng.uniform(170, 200) if on else 34.0)
        self.medulla = float(rng.uniform(125, 150) if on else 28.0)
        self.blood = float(rng.uniform(150, 185) if on else 42.0)
        self.pancreas = 95.0 if on else 40.0
        self.wall = 85.0 if on else 38.0
        self.muscle = 62.0 if on else 54.0
        self.grain = texture(rng, body.size, 45)


def _paint_psoas(image: np.ndarray, body: Body, at: float, muscle: float) -> None:
    a, v = np.abs(body.u), body.v
    body.fill(image, oval(a, v, (0.082, at + 0.022), (0.030, 0.038), -0.3), muscle)
    body.fill(image, capsule(a, v, (0.105, at + 0.085), (0.155, at + 0.07), 0.026, 0.02), muscle)
    crus = capsule(a, v, (0.028, at - 0.055), (0.052, at - 0.01), 0.006, 0.009)
    body.fill(image, crus, muscle)


def _kidney(
    image: np.ndarray,
    rng: np.random.Generator,
    body: Body,
    sign: float,
    spine_at: float,
    tissue: _Tissue,
) -> Kidney:
    """Cortex, medullary pyramids, sinus fat and renal vein of one kidney."""
    u, v = sign * body.u, body.v
    centre = (float(rng.uniform(0.165, 0.185)), spine_at + float(rng.uniform(-0.022, 0.012)))
    turn = float(rng.uniform(0.55, 0.95))
    k = float(rng.uniform(0.92, 1.08))
    outer = oval(u, v, centre, (0.074 * k, 0.055 * k), turn) + 0.002 * texture(rng, body.size, 16)
    inward = (centre[0] - 0.062 * k, centre[1] - 0.030 * k)
    hilum = capsule(u, v, inward, (centre[0] - 0.012, centre[1] - 0.004), 0.020, 0.008)
    kidney = np.maximum(outer, -hilum)
    body.fill(image, kidney, tissue.cortex + 3 * tissue.grain)
    for step in np.linspace(-2.0, 2.0, 6) + rng.uniform(-0.1, 0.1, 6):
        angle = turn * 0.5 + step
        spot = (centre[0] + 0.040 * k * np.cos(angle), centre[1] + 0.029 * k * np.sin(angle))
        box, near = body.part((sign * spot[0], spot[1]), 0.02)
        pyramid = oval(sign * near.u, near.v, spot, (0.015, 0.010), angle)
        near.fill(image[box], np.maximum(pyramid, kidney[box] + 0.008), tissue.medulla)
    sinus = oval(u, v, (centre[0] - 0.010, centre[1] - 0.006), (0.026 * k, 0.015 * k), turn)
    ragged = sinus + 0.005 * texture(rng, body.size, 30)
    body.fill(image, ragged, FAT + 40 + 22 * tissue.grain)
    vein = capsule(u, v, (centre[0] - 0.02, centre[1] - 0.008), (0.035, spine_at - 0.055),
                   0.006, 0.008)  # fmt: skip
    body.fill(image, vein, 0.93 * tissue.blood)
    return Kidney(kidney, (sign * centre[0], centre[1]), sign, turn)


def _paint_vessels(
    image: np.ndarray, rng: np.random.Generator, body: Body, at: float, tissue: _Tissue
) -> None:
    u, v = body.u, body.v
    aorta = oval(u, v, (0.016, at - 0.066), (0.024, 0.024))
    body.fill(image, aorta, tissue.blood * 0.95 + 12)
    if rng.random() < 0.5:
        turn = rng.uniform(0, 6.28)
        spot = (0.016 + 0.022 * np.cos(turn), at - 0.066 + 0.022 * np.sin(turn))
        body.fill(image, oval(u, v, spot, (0.007, 0.004), turn + 1.57), 550.0)
    body.fill(image, oval(u, v, (-0.046, at - 0.060), (0.026, 0.019), 0.2), tissue.blood * 0.92)
    for spot, r in (((0.012, at - 0.112), 0.0085), ((-0.014, at - 0.116), 0.0115)):
        body.fill(image, oval(u, v, spot, (r, r)), tissue.blood)


def _paint_pancreas(
    image: np.ndarray, rng: np.random.Generator, body: Body, tissue: _Tissue
) -> None:
    u, v, y = body.u, body.v, float(rng.uniform(-0.055, -0.035))
    lobes = 0.006 * texture(rng, body.size, 34)
    parts = (
        capsule(u, v, (-0.075, y + 0.055), (-0.035, y + 0.006), 0.028, 0.022),
        capsule(u, v, (-0.035, y + 0.006), (0.055, y - 0.012), 0.019, 0.016),
        capsule(u, v, (0.055, y - 0.012), (0.155, y + 0.03), 0.016, 0.014),
    )
    gland = np.minimum.reduce(parts) + lobes
    body.fill(image, gland, tissue.pancreas + 6 * tissue.grain)
    vein = capsule(u, v, (-0.01, y + 0.022), (0.15, y + 0.046), 0.008, 0.006)
    body.fill(image, vein, tissue.blood)


def _paint_stomach(
    image: np.ndarray, rng: np.random.Generator, body: Body, cavity: np.ndarray, tissue: _Tissue
) -> None:
    """Stomach with fluid, food and a level of air; the wall takes up contrast medium."""
    u, v = body.u, body.v
    high = float(rng.uniform(-0.165, -0.145))
    bent = 0.008 * texture(rng, body.size, 7)
    bag = oval(u, v, (0.155, high), (float(rng.uniform(0.105, 0.13)), 0.068), 0.35) + bent
    outlet = capsule(u, v, (0.07, high + 0.02), (-0.02, high + 0.045), 0.038, 0.024) + bent
    stomach = np.maximum(np.minimum(bag, outlet), cavity + 0.012)
    body.fill(image, stomach, tissue.wall)
    body.fill(image, stomach + 0.009 + 0.003 * tissue.grain, 22 + 12 * texture(rng, body.size, 25))
    level = high - float(rng.uniform(0.0, 0.03))
    body.fill(image, np.maximum(stomach + 0.011, v - level), -900.0)


def _paint_bowel(
    image: np.ndarray, rng: np.random.Generator, body: Body, cavity: np.ndarray, tissue: _Tissue
) -> None:
    """Loops of small bowel in the middle, colon with gas and stool in front and at the sides."""
    spots = zip(rng.uniform(-0.10, 0.24, 11), rng.uniform(-0.10, 0.07, 11))
    for number, spot in enumerate(spots):
        axes = (float(rng.uniform(0.028, 0.042)), float(rng.uniform(0.018, 0.026)))
        box, near = body.part(spot, 0.05)
        loop = oval(near.u, near.v, spot, axes, rng.uniform(0, 3.1))
        loop = np.maximum(loop, cavity[box] + 0.01)
        near.fill(image[box], loop, tissue.wall)
        near.fill(image[box], loop + 0.006, -300.0 if number % 4 == 0 else rng.uniform(5, 40))
    bent, stool = 0.004 * texture(rng, body.size, 16), 10 + 60 * texture(rng, body.size, 50)
    for place in ((0.285, 0.02), (0.02, -0.215), (0.10, -0.20), (-0.235, 0.10)):
        spot = (place[0] + rng.normal(0, 0.015), place[1] + rng.normal(0, 0.008))
        axes = (float(rng.uniform(0.034, 0.05)), float(rng.uniform(0.028, 0.036)))
        box, near = body.part(spot, 0.065)
        gut = oval(near.u, near.v, spot, axes, rng.uniform(0, 3.1)) + bent[box]
        gut = np.maximum(gut, cavity[box] + 0.006)
        near.fill(image[box], gut, tissue.wall)
        near.fill(image[box], gut + 0.006, stool[box])
        level = near.v - float(spot[1] + rng.uniform(-0.02, 0.01))
        near.fill(image[box], np.maximum(gut + 0.007, level), -880.0)


def _paint_spleen(
    image: np.ndarray,
    rng: np.random.Generator,
    body: Body,
    cavity: np.ndarray,
    kidney: Kidney,
    tissue: _Tissue,
) -> None:
    u, v = body.u, body.v
    big = float(rng.uniform(0.9, 1.1))
    outer = oval(u, v, (0.275, 0.045), (0.11 * big, 0.085 * big), 1.25)
    hollow = oval(u, v, (0.205, 0.0), (0.085, 0.075), 1.0)
    bent = 0.006 * texture(rng, body.size, 9)
    spleen = np.maximum.reduce(
        [outer + bent, -hollow - bent, cavity + 0.008, 0.010 - kidney.distance]
    )
    body.fill(image, spleen, tissue.spleen + 2 * tissue.grain)


def _paint_liver(
    image: np.ndarray,
    rng: np.random.Generator,
    body: Body,
    cavity: np.ndarray,
    kidney: Kidney,
    tissue: _Tissue,
) -> np.ndarray:
    """Both lobes with portal and hepatic veins, and a gallbladder more often than not."""
    u, v, size = body.u, body.v, body.size
    bent = 0.008 * texture(rng, size, 8)
    right = oval(u, v, (-0.225, -0.03), (float(rng.uniform(0.175, 0.195)), 0.205), 0.15)
    left = oval(u, v, (-0.05, -0.150), (float(rng.uniform(0.13, 0.17)), 0.072), 0.12)
    dent = oval(u, v, (-0.06, 0.01), (0.092, 0.082), 0.2)
    cleft = capsule(u, v, (-0.075, -0.24), (-0.068, -0.115), 0.006, 0.003)
    liver = np.maximum.reduce([
        np.minimum(right, left) + bent, -dent - bent, -cleft, cavity + 0.008,
        0.010 - kidney.distance,
    ])  # fmt: skip
    body.fill(image, liver, tissue.liver + 2.5 * tissue.grain)
    start = np.array([[-0.115, -0.055]] * 4 + [[-0.11, 0.06]] * 2 + [[-0.06, -0.12]])
    heading = np.array(
        [np.pi, np.pi + 0.5, np.pi - 0.5, np.pi + 1.0, np.pi - 0.3, np.pi + 0.2, -1.2]
    )
    length = rng.uniform(0.12, 0.19, 7)
    x, y, r = grow_tree(rng, start, heading + rng.normal(0, 0.15, 7), length,
                        rng.uniform(0.007, 0.010, 7), 3, 3, 0.3)  # fmt: skip
    inside = cover(liver + 0.012, 2 * body.pixel)
    gain = tissue.blood if body.enhanced else tissue.liver - 12
    paint(image, 0.85 * discs(size, x, y, r) * inside, gain)
    if rng.random() < 0.65:
        gall = oval(u, v, (-0.145, -0.005), (0.044, 0.026), -0.9)
        body.fill(image, gall, 60.0)
        body.fill(image, gall + 0.004, 10.0)
        liver = np.maximum(liver, 0.006 - gall)
    return liver


def _lesions(
    rng: np.random.Generator,
    abdomen: Abdomen,
    kidney: Kidney | None,
    finding: str,
    extent: str,
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and mask of `count` round lesions in the liver, or in or on one kidney."""
    body = abdomen.body
    where = abdomen.liver if kidney is None else kidney.distance
    u = body.u if kidney is None else kidney.sign * body.u
    low, high = DIAMETER[finding][extent]
    for attempt in range(80):
        radius = float(rng.uniform(low, high)) / 2 * 0.985**attempt
        radius = max(radius, 0.8 / body.size)  # smaller ones fall between pixels
        deep = {"liver metastasis": -radius - 0.008, "kidney cyst": -0.25 * radius}.get(
            finding, -0.012
        )
        room = np.argwhere((where < deep) & (where > deep - 0.012 * (kidney is not None)
                                             - 1.0 * (kidney is None)))  # fmt: skip
        share = np.zeros(body.u.shape, np.float32)
        mask = np.zeros(body.u.shape, bool)
        for _ in range(count if len(room) else 0):
            row, column = room[rng.integers(len(room))]
            centre = (float(u[row, column]), float(body.v[row, column]))
            if finding == "kidney cyst" and kidney is not None:  # bulges away from the spine
                centre = (centre[0] + 0.4 * radius, centre[1])
            border = harmonics(rng, 0.07 if finding == "liver metastasis" else 0.025)
            distance = blob(u, body.v, centre, radius, border, rng.uniform(1, 1.12))
            mask |= distance < 0
            soft = 0.010 if finding == "liver metastasis" else 1.3 * body.pixel
            share = np.maximum(share, cover(distance, max(soft, body.pixel)))
        if len(room) and count_components(mask) == count:
            return share, mask
    raise CannotDraw(f"no room for {count} {extent} {finding}")


def _dilate(abdomen: Abdomen, kidney: Kidney, extent: str) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and mask of a renal pelvis and calyces filled with urine."""
    body, r = abdomen.body, PELVIS[extent]
    u, v = kidney.sign * body.u, body.v
    x, y = abs(kidney.centre[0]) - 0.014, kidney.centre[1] - 0.008
    parts = [capsule(u, v, (x - 0.03, y - 0.016), (x, y), r * 0.8, r)]
    for step in (-1.25, -0.45, 0.4, 1.2):
        angle = kidney.turn * 0.5 + step
        end = (x + (0.022 + 0.35 * r) * np.cos(angle), y + (0.018 + 0.25 * r) * np.sin(angle))
        parts.append(capsule(u, v, (x, y), end, 0.5 * r, 0.62 * r))
    distance = np.minimum.reduce(parts)
    return cover(distance, body.pixel), distance < 0


KIND = Kind(
    name="CT-abdomen",
    modality="CT",
    anatomy="abdomen",
    dicom="CT",
    draw=draw,
    findings=TOLD,
    attributes={"contrast": CONTRAST},
    no_article=frozenset({"hydronephrosis"}),
)
