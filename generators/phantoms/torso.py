"""What CT of the chest and of the abdomen share: body wall, spine, ribs, table and noise, in HU.

(u, v) is the body's own frame in fractions of the image width: u grows towards the patient's left
(the image's right), v towards the back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import fft

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import (
    SIZES,
    Phantom,
    Truth,
    count_components,
    diameter_mm,
    until_visible,
)
from generators.phantoms.canvas import capsule, cover, grid, oval, paint, texture
from generators.phantoms.kind import Attribute

FIELD_MM = 390.0
SIZE_AND_COUNT = (("small", 1), ("small", 2), ("small", 3), ("medium", 1), ("medium", 2),
                  ("large", 1))  # fmt: skip
ONE_OF_A_SIZE = tuple((size, 1) for size in SIZES)
AIR, FAT, MUSCLE, MARROW, CORTEX = -1000.0, -100.0, 55.0, 230.0, 850.0

CONTRAST = Attribute(
    "attribute", ("Is the CT enhanced or unenhanced?",), ("enhanced", "unenhanced")
)


Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Body:
    """One patient on the table, on a pixel grid."""

    u: np.ndarray
    v: np.ndarray
    half: tuple[float, float]  # half axes of the skin
    fat: float  # thickness under the skin
    enhanced: bool  # contrast medium given
    depth: np.ndarray  # below the skin, negative outside
    size: int  # of the whole image in pixels
    middle: tuple[float, float]  # of the body in the image

    @property
    def pixel(self) -> float:
        return 1.3 / self.size

    def fill(self, image: np.ndarray, distance: np.ndarray, value: float | np.ndarray) -> None:
        """Paint the inside of a signed distance."""
        paint(image, cover(distance, self.pixel), value)

    def part(self, centre: tuple[float, float], reach: float) -> tuple[Box, Body]:
        """The pixels within `reach` of a point of the body's frame, and the body seen there."""
        turn = float(self.u[1, 0] - self.u[0, 0]) * self.size  # sine of the body's rotation
        row = (centre[1] + turn * centre[0] + self.middle[1] + 0.5) * self.size
        column = (centre[0] - turn * centre[1] + self.middle[0] + 0.5) * self.size
        span = reach * self.size + 2
        rows, columns = (slice(max(int(at - span), 0), max(int(at + span) + 1, 1))
                         for at in (row, column))  # fmt: skip
        box = (rows, columns)
        return box, replace(self, u=self.u[box], v=self.v[box], depth=self.depth[box])


def draw_body(rng: np.random.Generator, size: int, asked: Asked = NOTHING) -> Body:
    """A body's outline, its size and obesity at random."""
    x, y = grid(size)
    turn = float(np.deg2rad(rng.uniform(-4, 4)))
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    middle = (float(rng.uniform(-0.012, 0.012)), float(rng.uniform(-0.02, 0.005)))
    dx, dy = x - middle[0], y - middle[1]
    u, v = c * dx + s * dy, c * dy - s * dx
    half = (float(rng.uniform(0.415, 0.455)), float(rng.uniform(0.315, 0.35)))
    fat = float(rng.uniform(0.014, 0.034))
    drawn = "enhanced" if rng.random() < 0.5 else "unenhanced"
    enhanced = asked.told("contrast", drawn) == "enhanced"
    bent = 1 + 0.016 * texture(rng, size, 5)
    return Body(u, v, half, fat, enhanced, -shell(u, v, half) * bent, size, middle)


@dataclass(frozen=True, slots=True)
class Scan:
    """A slice as it was taken: the healthy image in HU, its noise and its window."""

    region: str
    seed: int
    difficulty: float
    healthy: np.ndarray
    grain: np.ndarray
    sigma: float
    window: tuple[float, float]
    told: dict[str, str]

    @property
    def spacing(self) -> float:
        return FIELD_MM / len(self.healthy)

    @property
    def twin(self) -> np.ndarray:
        """The pixels without a finding, int16."""
        return stored(self.healthy + self.grain)

    def without(self) -> Phantom:
        """The healthy phantom."""
        truth = Truth("CT", self.region, "none", attributes=self.told)
        mask = np.zeros(self.healthy.shape, bool)
        return Phantom(self.twin, mask, truth, self.spacing, self.window, self.seed,
                       self.difficulty)  # fmt: skip

    def having(
        self,
        finding: str,
        side: str | None,
        extent: str,
        mask: np.ndarray,
        fill: Callable[[np.ndarray, float], None],
        **told: str,
    ) -> Phantom:
        """The phantom with a finding that `fill` paints into an image at a difficulty."""

        def render(effective: float) -> np.ndarray:
            ill = self.healthy.copy()
            fill(ill, effective)
            return stored(ill + self.grain)

        pixels, cnr = until_visible(render, self.twin, mask, self.sigma, self.difficulty)
        truth = Truth("CT", self.region, finding, side, count_components(mask), extent,
                      diameter_mm(mask, self.spacing), cnr, self.told | told)  # fmt: skip
        return Phantom(pixels, mask, truth, self.spacing, self.window, self.seed, self.difficulty)


def shell(u: np.ndarray, v: np.ndarray, half: tuple[float, float], flat: float = 0.0) -> np.ndarray:
    """About the signed distance to a rounded box, flattened in front by `flat`."""
    p, q = u / half[0], v / half[1]
    p2, q2 = p * p, q * q
    rho = np.sqrt(np.sqrt(p2 * p2 + q2 * q2 + 1.35 * p2 * q2) + flat * np.clip(-q, 0, 1) * p2)
    slope = np.sqrt((p / half[0]) ** 2 + (q / half[1]) ** 2) / np.maximum(rho, 0.05)
    return (rho - 1) / np.maximum(slope, 1.0)


