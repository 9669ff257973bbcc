"""Optical coherence tomography of the macula: one B-scan through retinal layers and the foveal pit.

Findings: macular edema (cysts), subretinal fluid, drusen, epiretinal membrane. Reflectivity by
layer falls with depth and under vessels; speckle is gamma distributed, as of a few averaged scans.
Depth y grows downwards; lengths are fractions of the width (6 mm) and of the height (2 mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import SIZES, Phantom, Truth, count_components, until_visible
from generators.phantoms.canvas import cover, grid, largest, oval, streams, texture
from generators.phantoms.kind import Attribute, Kind, Spill

TOLD = {
    **dict.fromkeys(("macular edema", "subretinal fluid", "drusen"), ("count", "size")),
    "epiretinal membrane": (),
}
FINDINGS = ("none", *TOLD)
WIDTH_MM, HEIGHT_MM = 6.0, 2.0
# Thickness beside the fovea (fraction of the height; 0.01 is 20 µm) and reflectivity, from above.
LAYERS = (
    ("nerve fibres", 0.016, 0.80),
    ("ganglion cells", 0.021, 0.46),
    ("inner plexiform", 0.019, 0.60),
    ("inner nuclear", 0.018, 0.32),
    ("outer plexiform", 0.014, 0.56),
    ("outer nuclear", 0.036, 0.24),
    ("limiting membrane", 0.004, 0.44),
    ("inner segments", 0.010, 0.34),
    ("ellipsoid zone", 0.009, 0.88),
    ("outer segments", 0.011, 0.44),
    ("pigment epithelium", 0.014, 1.0),
)
INNER = 5  # layers that thin out in the foveal pit
THIN_UM, THICK_UM = 235, 305
GAP = 0.02
LEAST_PX = 1.6  # below which a lesion falls between pixels


@dataclass(frozen=True, slots=True)
class Retina:
    """Boundaries (12, size) from the vitreous to the choroid, and what shades the scan."""

    edges: np.ndarray
    centre: float
    shadow: np.ndarray
    choroid: np.ndarray
    vitreous: float
    falloff: float
    hyaloid: np.ndarray | None


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one B-scan; equal arguments give equal pixels, (size, size) uint8.

    `difficulty` in [0, 1] fades findings and adds speckle, `finding` is one of FINDINGS or None
    for a uniform draw. A twin (`finding="none"`) has the same anatomy and speckle.
    """
    of_anatomy, of_finding, of_noise = streams(seed)
    chosen = FINDINGS[of_finding.integers(len(FINDINGS))]
    finding = chosen if finding is None else finding
    retina = _retina(of_anatomy, size, asked)
    looks = float(of_noise.uniform(3.4, 4.6) - 1.6 * difficulty)  # averaged scans
    grain = _speckle(of_noise, size, looks)
    floor = (0.03 + 0.02 * difficulty) * of_noise.standard_exponential((size, size), np.float32)
    twin = _scan(_reflect(retina, retina.edges, size), grain, floor)
    spacing = WIDTH_MM / size
    if finding == "none":
        told = _told(retina, retina.edges, size)
        truth = Truth("OCT", "eye", "none", attributes=told)
        return Phantom(twin, np.zeros(twin.shape, bool), truth, spacing, None, seed, difficulty)
    drawn = SIZES[of_finding.integers(3)]
    extent = asked.size or drawn
    edges, shapes, count = _plan(of_finding, retina, finding, extent, size, asked)
    mask = shapes[0] if finding != "drusen" else _between(edges, retina.edges, size)
    mask = _kept(mask, count)

    def render(effective: float) -> np.ndarray:
        light = _reflect(retina, edges, size)
        _add(light, finding, shapes, 1 - 0.35 * effective)
        return _scan(light, grain, floor)

    pixels, cnr = until_visible(render, twin, mask, _patch_noise(twin), difficulty)
    told = _told(retina, edges, size)
    if finding == "epiretinal membrane":
        truth = Truth("OCT", "eye", finding, None, count_components(mask), None, None, cnr, told)
    else:
        high = float(_height_um(mask))
        truth = Truth("OCT", "eye", finding, None, count_components(mask), extent,
                      round(high / 1000, 2), cnr, told)  # fmt: skip
    return Phantom(pixels, mask, truth, spacing, None, seed, difficulty)


