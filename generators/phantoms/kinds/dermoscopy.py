"""Dermoscopy: one lesion on skin under polarised light, in colour.

Findings: nevus, melanoma, seborrheic keratosis, basal cell carcinoma. A Fourier border and a field
of pigment carry what the ABCD rule and pattern analysis look for: border, colours, asymmetry and
structures. Skin tone, hairs, a dark rim and size are drawn apart from the finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import SIZES, Phantom, Truth, diameter_mm, until_visible
from generators.phantoms.canvas import (
    blob,
    cover,
    discs,
    grid,
    grow_tree,
    harmonics,
    largest,
    oval,
    paint,
    streams,
    texture,
)
from generators.phantoms.kind import Attribute, Kind, Spill

TOLD = dict.fromkeys(
    ("nevus", "melanoma", "seborrheic keratosis", "basal cell carcinoma"), ("size",)
)
FINDINGS = ("none", *TOLD)
FIELD_MM = 18.0
DIAMETER = {"small": (0.26, 0.31), "medium": (0.42, 0.48), "large": (0.60, 0.67)}
IRREGULAR = {"nevus": 0.3, "melanoma": 0.75, "seborrheic keratosis": 0.4,
             "basal cell carcinoma": 0.5}  # fmt: skip
STRUCTURES = {
    "nevus": ("pigment network", "globules"),
    "melanoma": ("pigment network", "streaks", "globules"),
    "seborrheic keratosis": ("milia-like cysts",),
    "basal cell carcinoma": ("arborizing vessels",),
}
MALIGNANT = ("melanoma", "basal cell carcinoma")
COLOURS = {
    "light brown": (0.69, 0.46, 0.30),
    "dark brown": (0.40, 0.23, 0.14),
    "black": (0.13, 0.09, 0.08),
    "blue-grey": (0.40, 0.43, 0.49),
    "red": (0.66, 0.34, 0.29),
    "white": (0.88, 0.77, 0.72),
    "pink": (0.88, 0.62, 0.55),
    "tan": (0.78, 0.58, 0.40),
}
MIN_COLOUR = 0.03  # share of the lesion from which a colour counts
Layers = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Form:
    """One lesion, lengths in fractions of the image: `distance` (H, W) to its border is negative
    within, `inside` (H, W) its coverage from 0 to 1."""

    finding: str
    structure: str
    centre: tuple[float, float]
    radius: float
    distance: np.ndarray
    inside: np.ndarray

    @property
    def size(self) -> int:
        return len(self.inside)

    def around(self, r: Any, turn: Any) -> tuple[Any, Any]:
        """(x, y) at a distance and a direction (radians) from the centre."""
        return self.centre[0] + r * np.cos(turn), self.centre[1] + r * np.sin(turn)


@dataclass(frozen=True, slots=True)
class Skin:
    """Healthy skin, (H, W, 3) in 0..1, and what lies over a lesion: hairs and the dark rim."""

    image: np.ndarray
    hair: np.ndarray
    light: np.ndarray
    hairy: bool


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one lesion; equal arguments give equal pixels, (size, size, 3) uint8 RGB.

    `difficulty` in [0, 1] fades the lesion and adds noise, `finding` is one of FINDINGS or None for
    a uniform draw. A twin (`finding="none"`) is the same skin without the lesion.
    """
    of_anatomy, of_finding, of_noise = streams(seed)
    chosen = FINDINGS[of_finding.integers(len(FINDINGS))]
    finding = chosen if finding is None else finding
    skin = _skin(of_anatomy, size, asked)
    sigma = float(of_noise.uniform(1.8, 3.2) + 3.0 * difficulty)
    grain = of_noise.standard_normal((size, size, 1), np.float32) * np.float32(sigma)
    twin = _stored(skin, skin.image, grain)
    told = {"hair": "yes" if skin.hairy else "no"}
    if finding == "none":
        truth = Truth("dermoscopy", "skin", "none", attributes=told)
        mask = np.zeros((size, size), bool)
        return Phantom(twin, mask, truth, FIELD_MM / size, None, seed, difficulty)
    possible = tuple((extent, 1) for extent in SIZES)
    extent, _ = asked.extent(possible[of_finding.integers(3)], possible)
    layers, mask, more = _lesion(of_finding, finding, extent, size, asked)

    def render(effective: float) -> np.ndarray:
        ill = skin.image.copy()
        for share, colour in layers:
            paint(ill, share * (1 - 0.35 * effective), colour)
        return _stored(skin, ill, grain)

    pixels, cnr = until_visible(render, twin, mask, 3 * sigma, difficulty)
    truth = Truth("dermoscopy", "skin", finding, None, 1, extent,
                  diameter_mm(mask, FIELD_MM / size), cnr, told | more)  # fmt: skip
    return Phantom(pixels, mask, truth, FIELD_MM / size, None, seed, difficulty)


