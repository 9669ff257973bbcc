"""The axial head that the CT and MR phantoms share: its tissues, and where a lesion may lie.

Lengths are fractions of the image width. (u, v) is the head's own frame: u grows towards the
patient's left (the image's right), v towards the occiput; the midline is u = 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from generators.phantoms.asked import NOTHING, Asked, CannotDraw
from generators.phantoms.base import DIAMETER
from generators.phantoms.canvas import ANGLES, capsule, cover, waves

FIELD_OF_VIEW_MM = 230.0
COUNTS = {"small": (1, 2, 3), "medium": (1, 2), "large": (1,)}
MIDLINE_GAP = {"small": 0.062, "medium": 0.062, "large": 0.01}
LESION_GAP = 0.045
HARMONICS = np.exp(1j * np.arange(2, 8)[:, None] * ANGLES)
GREY_THICKNESS = 0.012


@dataclass(frozen=True, slots=True)
class Shape:
    """What varies from head to head."""

    width: float
    length: float
    egg: float
    square: float
    rotation: float
    shift: tuple[float, float]
    ventricles: float
    atrophy: float
    skull: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Shape":
        x, y = rng.uniform(-0.01, 0.01, 2)
        return cls(
            width=rng.uniform(0.335, 0.36),
            length=rng.uniform(0.402, 0.42),
            egg=rng.uniform(0.015, 0.045),
            square=rng.uniform(-0.005, 0.02),
            rotation=np.deg2rad(rng.uniform(-7, 7)),
            shift=(x, y),
            ventricles=rng.uniform(0.75, 1.35),
            atrophy=rng.uniform(0.7, 1.5),
            skull=rng.uniform(0.024, 0.034),
        )

    def outline(self, u: np.ndarray, v: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Distance from the centre to the brain's surface in the direction of (u, v)."""
        c, s = u / radius, v / radius
        ellipse = 1 / np.sqrt((c / self.width) ** 2 + (s / self.length) ** 2)
        return ellipse * (1 + self.egg * s * c * c * 2 + self.square * 4 * (c * s) ** 2)

    def depth(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Distance below the brain's surface, negative outside."""
        radius = np.sqrt(u * u + v * v) + 1e-6
        return self.outline(u, v, radius) - radius

    def ventricle(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Signed distance to the lateral ventricles: frontal horns, bodies and atria."""
        a, k = np.abs(u), self.ventricles
        horn = capsule(a, v, (0.022, -0.035), (0.052, -0.125), 0.011 * k, 0.019 * k)
        tip = capsule(a, v, (0.052, -0.125), (0.072, -0.150), 0.017 * k, 0.006 * k)
        body = capsule(a, v, (0.022, -0.035), (0.020, -0.09), 0.010 * k, 0.012 * k)
        atrium = capsule(a, v, (0.075, 0.085), (0.115, 0.150), 0.012 * k, 0.021 * k)
        occipital = capsule(a, v, (0.115, 0.150), (0.108, 0.205), 0.018 * k, 0.006 * k)
        return np.minimum.reduce([horn, tip, body, atrium, occipital])


def oval(
    u: np.ndarray,
    v: np.ndarray,
    centre: tuple[float, float],
    axes: tuple[float, float],
    tilt: float,
) -> np.ndarray:
    """About the signed distance to a tilted ellipse."""
    c, s = np.cos(tilt), np.sin(tilt)
    x, y = u - centre[0], v - centre[1]
    p, q = (c * x + s * y) / axes[0], (c * y - s * x) / axes[1]
    return (np.sqrt(p * p + q * q) - 1) * min(axes)


Layer = tuple[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A head on a pixel grid: layers of (tissue, coverage) painted in order.

    Coverage is (size, size), or smaller and centred for what lies deep in the brain.
    """

    shape: Shape
    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    layers: list[Layer]

    @property
    def size(self) -> int:
        return self.u.shape[0]

    def render(self, values: Mapping[str, float]) -> np.ndarray:
        """Paint each tissue with its value; pixels on an edge get the partial-volume mean."""
        image = np.full(self.u.shape, values["air"], np.float32)
        for tissue, share in self.layers:
            part = _middle(image, share.shape[0])
            part += share * (np.float32(values[tissue]) - part)
        return image

    def box(self, centre: tuple[float, float], reach: float) -> tuple[slice, slice]:
        """The pixels within `reach` of a point given in the head's frame."""
        c, s = np.cos(self.shape.rotation), np.sin(self.shape.rotation)
        x = c * centre[0] - s * centre[1] + self.shape.shift[0] + 0.5
        y = s * centre[0] + c * centre[1] + self.shape.shift[1] + 0.5
        spans = [(int((p - reach) * self.size), int((p + reach) * self.size) + 2) for p in (y, x)]
        rows, columns = (slice(max(low, 0), min(high, self.size)) for low, high in spans)
        return rows, columns


def _middle(image: np.ndarray, size: int) -> np.ndarray:
    """The central (size, size) view of a square image."""
    start = (image.shape[0] - size) // 2
    return image[start : start + size, start : start + size]


def draw_anatomy(rng: np.random.Generator, size: int) -> Anatomy:
    """Draw a head, (size, size), at the level of the lateral ventricles and basal ganglia."""
    shape = Shape.draw(rng)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    c, s = np.float32(np.cos(shape.rotation)), np.float32(np.sin(shape.rotation))
    x, y = axis[None] - shape.shift[0], axis[:, None] - shape.shift[1]
    x, y = x.astype(np.float32), y.astype(np.float32)
    u, v = c * x + s * y, c * y - s * x
    bend_u, bend_v = (0.0035 * waves(rng, size, 5, 1, 4) for _ in range(2))
    depth = shape.depth(u, v)
    pixel = 1.3 / size
    layers = _shell(shape, u + bend_u, v + bend_v, depth, pixel)
    layers += _cortex(rng, shape, u + bend_u, v + bend_v, depth, pixel)
    inner = size - 2 * int(0.23 * size)
    layers += _deep(shape, _middle(u + bend_u, inner), _middle(v + bend_v, inner), pixel)
    return Anatomy(shape, u, v, depth, layers)


def _shell(
    shape: Shape, u: np.ndarray, v: np.ndarray, depth: np.ndarray, pixel: float
) -> list[Layer]:
    """Skin and fat, the two tables of the skull with marrow between, and the fluid beneath."""
    fluid = 0.005 * shape.atrophy
    inner = -depth - fluid
    thickness = shape.skull * (1 + 0.5 * (np.abs(v) - 0.2))
    marrow = np.abs(inner - thickness / 2) - 0.24 * thickness
    scalp = inner - thickness - 0.026
    return [
        ("skin", cover(scalp, pixel)),
        ("fat", cover(scalp + 0.006, pixel)),
        ("bone", cover(inner - thickness, pixel)),
        ("marrow", cover(marrow, 2 * pixel)),
        ("csf", cover(inner, pixel)),
        ("white", cover(-depth, pixel)),
    ]


def _cortex(
    rng: np.random.Generator,
    shape: Shape,
    u: np.ndarray,
    v: np.ndarray,
    depth: np.ndarray,
    pixel: float,
) -> list[Layer]:
    """Grey ribbon and fluid along the sulci, the Sylvian and the interhemispheric fissures.

    Sulci are the zeros of sin(n angle + smooth noise), each reaching in to a depth of its own.
    """
    size = u.shape[0]
    angle, radius = np.arctan2(v, u), np.sqrt(u * u + v * v)
    folds = int(rng.integers(15, 19))
    phase = folds * angle + 1.0 * waves(rng, size, 8, 2, 6)
    reach = 0.058 + 0.024 * waves(rng, size, 8, 3, 7)
    across = np.abs(np.sin(phase)) * radius / folds
    opening = 0.0042 * shape.atrophy * np.clip(1.15 - depth / np.maximum(reach, 0.01), 0.35, 1)
    sulcus = np.maximum(across - opening, (depth - reach) * 0.7)
    a = np.abs(u)
    k = shape.atrophy
    sylvian = np.minimum(
        capsule(a, v, (0.345, -0.075), (0.222, -0.038), 0.009 * k, 0.005 * k),
        capsule(a, v, (0.222, -0.038), (0.214, 0.025), 0.004 * k, 0.0015 * k),
    )
    fissure = np.maximum(a - 0.0035 * k, 0.138 - np.abs(v + 0.012))
    fluid = np.minimum.reduce([sulcus, sylvian, fissure])
    return [
        ("grey", cover(np.minimum(fluid, depth) - GREY_THICKNESS, pixel) * (depth > -pixel)),
        ("csf", cover(fluid, pixel) * (depth > -pixel)),
        ("falx", cover(np.maximum(a - 0.0022, 0.15 - np.abs(v + 0.012)), pixel) * (depth > -0.004)),
    ]


def _deep(shape: Shape, u: np.ndarray, v: np.ndarray, pixel: float) -> list[Layer]:
    """Caudate, lentiform nucleus, thalamus, the ventricles and the calcified choroid plexus."""
    a, k = np.abs(u), shape.ventricles
    caudate = oval(a, v, (0.058 + 0.022 * k, -0.088), (0.020, 0.042), 0.25)
    lentiform = oval(a, v, (0.142, -0.018), (0.031, 0.072), -0.22)
    thalamus = oval(a, v, (0.050, 0.050), (0.036, 0.056), -0.45)
    third = capsule(u, v, (0.0, -0.005), (0.0, 0.075), 0.005 * k, 0.006 * k)
    claustrum = capsule(a, v, (0.185, -0.06), (0.188, 0.03), 0.002, 0.002)
    ventricle = shape.ventricle(u, v)
    choroid = capsule(a, v, (0.103, 0.132), (0.112, 0.146), 0.006, 0.008)
    pineal = oval(u, v, (0.0, 0.096), (0.007, 0.008), 0.0)
    nuclei = np.minimum.reduce([caudate, lentiform, thalamus])
    return [
        ("deep", cover(nuclei, 2.5 * pixel)),
        ("grey", cover(claustrum, pixel)),
        ("csf", cover(np.minimum(ventricle, third), pixel)),
        ("white", cover(np.maximum(a - 0.004, np.abs(v + 0.07) - 0.06), pixel)),
        ("choroid", cover(np.minimum(choroid, pineal), pixel)),
    ]


@dataclass(frozen=True, slots=True)
class Lesion:
    """A star-shaped region in the head's frame: a disc of `diameter` with a Fourier border.

    `border` is (2, k): amplitude (of the radius) and phase of the harmonics 2, 3, 4 …. The border
    is scaled so that the area stays that of the disc, before and after elongation.
    """

    centre: tuple[float, float]
    diameter: float
    stretch: float
    angle: float
    border: np.ndarray

    def radius(self) -> np.ndarray:
        """Distance of the border from the centre at ANGLES, before elongation."""
        amplitude, phase = self.border
        wave = (amplitude * np.exp(1j * phase)) @ HARMONICS[: len(amplitude)]
        return (1 + wave.real) * self.diameter / 2 / np.sqrt(1 + (amplitude**2).sum() / 2)

    def contour(self) -> np.ndarray:
        """Points on the border, (40, 2)."""
        radius, angles = self.radius()[:-1:3], ANGLES[:-1:3]
        x = radius * np.cos(angles) * self.stretch
        y = radius * np.sin(angles) / self.stretch
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.stack([c * x - s * y, s * x + c * y], 1) + self.centre

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """About the signed distance to the border, negative inside."""
        c, s = float(np.cos(self.angle)), float(np.sin(self.angle))
        du, dv = u - float(self.centre[0]), v - float(self.centre[1])
        x, y = (c * du + s * dv) / self.stretch, (c * dv - s * du) * self.stretch
        border = np.interp(np.arctan2(y, x), ANGLES, self.radius()).astype(np.float32)
        return np.sqrt(x * x + y * y) - border


def draw_extent(
    rng: np.random.Generator, plaque: bool = False, asked: Asked = NOTHING
) -> tuple[str, str, int]:
    """Side, size class and count: all allowed pairs of size and count are equally likely."""
    side = "left" if asked.left_or(rng.random() < 0.5) else "right"
    pairs = [(size, count) for size, counts in COUNTS.items() for count in counts]
    drawn = pairs[rng.integers(len(pairs))]
    if plaque:
        pairs = [("small", count) for count in range(1, 5)]
        drawn = pairs[rng.integers(len(pairs))]
    return side, *asked.extent(drawn, pairs)


def place(
    rng: np.random.Generator, shape: Shape, finding: str, side: str, size: str, count: int
) -> list[Lesion]:
    """Draw `count` lesions on one side, apart from each other, the midline and the surface."""
    sign = 1.0 if side == "left" else -1.0
    low, high = DIAMETER[size]
    for attempt in range(200):  # a crowded draw starts again with smaller lesions
        diameter = low + (high - low) * rng.uniform(0.1, 0.9) * 0.8**attempt
        placed: list[Lesion] = []
        for _ in range(30 * count):
            lesion = _candidate(rng, shape, finding, sign, diameter)
            if _apart(lesion, placed) and _fits(lesion, shape, size, sign, finding):
                placed.append(lesion)
                if len(placed) == count:
                    return placed
    raise CannotDraw(f"no room for {count} {size} {finding} in this head")


def _candidate(
    rng: np.random.Generator, shape: Shape, finding: str, sign: float, diameter: float
) -> Lesion:
    """One lesion at a random place of the half brain, shaped as its kind is."""
    low, high = {"infarct": (0.45, 0.9), "plaque": (0.25, 0.75)}.get(finding, (0.3, 0.85))
    where, share = rng.uniform(-1.35, 1.35), rng.uniform(low, high)
    large = diameter > DIAMETER["medium"][1]
    if large:  # only the middle of the half brain has room
        where, share = where * 0.6, rng.uniform(0.45, 0.6)
    u = sign * share * shape.width * np.cos(where)
    v = share * shape.length * np.sin(where)
    inward = np.arctan2(-v, -u)
    size = diameter * rng.uniform(0.98, 1.02)
    if finding == "infarct":  # a wedge whose apex points to the centre
        border = np.array([[0.05, 0.16, 0.04], [0.0, 0.0, rng.uniform(0, 2 * np.pi)]])
        return Lesion((u, v), size, 0.88 if large else 1.03, inward, border)
    height = {"plaque": 0.02, "tumor": 0.075}.get(finding, 0.085)
    border = np.stack(
        [rng.uniform(0.3, 1, 6) * height / [1, 1, 1, 1.3, 1.6, 2], rng.uniform(0, 2 * np.pi, 6)]
    )
    stretch = rng.uniform(1.12, 1.2) if large else rng.uniform(1.05, 1.16)
    angle = inward if finding == "plaque" else np.pi / 2 + rng.uniform(-0.5, 0.5)
    return Lesion((u, v), size, stretch, angle, border)


def _fits(lesion: Lesion, shape: Shape, size: str, sign: float, finding: str) -> bool:
    if lesion.centre[0] * sign < MIDLINE_GAP[size] + 0.4 * lesion.diameter:
        return False
    u, v = lesion.contour().T
    if (u * sign).min() < MIDLINE_GAP[size]:
        return False
    if shape.depth(u, v).min() < (0.002 if finding == "infarct" else 0.012):
        return False
    if size == "large":
        return True
    u, v = np.append(u, lesion.centre[0]), np.append(v, lesion.centre[1])
    clear = shape.ventricle(u, v).min()
    return -0.004 < clear < 0.08 if finding == "plaque" else clear > -0.012


def _apart(lesion: Lesion, placed: list[Lesion]) -> bool:
    if not placed:
        return True
    (u, v), reach = lesion.centre, 0.85 * lesion.diameter + LESION_GAP
    if any(np.hypot(u - o.centre[0], v - o.centre[1]) < reach for o in placed):
        return False  # not worth the exact test
    mine = lesion.contour()[:, None]
    return all(
        ((mine - other.contour()[None]) ** 2).sum(2).min() >= LESION_GAP**2 for other in placed
    )