def _retina(rng: np.random.Generator, size: int, asked: Asked) -> Retina:
    x = grid(size)[0][0].astype(np.float64)
    centre = float(rng.uniform(-0.12, 0.12))
    base = float(rng.uniform(0.48, 0.60)) + float(rng.uniform(-0.12, 0.12)) * x
    base += float(rng.uniform(-0.05, 0.16)) * x * x + 0.0022 * texture(rng, size, 4, 9)[0]
    swell, gap = float(rng.uniform(0.85, 1.22)), (x - centre) / float(rng.uniform(0.085, 0.12))
    pit = np.exp(-(gap**2)) * float(rng.uniform(0.86, 0.97))
    rim = 1 + 0.16 * np.exp(-((np.abs(gap) - 1.9) ** 2)) - 0.25 * np.clip(np.abs(x) - 0.25, 0, 1)
    thickness = np.array([t for _, t, _ in LAYERS])[:, None] * np.ones((1, size)) * swell
    thickness[:INNER] *= (1 - pit) * rim
    nasal = float(rng.choice([-1.0, 1.0]))
    thickness[0] *= 1 + 1.1 * nasal * x
    thickness[5] *= 1 + 0.55 * np.exp(-(gap**2)) + 0.05 * texture(rng, size, 4, 8)[0]
    thickness[7:10] *= 1 + 0.3 * np.exp(-((1.3 * gap) ** 2))
    thickness = np.maximum(thickness, 0.0012)
    below = np.cumsum(thickness[::-1], 0)[::-1]
    edges = np.concatenate([base - below, base[None]])
    shadow = np.ones(size)
    for _ in range(rng.integers(4, 9)):  # vessels of the inner retina shade what lies below
        at = float(rng.uniform(-0.5, 0.5))
        if abs(at - centre) > 0.11:
            shadow *= 1 - rng.uniform(0.25, 0.6) * np.exp(
                -(((x - at) / rng.uniform(0.005, 0.012)) ** 2)
            )
    hyaloid = None
    detached = rng.random() < 0.5
    if asked.told("vitreous", "detached" if detached else "attached") == "detached":
        hyaloid = edges[0] - float(rng.uniform(0.05, 0.14)) - 0.35 * (x - centre) ** 2
        hyaloid = hyaloid + 0.006 * texture(rng, size, 4, 7)[0]
    choroid = _choroid(rng, size)
    return Retina(edges, centre, shadow, choroid, float(rng.uniform(0.02, 0.05)),
                  float(rng.uniform(4.2, 7.0)), hyaloid)  # fmt: skip


def _choroid(rng: np.random.Generator, size: int) -> np.ndarray:
    """Texture of the choroid: bright stroma around darker vessels, larger with depth."""
    large, small = texture(rng, size, 22, 15), texture(rng, size, 60, 44)
    lumen = np.clip(1.2 * large - 0.3, 0, 1)
    return np.asarray(0.62 - 0.34 * lumen + 0.09 * small, np.float32)


def _reflect(retina: Retina, edges: np.ndarray, size: int) -> np.ndarray:
    """Reflectivity (size, size) of vitreous, layers and choroid, before speckle."""
    y = grid(size)[1] + 0.5
    soft = max(0.003, 1.2 / size)
    light = np.full((size, size), retina.vitreous, np.float32)
    for (_, _, bright), top in zip(LAYERS, edges.astype(np.float32)):
        light += cover(top[None, :] - y, soft) * (bright - light)
    bottom = edges[-1].astype(np.float32)[None, :]
    under = y - bottom
    fall = np.exp(-np.clip(under, 0, None) * retina.falloff)
    deep = retina.choroid * fall * (0.72 + 0.28 * np.exp(-np.clip(under, 0, None) / 0.02))
    light += cover(-under, soft) * (deep - light)
    depth = np.clip(y - edges[0].astype(np.float32)[None, :], 0, None)
    light *= 1 - (1 - retina.shadow.astype(np.float32))[None, :] * np.clip(depth / 0.03, 0, 1)
    if retina.hyaloid is not None:
        line = np.exp(-(((y - retina.hyaloid.astype(np.float32)[None, :]) / 0.0028) ** 2))
        light += 0.22 * line
    return light


def _speckle(rng: np.random.Generator, size: int, looks: float) -> np.ndarray:
    """Gamma speckle of unit mean, wider across the beam than along it."""
    grain = rng.standard_gamma(looks / 1.8, (size, size), np.float32) * np.float32(1.8 / looks)
    return ndimage.gaussian_filter(grain, (0.45, 0.75), truncate=2.5)


