"""What the phantoms draw with: coordinates, soft edges, smooth fields, borders, trees, stamps.

Lengths are fractions of the image width, and every random field is defined on the plane, not on the
pixels: one seed shows the same anatomy at every size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import ndimage

ANGLES = np.linspace(-np.pi, np.pi, 121)


def streams(seed: int) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
    """Independent generators for anatomy, finding and noise: a twin shares the first and last."""
    anatomy, finding, noise = np.random.SeedSequence(seed).spawn(3)
    return tuple(np.random.default_rng(s) for s in (anatomy, finding, noise))  # type: ignore[return-value]


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres: x (1, size) and y (size, 1), both from -0.5 to 0.5."""
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    axis.flags.writeable = False
    return axis[None, :], axis[:, None]


def cover(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of each pixel inside a signed distance (negative inside), over an edge of `width`."""
    return np.clip(0.5 - distance / width, 0.0, 1.0)


def waves(rng: np.random.Generator, size: int, terms: int, low: float, high: float) -> np.ndarray:
    """A smooth random field, (size, size), of unit variance: `terms` products of two sines.

    `low` and `high` bound the cycles per image width, so the field is the same at every size.
    """
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 * np.pi
    cycles = rng.uniform(low, high, (2, terms, 1)).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, (2, terms, 1)).astype(np.float32)
    rows, columns = np.sin(cycles * axis + phase)
    return (rows.T @ columns) * np.float32(2 / np.sqrt(terms))


@lru_cache(maxsize=64)
def _basis(size: int, cells: int) -> np.ndarray:
    at = (np.arange(size) + 0.5) / size * (cells - 1)
    kernel = np.exp(-0.5 * ((at[:, None] - np.arange(cells)[None, :]) / 0.6) ** 2)
    kernel /= np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    return kernel.astype(np.float32)


def texture(rng: np.random.Generator, size: int, rows: int, columns: int = 0) -> np.ndarray:
    """A smooth Gaussian field, (size, size), of unit variance: about `rows` x `columns` bumps."""
    coarse = rng.standard_normal((rows, columns or rows), np.float32)
    return _basis(size, rows) @ coarse @ _basis(size, columns or rows).T


def capsule(
    u: np.ndarray,
    v: np.ndarray,
    start: tuple[float, float],
    end: tuple[float, float],
    r0: float,
    r1: float,
) -> np.ndarray:
    """Signed distance to a segment whose radius goes from r0 to r1."""
    du, dv = end[0] - start[0], end[1] - start[1]
    t = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv), 0.0, 1.0)
    across, along = u - start[0] - t * du, v - start[1] - t * dv
    return np.sqrt(across * across + along * along) - (r0 + t * (r1 - r0))


def oval(
    u: np.ndarray,
    v: np.ndarray,
    centre: tuple[float, float],
    axes: tuple[float, float],
    tilt: float = 0.0,
) -> np.ndarray:
    """About the signed distance to a tilted ellipse."""
    c, s = float(np.cos(tilt)), float(np.sin(tilt))
    x, y = u - float(centre[0]), v - float(centre[1])
    p, q = c / axes[0] * x + s / axes[0] * y, c / axes[1] * y - s / axes[1] * x
    return (np.sqrt(p * p + q * q) - 1) * float(min(axes))


def blob(
    x: np.ndarray,
    y: np.ndarray,
    centre: tuple[float, float],
    radius: float,
    border: np.ndarray,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> np.ndarray:
    """About the signed distance to a star-shaped region with a Fourier border, negative inside.

    `border` is (2, k): amplitude (of the radius) and phase of the harmonics 2, 3, 4 …; the region
    keeps the area of a disc of `radius`.
    """
    amplitude, phase = border
    c, s = float(np.cos(angle)), float(np.sin(angle))
    dx, dy = x - float(centre[0]), y - float(centre[1])
    p, q = (c * dx + s * dy) / stretch, (c * dy - s * dx) * stretch
    k = np.arange(2, 2 + len(amplitude))[:, None]
    wave = (amplitude[:, None] * np.cos(k * ANGLES + phase[:, None])).sum(0)
    edge = radius * (1 + wave) / np.sqrt(1 + (amplitude**2).sum() / 2)
    bent = np.interp(np.arctan2(q, p), ANGLES, edge).astype(np.float32)
    return np.sqrt(p * p + q * q) - bent


def harmonics(rng: np.random.Generator, height: float, terms: int = 6) -> np.ndarray:
    """A border for `blob`, (2, terms): about `height` of the radius, less at higher harmonics."""
    fall = 1 / np.sqrt(np.arange(1, terms + 1))
    return np.stack([rng.uniform(0.3, 1, terms) * height * fall, rng.uniform(0, 6.28, terms)])


def paint(image: np.ndarray, share: np.ndarray, value: float | np.ndarray) -> None:
    """Lay a value (or a colour, or an image) over `image` where `share` (H, W) says, in place."""
    share = share[..., None] if image.ndim == 3 else share
    image += share * (np.asarray(value, np.float32) - image)


Profile = Callable[[np.ndarray, np.ndarray], np.ndarray]


def stamp(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, reach: float, profile: Profile) -> None:
    """Raise `canvas` (size, size) to `profile` around N points, in place.

    `profile` maps offsets dx, dy (N, P, P) to values; it is asked within `reach` of each point.
    """
    if not len(x):
        return
    size = canvas.shape[0]
    half = int(np.ceil(reach * size)) + 1
    step = np.arange(-half, half + 1)
    column = np.floor((x + 0.5) * size).astype(np.int64)
    row = np.floor((y + 0.5) * size).astype(np.int64)
    near = (np.abs(column - size // 2) < size // 2 + half) & (
        np.abs(row - size // 2) < size // 2 + half
    )
    columns = column[:, None, None] + step[None, None, :]
    rows = row[:, None, None] + step[None, :, None]
    dx = ((columns + 0.5) / size - 0.5 - x[:, None, None]).astype(np.float32)
    dy = ((rows + 0.5) / size - 0.5 - y[:, None, None]).astype(np.float32)
    values = profile(dx, dy)
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size) & (values > 0)
    inside &= near[:, None, None]
    flat = (rows * size + columns)[inside]
    np.maximum.at(canvas.reshape(-1), flat, values[inside].astype(canvas.dtype))


def discs(size: int, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Coverage (size, size) of soft discs, the larger at every pixel; small ones are faint."""
    canvas = np.zeros((size, size), np.float32)
    edge = 1.2 / size
    order = np.argsort(radius)
    for part in np.array_split(order, 4):  # alike in size, so that patches are no larger than due
        if len(part):
            r = radius[part][:, None, None].astype(np.float32)
            faint = np.minimum(1, 2 * r / edge)

            def disc(
                dx: np.ndarray, dy: np.ndarray, r: np.ndarray = r, faint: np.ndarray = faint
            ) -> np.ndarray:
                return faint * cover(np.sqrt(dx * dx + dy * dy) - np.maximum(r, edge / 2), edge)

            stamp(canvas, x[part], y[part], float(radius[part].max()) + edge, disc)
    return canvas


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected region of a mask."""
    labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
    if number < 2:
        return mask
    found: np.ndarray = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return found


def grow_tree(
    rng: np.random.Generator,
    roots: np.ndarray,
    heading: np.ndarray,
    length: np.ndarray,
    width: np.ndarray,
    levels: int = 3,
    children: int = 3,
    bend: float = 0.4,
    step: float = 0.004,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (x, y) and radius along a branching tree of curved, tapering vessels.

    `roots` (N, 2), `heading` (radians), `length` and `width` (radius) describe its N first
    branches; each has `children`, shorter and thinner, at random places of its outer part.
    """
    found: list[np.ndarray] = []
    for level in range(levels):
        samples = max(4, int(length.max() / step))
        t = np.linspace(0, 1, samples)[None, :]
        swing = rng.normal(0, bend, (2, len(roots), 1))
        angle = heading[:, None] + swing[0] * t + 0.35 * swing[1] * np.sin(5 * t)
        pace = (length / samples)[:, None]
        x = roots[:, :1] + np.cumsum(np.cos(angle) * pace, 1)
        y = roots[:, 1:] + np.cumsum(np.sin(angle) * pace, 1)
        r = width[:, None] * (1 - 0.55 * t)
        found.append(np.stack([x.ravel(), y.ravel(), r.ravel()]))
        if level + 1 == levels:
            break
        at = rng.integers(samples // 4, samples, (len(roots), children))
        at[:, 0] = samples - 1
        parent = np.repeat(np.arange(len(roots)), children)
        at = at.ravel()
        turn = rng.choice([-1.0, 1.0], len(parent)) * rng.uniform(0.3, 0.85, len(parent))
        roots = np.stack([x[parent, at], y[parent, at]], 1)
        heading = angle[parent, at] + turn
        width = r[parent, at] * rng.uniform(0.6, 0.85, len(parent))
        length = length[parent] * rng.uniform(0.35, 0.65, len(parent))
    x, y, r = np.concatenate(found, axis=1)
    return x, y, r