def _stored(skin: Skin, image: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """8-bit colour with hairs on top, in the light of the dermatoscope."""
    shown = image.copy()
    paint(shown, skin.hair, np.array([0.16, 0.11, 0.09]))
    shown *= 255 * skin.light[..., None]
    shown += grain * np.clip(skin.light, 0, 1)[..., None]
    return np.rint(np.clip(shown, 0, 255)).astype(np.uint8)


def _skin(rng: np.random.Generator, size: int, asked: Asked) -> Skin:
    """Tone from fair to brown, a mottled flush, fine lines, hairs or none, a dark rim or none."""
    x, y = grid(size)
    tone = float(rng.beta(1.3, 2.0))
    base = np.array([0.93, 0.74, 0.65]) * (1 - tone) + np.array([0.66, 0.46, 0.35]) * tone
    base = base * rng.uniform(0.94, 1.04) * (1 + rng.normal(0, 0.02, 3))
    image = np.ones((size, size, 3), np.float32) * base.astype(np.float32)
    flush = 0.035 * texture(rng, size, 10) + 0.03 * texture(rng, size, 4)
    image *= 1 - flush[..., None] * np.array([0.35, 1.0, 0.9], np.float32)
    turn = float(rng.uniform(0, np.pi))
    lines = _lattice(rng, size, 34, turn)
    image *= (1 + 0.016 * lines + 0.016 * texture(rng, size, 90))[..., None]
    hairy = asked.told("hair", "yes" if rng.random() < 0.5 else "no") == "yes"
    hair = _hairs(rng, size) if hairy else np.zeros((size, size), np.float32)
    fall = 1.03 - float(rng.uniform(0.15, 0.6)) * (x * x + y * y)
    if rng.random() < 0.35:
        rim = float(rng.uniform(0.50, 0.58))
        fall = fall * (0.03 + 0.97 * cover(np.sqrt(x * x + y * y) - rim, 0.03))
    return Skin(image, hair, np.asarray(fall, np.float32), hairy)


def _hairs(rng: np.random.Generator, size: int) -> np.ndarray:
    """Long dark curves, many of them lying the same way."""
    number = int(rng.integers(5, 16))
    way = rng.uniform(0, np.pi)
    heading = way + rng.normal(0, 0.45, number) + np.pi * rng.integers(0, 2, number)
    t = np.linspace(0, 1, 220)[None, :]
    length = rng.uniform(0.4, 1.0, (number, 1))
    angle = heading[:, None] + rng.normal(0, 0.8, (number, 1)) * t
    start = rng.uniform(-0.5, 0.5, (2, number, 1))
    px = start[0] + np.cumsum(np.cos(angle), 1) * length / 220
    py = start[1] + np.cumsum(np.sin(angle), 1) * length / 220
    width = rng.uniform(0.0022, 0.0042, (number, 1)) * (1 - 0.5 * t)
    inside = (np.abs(px) < 0.52) & (np.abs(py) < 0.52)
    return 0.9 * discs(size, px[inside], py[inside], width[inside])


def _lattice(rng: np.random.Generator, size: int, cells: float, turn: float) -> np.ndarray:
    """A bent honeycomb, about -1.5 in the holes and 3 on the lines' crossings, `cells` across."""
    x, y = grid(size)
    wx, wy = (x + 0.35 / cells * texture(rng, size, int(cells * 0.6)),
              y + 0.35 / cells * texture(rng, size, int(cells * 0.6)))  # fmt: skip
    waves = np.zeros((size, size), np.float32)
    for step in range(3):
        c, s = float(np.cos(turn + step * np.pi / 3)), float(np.sin(turn + step * np.pi / 3))
        waves += np.cos(np.float32(2 * np.pi * cells) * (c * wx + s * wy))
    return -waves


def _lesion(
    rng: np.random.Generator, finding: str, extent: str, size: int, asked: Asked
) -> tuple[Layers, np.ndarray, dict[str, str]]:
    """The layers of pigment in painting order, the lesion's mask, and what is told of it."""
    x, y = grid(size)
    radius = float(rng.uniform(*DIAMETER[extent])) / 2
    edge = asked.told("border", "irregular" if rng.random() < IRREGULAR[finding] else "regular")
    irregular = edge == "irregular"
    shift = 0.42 - min(radius, 0.30) if extent != "large" else 0.05
    centre = (float(rng.uniform(-0.25 * shift, 0.25 * shift)),
              float(rng.uniform(-0.25 * shift, 0.25 * shift)))  # fmt: skip
    border = harmonics(rng, 0.17 if irregular else 0.035, 7)
    stretch = float(rng.uniform(1.0, 1.18))
    distance = blob(x, y, centre, radius, border, stretch, rng.uniform(0, 3.1))
    rough = (0.030 if irregular else 0.010) * radius / 0.2
    distance = distance + rough * texture(rng, size, 12) + 0.3 * rough * texture(rng, size, 40)
    sharp = {"seborrheic keratosis": 0.012, "basal cell carcinoma": 0.05}.get(finding, 0.028)
    mask = largest(distance < 0)
    near = ndimage.binary_dilation(mask, iterations=max(2, size // 64))
    inside = cover(distance + sharp / 2, sharp) * near  # without crumbs beside the lesion
    structure = asked.told("structure", str(rng.choice(STRUCTURES[finding])))
    paint_one = {
        "nevus": _melanocytic,
        "melanoma": _melanocytic,
        "seborrheic keratosis": _keratosis,
        "basal cell carcinoma": _carcinoma,
    }[finding]
    layers, patches = paint_one(rng, Form(finding, structure, centre, radius, distance, inside))
    number = _count_colours(patches, mask)
    told = {
        "border": edge,
        "colours": str(number),
        "structure": structure,
        "malignancy": "malignant" if finding in MALIGNANT else "benign",
    }
    return layers, mask, told


Patches = list[np.ndarray]  # where each colour lies, in painting order


def _count_colours(patches: Patches, mask: np.ndarray) -> int:
    """How many colours are left to see: each on at least MIN_COLOUR of the lesion."""
    owner = np.full(mask.shape, -1)
    for number, patch in enumerate(patches):
        owner[patch > 0.5] = number
    shares = np.bincount(owner[mask & (owner >= 0)], minlength=len(patches)) / mask.sum()
    return int((shares >= MIN_COLOUR).sum())


def _spread(rng: np.random.Generator, size: int, cells: int, share: float) -> np.ndarray:
    """Smooth patches that cover about `share` of the plane, 0 to 1."""
    field = texture(rng, size, cells)
    return np.clip(0.5 + 1.1 * (field - np.float32(np.quantile(field, 1 - share))), 0, 1)


def _melanocytic(rng: np.random.Generator, form: Form) -> tuple[Layers, Patches]:
    """Brown pigment, darker within; a melanoma is patchy, with black, blue-grey, red or white."""
    size, inside = form.size, form.inside
    names = ["light brown"]
    extra = ["dark brown"] if rng.random() < 0.8 else []
    if form.finding == "melanoma":
        others = ["black", "blue-grey", "red", "white"]
        extra = ["dark brown", *rng.permutation(others)[: rng.integers(1, 4)]]
    elif rng.random() < 0.15:
        extra.append("black")
    mottle = (1 + 0.06 * texture(rng, size, 40) + 0.05 * texture(rng, size, 16))[..., None]
    base = np.array(COLOURS["light brown"], np.float32) * float(rng.uniform(0.9, 1.06))
    layers: Layers = [(0.85 * inside, base * mottle)]
    patches: Patches = [inside]
    for name in extra:
        if form.finding == "nevus":
            deep = -form.distance / form.radius
            patch = np.clip(1.6 * (deep - (0.30 if name == "dark brown" else 0.55)) + 0.5, 0, 1)
            patch = np.clip(patch + 0.10 * texture(rng, size, 12), 0, 1)
        else:
            patch = _spread(rng, size, 7, 0.42 if name == "dark brown" else 0.22)
        patch = patch * inside
        layers.append((0.8 * patch, np.array(COLOURS[name], np.float32) * mottle))
        patches.append(patch)
        names.append(name)
    layers += _structure(rng, form)
    return layers, patches


def _structure(rng: np.random.Generator, form: Form) -> Layers:
    """A pigment network, globules, or streaks that run out at the border."""
    size, inside = form.size, form.inside
    dark = np.array([0.24, 0.13, 0.08], np.float32)
    if form.structure == "pigment network":
        mesh = _lattice(rng, size, 44 if form.finding == "nevus" else 30, rng.uniform(0, 3.1))
        lines = np.clip(0.25 + 0.40 * mesh, 0, 1) * inside
        fade = 0.75 + 0.25 * texture(rng, size, 10)
        if form.finding == "melanoma":
            fade = _spread(rng, size, 6, 0.6)
        return [(np.clip(0.48 * lines * fade, 0, 1), dark)]
    if form.structure == "globules":
        number = int(rng.integers(50, 110) * (form.radius / 0.2) ** 1.5)
        r = form.radius * np.sqrt(rng.random(number))
        turn = rng.uniform(0, 6.28, number)
        wide = rng.uniform(0.005, 0.008, number) if form.finding == "nevus" else rng.gamma(
            3, 0.0026, number) + 0.003  # fmt: skip
        spots = discs(size, *form.around(r, turn), wide)
        return [(0.75 * spots * inside, dark)]
    number = int(rng.integers(26, 46))
    turn = rng.uniform(0, 6.28) + np.sort(rng.uniform(0, 4.2, number))
    t = np.linspace(0, 1, 26)[:, None]
    reach = form.radius * (0.72 + rng.uniform(0.30, 0.52, number) * t)
    px, py = form.around(reach, turn)
    wide = np.broadcast_to(0.0062 * (1 - 0.65 * t), px.shape)
    rays = discs(size, px.ravel(), py.ravel(), wide.ravel())
    return [(0.85 * rays * cover(form.distance - 0.05, 0.05), dark * 0.8)]


def _keratosis(rng: np.random.Generator, form: Form) -> tuple[Layers, Patches]:
    """A waxy stuck-on plaque with ridges, white milia-like cysts and dark comedo-like openings."""
    size, inside = form.size, form.inside
    base = "tan" if rng.random() < 0.5 else "light brown"
    ridges = texture(rng, size, 26)
    wax = (1 + 0.07 * ridges + 0.05 * texture(rng, size, 60))[..., None]
    layers: Layers = [(0.92 * inside, np.array(COLOURS[base], np.float32) * wax)]
    patches: Patches = [inside]
    if rng.random() < 0.75:
        patch = _spread(rng, size, 8, 0.4) * inside
        layers.append((0.7 * patch, np.array(COLOURS["dark brown"], np.float32) * wax))
        patches.append(patch)
    fissures = np.exp(-((ridges / 0.13) ** 2)) * inside
    layers.append((0.45 * fissures, np.array([0.30, 0.18, 0.11], np.float32)))
    cysts = (int(rng.integers(14, 34)), (0.96, 0.90, 0.80), 0.0085)
    openings = (int(rng.integers(6, 18)), (0.20, 0.12, 0.08), 0.0095)
    for number, colour, wide in (cysts, openings):
        r, turn = 0.9 * form.radius * np.sqrt(rng.random(number)), rng.uniform(0, 6.28, number)
        spots = discs(size, *form.around(r, turn), wide * rng.uniform(0.5, 1.2, number))
        layers.append((0.85 * spots * inside, np.array(colour, np.float32)))
    edge = np.exp(-((form.distance / 0.008) ** 2))
    return [*layers, (0.25 * edge, np.array([0.35, 0.22, 0.15], np.float32))], patches


def _carcinoma(rng: np.random.Generator, form: Form) -> tuple[Layers, Patches]:
    """A pearly pink nodule under branching vessels, most often with blue-grey ovoid nests."""
    size, inside = form.size, form.inside
    x, y = grid(size)
    pearl = 0.10 * np.clip(-form.distance / form.radius, 0, 1)
    sheen = (1 + 0.04 * texture(rng, size, 20) + pearl)[..., None]
    layers: Layers = [(0.8 * inside, np.array(COLOURS["pink"], np.float32) * sheen)]
    patches: Patches = [inside]
    if rng.random() < 0.4:
        patch = _spread(rng, size, 6, 0.2) * inside
        layers.append((0.6 * patch, np.array(COLOURS["white"], np.float32)))
        patches.append(patch)
    nests = np.zeros_like(inside)
    for _ in range(int(rng.integers(2, 7)) if rng.random() < 0.75 else 0):
        r, turn = 0.75 * form.radius * np.sqrt(rng.random()), rng.uniform(0, 6.28)
        spot = form.around(r, turn)
        axes = (form.radius * rng.uniform(0.14, 0.30), form.radius * rng.uniform(0.10, 0.2))
        ragged = oval(x, y, spot, axes, rng.uniform(0, 3.1)) + 0.006 * texture(rng, size, 16)
        nests = np.maximum(nests, cover(ragged, 0.016))
    if nests.any():
        layers.append((0.8 * nests * inside, np.array(COLOURS["blue-grey"], np.float32) * 0.85))
        patches.append(nests * inside)
    turns = rng.uniform(0, 6.28, 5)
    roots = np.stack(form.around(0.95 * form.radius, turns), 1)
    heading = turns + np.pi + rng.normal(0, 0.4, 5)
    length, width = form.radius * rng.uniform(0.8, 1.3, 5), rng.uniform(0.0048, 0.0072, 5)
    tree = grow_tree(rng, roots, heading, length, width, 3, 3, 0.7, 0.006)
    vessels = discs(size, *tree) * np.clip(1.4 * inside, 0, 1)
    layers.append((0.78 * vessels, np.array([0.66, 0.13, 0.14], np.float32)))
    return layers, patches


_REGULARITY = ("regular", "irregular")
KIND = Kind(
    name="dermoscopy",
    modality="dermoscopy",
    anatomy="skin",
    dicom="DMS",
    draw=draw,
    findings=TOLD,
    spill=Spill(
        wider={"melanoma": 0.2, "seborrheic keratosis": 0.2},
        why="streaks that run out at the border, a ragged edge",
    ),
    attributes={
        "malignancy": Attribute(
            "grading",
            ("Is the lesion benign or malignant?",),
            ("benign", "malignant"),
            of={
                **dict.fromkeys(("nevus", "seborrheic keratosis"), ("benign",)),
                **dict.fromkeys(("melanoma", "basal cell carcinoma"), ("malignant",)),
            },
        ),
        "border": Attribute(
            "attribute",
            ("Is the border of the lesion regular or irregular?",),
            _REGULARITY,
            "{} border",
            dict.fromkeys(TOLD, _REGULARITY),
        ),
        "colours": Attribute(
            "attribute",
            ("How many colours does the lesion have?",),
            ("1", "2", "3", "4", "5"),
            "{} colours",
            {
                "nevus": ("1", "2", "3"),
                "melanoma": ("2", "3", "4", "5"),
                "seborrheic keratosis": ("1", "2"),
                "basal cell carcinoma": ("1", "2", "3"),
            },
        ),
        "structure": Attribute(
            "attribute",
            ("Which structure does the lesion show?",),
            ("pigment network", "globules", "streaks", "milia-like cysts", "arborizing vessels"),
            of={
                "nevus": ("pigment network", "globules"),
                "melanoma": ("pigment network", "globules", "streaks"),
                "seborrheic keratosis": ("milia-like cysts",),
                "basal cell carcinoma": ("arborizing vessels",),
            },
        ),
        "hair": Attribute("attribute", ("Is hair in view?",), ("yes", "no"), "hair {}"),
    },
)
