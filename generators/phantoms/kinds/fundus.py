"""Colour photograph of the retina: disc and cup, macula, a tree of arteries and veins.

Findings: diabetic retinopathy (its grade is the number of its lesions), macular degeneration
(drusen), branch vein occlusion, glaucoma (the cup's share of the disc). Which eye is seen is drawn
apart from all of them. Colour is a base of pigment and choroid, darkened by absorption in blood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import Phantom, Truth, count_components, until_visible
from generators.phantoms.canvas import (
    blob,
    cover,
    discs,
    grid,
    grow_tree,
    harmonics,
    oval,
    paint,
    streams,
    texture,
)
from generators.phantoms.kind import Attribute, Kind, severity

TOLD = dict.fromkeys(
    ("diabetic retinopathy", "macular degeneration", "vein occlusion", "glaucoma"), ()
)
FINDINGS = ("none", *TOLD)
FIELD_MM = 15.0  # of retina across a photograph of 50 degrees
LESIONS = {"mild": (4, 8), "moderate": (14, 21), "severe": (34, 47)}  # drawn for each grade
MODERATE, SEVERE = 10, 27  # and the counts in the mask from which a grade is told
CUPS = {"healthy": (0.2, 0.4), "glaucoma": (0.6, 0.8)}
NOISE = 0.012
LEAST_PX = 0.8  # radius below which a spot falls between pixels


@dataclass(frozen=True, slots=True)
class Eye:
    """A healthy eye: colour (H, W, 3) in 0..1, where disc and fovea lie, distances to both."""

    image: np.ndarray
    disc: tuple[float, float]
    fovea: tuple[float, float]
    rim: np.ndarray
    cup: np.ndarray
    field: np.ndarray
    vessels: np.ndarray
    side: str
    pallor: np.ndarray


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one photograph; equal arguments give equal pixels, (size, size, 3) uint8 RGB.

    `difficulty` in [0, 1] makes findings fainter and noise stronger, `finding` is one of FINDINGS
    or None for a uniform draw. A twin (`finding="none"`) has the same anatomy and noise.
    """
    of_anatomy, of_finding, of_noise = streams(seed)
    chosen = FINDINGS[of_finding.integers(len(FINDINGS))]
    finding = chosen if finding is None else finding
    eye = _eye(of_anatomy, size, asked)
    sigma = float(of_noise.uniform(0.8, 1.2) * NOISE * (0.7 + difficulty))
    grain = of_noise.standard_normal((size, size, 3), np.float32) * np.float32(255 * sigma)
    grain[:, 1:] = 0.6 * grain[:, 1:] + 0.4 * grain[:, :-1]
    told = {"eye": eye.side}
    twin = _stored(eye, eye.image, grain)
    mask = np.zeros((size, size), bool)
    if finding == "none":
        told |= _cup_told(eye.cup, eye.rim)
        truth = Truth("fundus", "eye", "none", attributes=told)
        return Phantom(twin, mask, truth, FIELD_MM / size, None, seed, difficulty)
    layers, mask, more = _finding(of_finding, eye, finding, asked)
    cup = layers[0][0] if finding == "glaucoma" else None
    told |= _cup_told(eye.cup if cup is None else 0.5 - cup, eye.rim) | more

    def render(effective: float) -> np.ndarray:
        ill = eye.image.copy()
        for share, colour in layers:
            paint(ill, share * (1 - 0.5 * max(effective, -0.2)), colour)
        return _stored(eye, ill, grain)

    pixels, cnr = until_visible(render, twin, mask, 255 * sigma + 2, difficulty)
    truth = Truth("fundus", "eye", finding, None, count_components(mask), None, None, cnr, told)
    return Phantom(pixels, mask, truth, FIELD_MM / size, None, seed, difficulty)