def _scan(light: np.ndarray, grain: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Compressed intensity, uint8."""
    power = np.clip(light, 0, None) * grain + floor
    return np.rint(np.clip(255 * np.sqrt(power) * 0.92 - 12, 0, 255)).astype(np.uint8)


def _patch_noise(twin: np.ndarray) -> float:
    """Standard deviation of the speckle in the choroid, averaged over 1.5 % of the width."""
    size = len(twin)
    smooth = ndimage.uniform_filter(twin.astype(np.float32), max(3, round(0.015 * size)))
    rest = smooth - ndimage.uniform_filter(smooth, round(0.08 * size))
    return float(rest[size // 2 : (3 * size) // 4].std()) + 1.0


def _height_um(mask: np.ndarray) -> float:
    """Greatest height of the mask's regions in µm."""
    labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
    tall = max(rows.stop - rows.start for rows, _ in ndimage.find_objects(labels, number))
    return float(tall) / len(mask) * HEIGHT_MM * 1000


def _told(retina: Retina, edges: np.ndarray, size: int) -> dict[str, str]:
    """Central thickness (mean over the middle 1 mm, inner surface to pigment epithelium)."""
    x = grid(size)[0][0]
    near = np.abs(x - retina.centre) < 0.5 / WIDTH_MM
    um = float((edges[-1] - edges[0])[near].mean()) * HEIGHT_MM * 1000
    told = "thin" if um < THIN_UM else "thickened" if um > THICK_UM else "normal"
    return {
        "thickness": told,
        "thickness_um": f"{um:.0f}",
        "vitreous": "attached" if retina.hyaloid is None else "detached",
    }


def _between(upper: np.ndarray, lower: np.ndarray, size: int) -> np.ndarray:
    """Pixels between the lifted pigment epithelium and where it was."""
    y = grid(size)[1] + 0.5
    return np.asarray((y > upper[-1][None, :]) & (y < lower[-1][None, :]))


def _kept(mask: np.ndarray, count: int) -> np.ndarray:
    """The mask without the crumbs that pixels make of thin ends: its `count` largest regions."""
    labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
    if number <= count:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    return np.isin(labels, 1 + np.argsort(sizes)[-count:])


Shapes = list[np.ndarray]
HEIGHTS = {
    "subretinal fluid": {"small": (0.022, 0.028), "medium": (0.045, 0.055), "large": (0.085, 0.10)},
    "drusen": {"small": (0.016, 0.02), "medium": (0.03, 0.036), "large": (0.05, 0.06)},
}
CYST = {"small": (0.013, 0.016), "medium": (0.024, 0.029), "large": (0.042, 0.05)}


def _plan(
    rng: np.random.Generator, retina: Retina, finding: str, extent: str, size: int, asked: Asked
) -> tuple[np.ndarray, Shapes, int]:
    """Displaced boundaries, masks and coverages of what is added, and the number of lesions."""
    x = grid(size)[0][0].astype(np.float64)
    y = grid(size)[1] + 0.5
    edges = retina.edges.copy()
    at = retina.centre + float(rng.uniform(-0.05, 0.05))
    if finding == "epiretinal membrane":
        return _membrane(rng, retina, size)
    if finding == "macular edema":
        return _edema(rng, retina, extent, size, asked)
    high = max(float(rng.uniform(*HEIGHTS[finding][extent])), LEAST_PX / size)
    if finding == "subretinal fluid":
        wide = float(rng.uniform(0.12, 0.16)) + 0.6 * high
        dome = high * np.clip(1 - ((x - at) / wide) ** 2, 0, None) ** 1.3
        roof = edges[10] - dome
        edges[:10] -= dome
        mask = (y > roof[None, :]) & (y < (retina.edges[10])[None, :])
        soft = max(0.003, 1.2 / size)
        share = cover(roof[None, :] - y, soft) * cover(y - retina.edges[10][None, :], soft)
        return edges, [largest(mask), np.asarray(share, np.float32)], 1
    count = _count(rng, extent, asked)
    wide = high * float(rng.uniform(0.9, 1.2))
    spots = _apart(rng, count, 2.6 * wide + GAP, 0.38)
    lift = sum(high * rng.uniform(0.92, 1.08) * np.exp(-(((x - s) / wide) ** 4)) for s in spots)
    lift = np.where(lift > 0.15 * high, lift, 0.0)
    below = np.exp(-((np.arange(12)[::-1] - 0.0) / 7.0))[:, None]
    edges -= lift * np.minimum(1.0, below + 0.25 * (np.arange(12) > 7)[:, None])
    share = cover(edges[-1][None, :] - y, 0.004) * cover(y - retina.edges[-1][None, :], 0.004)
    return edges, [np.zeros(1), np.asarray(share, np.float32)], count


def _count(rng: np.random.Generator, extent: str, asked: Asked) -> int:
    """How many lesions of a size: the larger, the fewer have room."""
    most = {"small": 4, "medium": 3, "large": 2}[extent]
    drawn = int(rng.integers(1, most + 1))
    return asked.extent((extent, drawn), [(extent, n) for n in range(1, most + 1)])[1]


def _apart(rng: np.random.Generator, count: int, gap: float, reach: float) -> list[float]:
    """`count` places across the scan, at least `gap` from each other."""
    free = max(2 * reach - gap * (count - 1), 0.02)
    steps = np.sort(rng.uniform(0, free, count)) + gap * np.arange(count)
    return [float(s) - reach for s in steps]


def _edema(
    rng: np.random.Generator, retina: Retina, extent: str, size: int, asked: Asked
) -> tuple[np.ndarray, Shapes, int]:
    """Cysts of the inner and outer nuclear layers that swell the retina around them."""
    x = grid(size)[0][0].astype(np.float64)
    count = _count(rng, extent, asked)
    radius = max(float(rng.uniform(*CYST[extent])), LEAST_PX / size)
    spots = _apart(rng, count, 1.5 * radius + 0.024, 0.02 + 0.8 * radius * count)
    spots = [retina.centre + s for s in spots]
    edges = retina.edges.copy()
    swell = sum(1.5 * radius * np.exp(-(((x - s) / (2.6 * radius)) ** 2)) for s in spots)
    swell = np.minimum(swell, 2.1 * radius) + 0.012 * np.exp(-(((x - retina.centre) / 0.2) ** 2))
    weight = np.clip((9 - np.arange(12)) / 3, 0, 1)[:, None]
    edges -= swell * weight
    share = np.zeros((size, size), np.float32)
    px, py = grid(size)
    for spot in spots:
        column = int(np.clip((spot + 0.5) * size, 0, size - 1))
        top, low = edges[1, column], edges[8, column]
        middle = float((top + low) / 2 + 0.1 * (low - top) * rng.uniform(-1, 1)) - 0.5
        tall = min(radius * 0.95, float(low - top) * 0.40)
        distance = oval(px, py, (spot, middle), (radius * 0.72, tall), rng.uniform(-0.12, 0.12))
        share = np.maximum(share, cover(distance, max(0.004, 1.3 / size)))
    return edges, [share > 0.5, share], count


def _membrane(
    rng: np.random.Generator, retina: Retina, size: int
) -> tuple[np.ndarray, Shapes, int]:
    """A bright sheet on the inner surface that flattens the pit and wrinkles what lies below."""
    x = grid(size)[0][0].astype(np.float64)
    y = grid(size)[1] + 0.5
    edges = retina.edges.copy()
    wide = float(rng.uniform(0.26, 0.36))
    near = np.exp(-(((x - retina.centre) / wide) ** 6))
    pulled = ndimage.gaussian_filter1d(edges[0], 0.07 * size, mode="nearest")
    wrinkle = 0.0035 * np.sin(2 * np.pi * x * rng.uniform(20, 28) + rng.uniform(0, 6.28))
    lift = (edges[0] - pulled) * 0.8 * near - wrinkle * near
    edges[: INNER + 1] -= lift * np.linspace(1, 0.35, INNER + 1)[:, None]
    sheet = edges[0] - 0.006 - 0.002 * texture(rng, size, 4, 16)[0]
    distance = np.abs(y - sheet[None, :]) - 0.0038
    share = cover(distance, max(0.004, 1.2 / size)) * near[None, :]
    mask = largest((np.abs(y - sheet[None, :]) < max(0.007, 1.1 / size)) & (near[None, :] > 0.5))
    return edges, [mask, np.asarray(share, np.float32)], 1


def _add(light: np.ndarray, finding: str, shapes: Shapes, strength: float) -> None:
    """Paint fluid dark, drusen grey, a membrane bright."""
    share = shapes[1]
    if finding == "epiretinal membrane":
        light += share * (0.55 + 0.45 * strength - light)
    elif finding == "drusen":
        light += share * (0.30 + 0.14 * strength - light)
    else:
        light += share * strength * (0.03 - light)


KIND = Kind(
    name="OCT",
    modality="OCT",
    anatomy="eye",
    dicom="OPT",
    draw=draw,
    findings=TOLD,
    spill=Spill(
        wider={"macular edema": 0.5, "subretinal fluid": 0.2},
        columns="all",
        levels=32,
        why="layers above a swelling are lifted, beside it by less than a pixel",
    ),
    attributes={
        "thickness": Attribute(
            "grading", ("How thick is the central retina?",), ("thin", "normal", "thickened")
        ),
        "vitreous": Attribute(
            "attribute",
            ("Is the vitreous attached or detached?",),
            ("attached", "detached"),
            "vitreous {}",
        ),
    },
    no_article=frozenset({"macular edema", "subretinal fluid", "drusen"}),
    plural=frozenset({"drusen"}),
)