def paint_wall(rng: np.random.Generator, body: Body, muscle: float) -> np.ndarray:
    """Air, table, skin, fat and the muscle under it, (size, size) HU."""
    image = np.full(body.u.shape, AIR, np.float32)
    x, y = grid(body.size)
    top = float(rng.uniform(0.34, 0.36))
    bow = y - top + 0.25 * x * x
    board = np.maximum(np.abs(bow) - 0.018, np.abs(x) - 0.40)
    paint(image, cover(board, body.pixel) * 0.11, 0.0)
    paint(image, cover(np.maximum(np.abs(np.abs(bow) - 0.018) - 0.0018, np.abs(x) - 0.4),
                       body.pixel), -150.0)  # fmt: skip
    body.fill(image, -body.depth, 10.0)
    strands = FAT + 8 * texture(rng, body.size, 40)
    body.fill(image, 0.005 - body.depth, strands)
    layers = muscle + 5 * texture(rng, body.size, 30)
    wavy = body.fat * (1 + 0.18 * texture(rng, body.size, 6))
    body.fill(image, wavy - body.depth, layers)
    return image


def paint_spine(image: np.ndarray, rng: np.random.Generator, body: Body, at: float) -> None:
    """Vertebral body, pedicles, arch, processes and canal, with the muscles beside them."""
    k = float(rng.uniform(0.92, 1.08))
    box, near = body.part((0.0, at + 0.04), 0.15)
    image, u, v, a = image[box], near.u, near.v, np.abs(near.u)
    fat = FAT + 10 * texture(rng, body.size, 30)[box]
    beside = oval(a, v, (0.052, at + 0.102), (0.052, 0.036), 0.12)
    near.fill(image, beside - 0.005, fat)
    near.fill(image, beside, MUSCLE + 14 * texture(rng, body.size, 30, 40)[box])
    trabecular = MARROW + 45 * texture(rng, body.size, 60)[box]
    vertebra = oval(u, v, (0.0, at), (0.054 * k, 0.043 * k))
    vertebra = np.maximum(vertebra, -oval(u, v, (0.0, at + 0.062), (0.05, 0.03)))
    pedicle = capsule(a, v, (0.032, at + 0.028), (0.036, at + 0.062), 0.010, 0.011)
    lamina = capsule(a, v, (0.036, at + 0.066), (0.004, at + 0.088), 0.008, 0.007)
    spine = capsule(u, v, (0.0, at + 0.085), (0.0, at + 0.125), 0.008, 0.006)
    across = capsule(a, v, (0.036, at + 0.062), (0.086, at + 0.072), 0.010, 0.007)
    arch = np.minimum.reduce([pedicle, lamina, spine, across])
    near.fill(image, np.minimum(vertebra, arch), CORTEX)
    near.fill(image, vertebra + 0.006, trabecular)
    near.fill(image, arch + 0.0055, trabecular + 60)
    near.fill(image, oval(u, v, (0.0, at + 0.056), (0.023, 0.020)), 20.0)
    near.fill(image, oval(u, v, (0.0, at + 0.056), (0.013, 0.010)), 40.0)


def paint_ribs(
    image: np.ndarray,
    rng: np.random.Generator,
    body: Body,
    half: tuple[float, float],
    reach: tuple[float, float],
    number: int,
) -> None:
    """Obliquely cut ribs along an ellipse, between two angles from the back to the front."""
    angles = np.linspace(*reach, number) + rng.uniform(-0.06, 0.06, (2, number))
    for side, sign in enumerate((-1.0, 1.0)):
        for angle in angles[side]:
            centre = (sign * half[0] * np.cos(angle), half[1] * np.sin(angle))
            along = np.array([-sign * half[0] * np.sin(angle), half[1] * np.cos(angle)])
            along *= rng.uniform(0.016, 0.034) / np.hypot(*along)
            thick = float(rng.uniform(0.0085, 0.0115))
            rib(image, body, centre, (along[0], along[1]), thick)


def rib(
    image: np.ndarray,
    body: Body,
    centre: tuple[float, float],
    along: tuple[float, float],
    thick: float,
) -> None:
    """One rib: a cortex around marrow, painted in its own box."""
    box, near = body.part(centre, float(np.hypot(*along)) + thick)
    start = (centre[0] - along[0], centre[1] - along[1])
    end = (centre[0] + along[0], centre[1] + along[1])
    distance = capsule(near.u, near.v, start, end, thick, thick)
    near.fill(image[box], distance, CORTEX)
    near.fill(image[box], distance + 0.0052, MARROW)


@lru_cache(maxsize=4)
def _ramp(size: int) -> np.ndarray:
    """Noise amplitude of filtered back-projection: |f| under a soft kernel (Riederer 1978)."""
    f = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :])
    gain: np.ndarray = (np.sqrt(f) * np.exp(-((f / 0.28) ** 2))).astype(np.float32)
    return gain


def noise(rng: np.random.Generator, body: Body, sigma: float) -> np.ndarray:
    """Correlated noise of standard deviation `sigma` HU in the middle, less towards the skin."""
    n = body.size
    white = rng.standard_normal((n, n), np.float32)
    grain = fft.irfft2(fft.rfft2(white) * _ramp(n), s=(n, n)).astype(np.float32)
    weight = 0.45 + 0.75 * np.clip(body.depth / 0.25, 0, 1)
    return np.asarray(grain * (sigma / grain.std()) * weight, np.float32)


def stored(image: np.ndarray) -> np.ndarray:
    """HU as int16."""
    return np.rint(np.clip(image, -1024, 3071)).astype(np.int16)