def _stored(eye: Eye, image: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """8-bit colour inside the camera's round field, black outside it."""
    seen = (image * 255 + grain) * eye.field[..., None]
    return np.rint(np.clip(seen, 0, 255)).astype(np.uint8)


def _cup_told(cup: np.ndarray, rim: np.ndarray) -> dict[str, str]:
    """The vertical cup-to-disc ratio as drawn, exact and to the nearest even tenth."""
    tall = [max(int((d < 0).any(1).sum()), 1) for d in (cup, rim)]
    ratio = tall[0] / tall[1]
    nearest = min((0.2, 0.4, 0.6, 0.8), key=lambda tenth: abs(tenth - ratio))
    return {"cup_disc": f"{nearest:.1f}", "cup_disc_ratio": f"{ratio:.2f}"}


def _eye(rng: np.random.Generator, size: int, asked: Asked) -> Eye:
    x, y = grid(size)
    side = asked.told("eye", "right" if rng.random() < 0.5 else "left")
    nasal = 1.0 if side == "right" else -1.0  # the disc lies on the nose's side of the fovea
    fovea = (float(-nasal * rng.uniform(0.02, 0.08)), float(rng.uniform(-0.03, 0.03)))
    disc = (
        fovea[0] + nasal * float(rng.uniform(0.27, 0.30)),
        fovea[1] - float(rng.uniform(0, 0.03)),
    )
    radius = np.sqrt(x * x + y * y)
    field = cover(radius - float(rng.uniform(0.465, 0.49)), 2.5 / size)
    image = _background(rng, size, fovea, disc)
    tilt = float(rng.uniform(-0.2, 0.2))
    axes = (float(rng.uniform(0.050, 0.058)), float(rng.uniform(0.058, 0.066)))
    rim = oval(x, y, disc, axes, tilt)
    low = _cup(rng, "healthy", asked)
    inner = (disc[0] + nasal * -0.004, disc[1])
    cup = oval(x, y, inner, (axes[0] * low, axes[1] * low), tilt)
    pallor = np.array([1.0, 0.92, 0.70], np.float32) * float(rng.uniform(0.94, 1.0))
    paint(image, 0.5 * cover(rim - 0.012, 0.035), 0.80 * image + 0.10)
    tissue = (
        np.array([0.95, 0.64, 0.35], np.float32) * (1 + 0.03 * texture(rng, size, 40))[..., None]
    )
    paint(image, cover(rim, 0.010), tissue * float(rng.uniform(0.94, 1.04)))
    paint(image, 0.9 * cover(cup, 0.016), pallor)
    vessels = _vessels(rng, size, disc, fovea, nasal, image)
    light = float(rng.uniform(0.84, 1.2)) - float(rng.uniform(0.9, 1.6)) * (x * x + y * y)
    image *= (light * (1 + 0.05 * texture(rng, size, 3)))[..., None]
    return Eye(image.astype(np.float32), disc, fovea, rim, cup, field, vessels, side, pallor)


def _cup(rng: np.random.Generator, of: str, asked: Asked) -> float:
    """A cup-to-disc ratio: as asked where it is one of healthy discs, or of glaucoma."""
    drawn = CUPS[of][rng.integers(2)]
    wanted = float(asked.told("cup_disc", str(drawn)))
    return (wanted if wanted in CUPS[of] else drawn) + float(rng.uniform(-0.03, 0.03))


def _background(
    rng: np.random.Generator, size: int, fovea: tuple[float, float], disc: tuple[float, float]
) -> np.ndarray:
    """Pigment, choroidal vessels shining through, and the macula's yellow-brown shade."""
    x, y = grid(size)
    tone = rng.uniform(0, 1)
    base = np.array([0.86, 0.42, 0.17]) * (1 - tone) + np.array([0.66, 0.27, 0.11]) * tone
    base = base * rng.uniform(0.9, 1.08) * (1 + rng.normal(0, 0.04, 3))
    image = np.ones((size, size, 3), np.float32) * base.astype(np.float32)
    streaks = np.abs(texture(rng, size, 16, 22)) + 0.5 * np.abs(texture(rng, size, 30, 26))
    shine = float(rng.uniform(0.02, 0.07)) * (1.1 - streaks)
    grain = 0.018 * texture(rng, size, 70) + 0.016 * texture(rng, size, 9)
    image *= (1 + shine + grain)[..., None]
    image[..., 1] *= 1 + 0.6 * shine
    far = (x - fovea[0]) ** 2 + (y - fovea[1]) ** 2
    dark = np.exp(-far / 0.0075) * 0.30 + np.exp(-far / 0.0005) * 0.16
    image *= 1 - dark[..., None] * np.array([0.75, 1.0, 0.9], np.float32)
    reflex = 0.06 * np.exp(-far / 0.00004)
    image += reflex[..., None]
    return image


def _vessels(
    rng: np.random.Generator,
    size: int,
    disc: tuple[float, float],
    fovea: tuple[float, float],
    nasal: float,
    image: np.ndarray,
) -> np.ndarray:
    """Four arcades of a vein and an artery each, branching around the fovea; their coverage."""
    veins: list[tuple[np.ndarray, float]] = []
    arteries: list[tuple[np.ndarray, float]] = []
    for rise in (-1.0, 1.0):
        for out, reach in ((-nasal, 0.66), (nasal, 0.30)):
            for group, shift, wide in ((veins, 0.0, 0.0068), (arteries, 0.12, 0.0048)):
                points = _arcade(rng, disc, out, rise, reach, shift, out == -nasal)
                group.append((points, wide * float(rng.uniform(0.9, 1.1))))
    cover_all = np.zeros((size, size), np.float32)
    x, y = grid(size)
    away = cover(0.038 - np.sqrt((x - fovea[0]) ** 2 + (y - fovea[1]) ** 2), 0.03)
    for group, colour, strength in (
        (veins, (0.46, 0.10, 0.05), 0.86),
        (arteries, (0.62, 0.17, 0.08), 0.80),
    ):
        px, py, pr = _branch_out(rng, group, fovea)
        share = discs(size, px, py, pr) * away
        shade = 0.7 * np.array(colour, np.float32)
        paint(image, strength * share, np.float32(0.30) * image + shade)
        core = discs(size, px, py, 0.28 * pr) * away
        paint(image, 0.22 * core, 1.5 * image)
        cover_all = np.maximum(cover_all, share)
    return cover_all


def _arcade(
    rng: np.random.Generator,
    disc: tuple[float, float],
    out: float,
    rise: float,
    reach: float,
    shift: float,
    temporal: bool,
) -> np.ndarray:
    """Centre line (2, N) of one trunk: up or down from the disc, then around the macula."""
    t = np.linspace(0, 1, 170)
    height = float(rng.uniform(0.20, 0.26)) + (0.02 if shift else 0.0)
    wiggle = float(rng.uniform(0.004, 0.009)) * np.sin(t * rng.uniform(14, 24) + rng.uniform(0, 6))
    if temporal:
        x = disc[0] + out * (0.012 + reach * t**1.35 - 0.01 * shift)
        y = disc[1] + rise * (height * np.sin(np.minimum(np.pi * 0.62, 2.6 * t)) + 0.0 * t)
    else:
        lean = float(rng.uniform(0.5, 0.9))
        x = disc[0] + out * reach * t * (0.35 + 0.65 * t)
        y = disc[1] + rise * lean * 0.42 * t * (1 - 0.15 * t)
    return np.stack([x + 0.7 * wiggle + shift * 0.05 * out, y + wiggle * (1 - 0.3 * t)])


def _branch_out(
    rng: np.random.Generator, trunks: list[tuple[np.ndarray, float]], fovea: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trunks with branches to both sides, those inwards heading for the macula."""
    xs, ys, rs, roots, heads, wide, long = [], [], [], [], [], [], []
    for points, width in trunks:
        taper = width * (1 - 0.62 * np.linspace(0, 1, points.shape[1]))
        xs.append(points[0])
        ys.append(points[1])
        rs.append(taper)
        slope = np.arctan2(*np.gradient(points, axis=1)[::-1])
        for at in rng.integers(12, points.shape[1] - 6, 9):
            inward = np.array(fovea) - points[:, at]
            lean = np.sign(np.sin(np.arctan2(inward[1], inward[0]) - slope[at]))
            turn = lean if rng.random() < 0.5 else -lean
            roots.append(points[:, at])
            heads.append(slope[at] + turn * rng.uniform(0.45, 0.95))
            wide.append(taper[at] * rng.uniform(0.5, 0.75))
            long.append(rng.uniform(0.09, 0.20) * (0.8 if turn == lean else 1.1))
    tree = grow_tree(rng, np.array(roots), np.array(heads), np.array(long), np.array(wide), 2, 2,
                     0.5, 0.005)  # fmt: skip
    return tuple(np.concatenate([*own, more]) for own, more in zip((xs, ys, rs), tree))


Layers = list[tuple[np.ndarray, np.ndarray]]  # coverage and colour


def _finding(
    rng: np.random.Generator, eye: Eye, finding: str, asked: Asked
) -> tuple[Layers, np.ndarray, dict[str, str]]:
    """What to paint, the mask of it, and what is told of it."""
    if finding == "glaucoma":
        return _glaucoma(rng, eye, asked)
    if finding == "vein occlusion":
        return _occlusion(rng, eye, asked)
    grade = asked.told("severity", str(rng.choice(list(LESIONS))))
    if finding == "diabetic retinopathy":
        layers, mask = _retinopathy(rng, eye, int(rng.integers(*LESIONS[grade])))
    else:
        layers, mask = _drusen(rng, eye, int(rng.integers(*LESIONS[grade])))
    number = count_components(mask)
    shown = "mild" if number < MODERATE else "moderate" if number < SEVERE else "severe"
    return layers, mask, {"severity": shown}


def _spots(
    rng: np.random.Generator, eye: Eye, number: int, spread: float, gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """`number` places in the field, apart from each other and from the disc."""
    found: list[tuple[float, float]] = []
    for attempt in range(4000):
        r, turn = spread * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        x, y = eye.fovea[0] + r * np.cos(turn), eye.fovea[1] + r * np.sin(turn)
        near = gap * 0.999 ** max(0, attempt - 400)
        apart = all((x - a) ** 2 + (y - b) ** 2 > near**2 for a, b in found)
        clear = np.hypot(x - eye.disc[0], y - eye.disc[1]) > 0.09 and np.hypot(x, y) < 0.42
        if apart and clear:
            found.append((x, y))
            if len(found) == number:
                break
    x, y = np.array(found).T
    return x, y


def _retinopathy(rng: np.random.Generator, eye: Eye, number: int) -> tuple[Layers, np.ndarray]:
    """Microaneurysms and blot haemorrhages, hard exudates, soft exudates where there are many."""
    size = eye.rim.shape[0]
    x, y = _spots(rng, eye, number, 0.36, 0.036)
    kind = rng.random(number)
    red = kind < 0.6
    radius = np.where(red, rng.gamma(3, 0.0026, number) + 0.0035, rng.uniform(0.005, 0.009, number))
    radius = np.minimum(radius, 0.0145)
    blood = _ragged(rng, size, x[red], y[red], radius[red])
    fat = _ragged(rng, size, x[~red], y[~red], radius[~red])
    soft = np.zeros_like(blood)
    if number > 12:
        at = rng.integers(0, number, 2)
        for spot in at:
            distance = blob(*grid(size), (x[spot] + 0.0, y[spot]), 0.017, harmonics(rng, 0.2))
            soft = np.maximum(soft, cover(distance, 0.016))
    mask = np.maximum.reduce([blood, fat, soft]) > 0.5
    layers = [
        (0.75 * soft, np.array([0.95, 0.83, 0.60])),
        (0.92 * blood, np.array([0.40, 0.07, 0.04])),
        (0.95 * fat, np.array([1.0, 0.86, 0.42])),
    ]
    return layers, mask


def _ragged(
    rng: np.random.Generator, size: int, x: np.ndarray, y: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """Coverage of small irregular spots: each a clump of three discs."""
    radius = np.maximum(radius, LEAST_PX / size)
    turn = rng.uniform(0, 2 * np.pi, (3, len(x)))
    px = (x + 0.55 * radius * np.cos(turn)).ravel()
    py = (y + 0.55 * radius * np.sin(turn)).ravel()
    return discs(size, px, py, np.tile(0.75 * radius, 3))


def _drusen(rng: np.random.Generator, eye: Eye, number: int) -> tuple[Layers, np.ndarray]:
    """Pale yellow spots with soft borders, crowded in the macula."""
    size = eye.rim.shape[0]
    x, y = _spots(rng, eye, number, 0.17, 0.03)
    radius = rng.uniform(0.006, 0.0125, number)
    radius = np.maximum(radius, LEAST_PX / size)
    core = discs(size, x, y, radius)
    halo = discs(size, x, y, radius + 0.005)
    colour = np.array([0.98, 0.78, 0.40])
    return [(0.35 * halo, colour), (0.6 * core, colour)], core > 0.5


def _occlusion(
    rng: np.random.Generator, eye: Eye, asked: Asked
) -> tuple[Layers, np.ndarray, dict[str, str]]:
    """Flame-shaped haemorrhages along the nerve fibres of the upper or lower temporal quarter."""
    size = eye.rim.shape[0]
    rise = asked.told("quadrant", "superior" if rng.random() < 0.5 else "inferior")
    up = -1.0 if rise == "superior" else 1.0
    temporal = np.sign(eye.fovea[0] - eye.disc[0])
    number = int(rng.integers(70, 120))
    along = rng.beta(1.3, 1.8, number) * 0.44 + 0.06
    lean = rng.uniform(0.35, 1.25, number)
    x = eye.disc[0] + temporal * along * np.cos(lean)
    y = eye.disc[1] + up * along * np.sin(lean)
    heading = np.arctan2(up * np.sin(lean * 0.75), temporal * np.cos(lean * 0.75))
    t = np.linspace(-1, 1, 12)[:, None]
    long, wide = rng.gamma(3, 0.006, number) + 0.004, rng.gamma(3, 0.0014, number) + 0.0015
    heading += rng.normal(0, 0.2, number)
    px = (x + t * long * np.cos(heading)).ravel()
    py = (y + t * long * np.sin(heading)).ravel()
    pr = np.maximum((1 - 0.75 * t * t) * wide, LEAST_PX / size).ravel()
    keep = np.hypot(px, py) < 0.46
    blood = discs(size, px[keep], py[keep], pr[keep])
    layers: Layers = [(0.88 * blood, np.array([0.42, 0.07, 0.04]))]
    return layers, blood > 0.5, {"quadrant": rise}


def _glaucoma(
    rng: np.random.Generator, eye: Eye, asked: Asked
) -> tuple[Layers, np.ndarray, dict[str, str]]:
    """A cup that takes up most of the disc, pale, the vessels bent over its edge."""
    ratio = _cup(rng, "glaucoma", asked)
    size = eye.rim.shape[0]
    x, y = grid(size)
    rows = np.nonzero((eye.rim < 0).any(1))[0]
    columns = np.nonzero((eye.rim < 0).any(0))[0]
    axes = (np.ptp(columns) / 2 / size * ratio, np.ptp(rows) / 2 / size * ratio + 0.5 / size)
    centre = (float(columns.mean() + 0.5) / size - 0.5, float(rows.mean() + 0.5) / size - 0.5)
    distance = oval(x, y, centre, (float(axes[0]), float(axes[1])))
    mask = (distance < 0.5 / size) & (eye.cup > 0)
    share = cover(distance, 0.010)
    return [(share, 0.12 * eye.image + 0.88 * eye.pallor)], mask, {}


_CUPS = dict.fromkeys(FINDINGS, ("0.2", "0.4")) | {"glaucoma": ("0.6", "0.8")}
_BRANCHES = ("superior", "inferior")
KIND = Kind(
    name="fundus",
    modality="fundus",
    anatomy="eye",
    dicom="OP",
    draw=draw,
    findings=TOLD,
    attributes={
        "eye": Attribute("attribute", ("Which eye is this?",), ("left", "right")),
        "cup_disc": Attribute(
            "attribute",
            ("What is the cup-to-disc ratio?",),
            ("0.2", "0.4", "0.6", "0.8"),
            "cup {}",
            _CUPS,
        ),
        "quadrant": Attribute(
            "attribute",
            ("Is the superior or the inferior branch occluded?",),
            _BRANCHES,
            of={"vein occlusion": _BRANCHES},
        ),
        "severity": severity("diabetic retinopathy", "macular degeneration"),
    },
    no_article=frozenset(TOLD),
)
