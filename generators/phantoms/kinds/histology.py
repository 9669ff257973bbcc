"""Histology of the colon's mucosa: crypts, stroma and nuclei, stained with haematoxylin and eosin.

Findings: adenocarcinoma (graded by its glands), adenoma (graded by its rows of nuclei), colitis
(graded by its infiltrate), each in a part of the field or in all of it. The stains' optical
densities add up and make colour by Beer-Lambert (Ruifrok and Johnston, Anal Quant Cytol Histol 23,
2001; Macenko et al., ISBI 2009).
Stain strength, hue and the stroma's own cells are drawn apart from the finding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import Phantom, Truth, count_components, until_visible
from generators.phantoms.canvas import (
    ANGLES,
    cover,
    grid,
    harmonics,
    largest,
    stamp,
    streams,
    texture,
)
from generators.phantoms.kind import Attribute, Kind, Spill, severity

TOLD = dict.fromkeys(("adenocarcinoma", "adenoma", "colitis"), ())
FINDINGS = ("none", *TOLD)
FIELD_MM = 0.26
ZOOM = 1.35  # tissue is laid out on a field as much wider, of which the middle is seen
GRADES = {
    "adenocarcinoma": ("well", "moderately", "poorly"),
    "adenoma": ("low", "high"),
    "colitis": ("mild", "moderate", "severe"),
}
HAEMATOXYLIN, EOSIN = (0.62, 0.71, 0.33), (0.12, 0.92, 0.34)
INFILTRATE = {"mild": 800, "moderate": 1400, "severe": 2200}  # cells in a whole field
SPARSE, DENSE = 450, 750  # nuclei in the field from which cellularity is told


@dataclass(frozen=True, slots=True)
class Gland:
    """A crypt or a tumour's gland: epithelium of `cells` around lumina."""

    x: float
    y: float
    radius: float
    border: np.ndarray
    stretch: float
    angle: float
    lumen: float  # share of the radius
    mucin: float  # 0 to 1: how full its goblet cells are
    cells: int
    rows: int  # of nuclei
    holes: int  # further lumina (cribriform)
    long: float  # length of nuclei over their width
    size: float  # of nuclei
    phase: float


Nuclei = np.ndarray  # (6, N): x, y, half axes, angle, optical density


@dataclass(frozen=True, slots=True)
class Tissue:
    """Glands and the cells between them."""

    glands: list[Gland]
    cells: Nuclei


@dataclass(frozen=True, slots=True)
class Field:
    """What the objective shows of a tissue: glands, and all nuclei with theirs."""

    glands: list[Gland]
    nuclei: Nuclei


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one field; equal arguments give equal pixels, (size, size, 3) uint8 RGB.

    `difficulty` in [0, 1] makes a finding milder in its look and adds noise, `finding` is one of
    FINDINGS or None for a uniform draw. A twin (`finding="none"`) is the same field with healthy
    crypts.
    """
    of_anatomy, of_finding, of_noise = streams(seed)
    chosen = FINDINGS[of_finding.integers(len(FINDINGS))]
    finding = chosen if finding is None else finding
    healthy = _mucosa(of_anatomy)
    slide = _Slide(of_anatomy, size)
    seen = _magnified(healthy)
    sigma = float(of_noise.uniform(2.0, 3.5) + 3 * difficulty)
    grain = of_noise.standard_normal((size, size, 1), np.float32) * np.float32(sigma)
    twin = slide.photograph(seen, grain)
    spacing = FIELD_MM / size
    if finding == "none":
        truth = Truth("histology", "colon", "none", attributes=_told(seen))
        mask = np.zeros((size, size), bool)
        return Phantom(twin, mask, truth, spacing, None, seed, difficulty)
    grade = _grade(finding, str(of_finding.choice(GRADES[finding])), asked)
    region, mask = _region(of_finding, size, asked)
    ill = _magnified(_diseased(of_finding, healthy, finding, grade, region))
    share = float(mask.mean())
    told = _told(ill) | _graded(finding, grade)
    told["extent"] = "diffuse" if share > 0.75 else "focal"

    def render(effective: float) -> np.ndarray:
        return slide.photograph(ill, grain, mask, 0.16 * (1 - effective))

    pixels, cnr = until_visible(render, twin, mask, 2 * sigma, difficulty)
    truth = Truth("histology", "colon", finding, None, count_components(mask), None, None, cnr,
                  told)  # fmt: skip
    return Phantom(pixels, mask, truth, spacing, None, seed, difficulty)


def _grade(finding: str, drawn: str, asked: Asked) -> str:
    """The grade that is asked for in the words in which it is told."""
    told = {value: grade for grade in GRADES[finding] for value in _graded(finding, grade).values()}
    (name,) = _graded(finding, drawn)
    return told.get(asked.told(name, ""), drawn)


def _graded(finding: str, grade: str) -> dict[str, str]:
    if finding == "adenocarcinoma":
        return {"differentiation": f"{grade} differentiated"}
    return {"dysplasia": f"{grade} grade"} if finding == "adenoma" else {"severity": grade}


def _told(field: Field) -> dict[str, str]:
    """How many nuclei have their middle in the field, and what that makes it."""
    x, y = field.nuclei[:2]
    number = int(((np.abs(x) < 0.5) & (np.abs(y) < 0.5)).sum())
    told = "sparse" if number < SPARSE else "moderate" if number < DENSE else "dense"
    return {"cellularity": told, "nuclei": str(number)}


def _magnified(tissue: Tissue) -> Field:
    """The tissue as the objective shows it, without what lies out of the field."""
    glands = [
        replace(g, x=ZOOM * g.x, y=ZOOM * g.y, radius=ZOOM * g.radius, size=ZOOM * g.size)
        for g in tissue.glands
        if ZOOM * (max(abs(g.x), abs(g.y)) - 1.5 * g.radius) < 0.5
    ]
    cells = tissue.cells * np.array([ZOOM, ZOOM, ZOOM, ZOOM, 1, 1])[:, None]
    nuclei = np.concatenate([*(_nuclei(g) for g in glands), cells], 1)
    return Field(glands, nuclei[:, np.abs(nuclei[:2]).max(0) < 0.52])


def _mucosa(rng: np.random.Generator) -> Tissue:
    """Round crypts side by side in stroma with some lymphocytes and fibroblasts."""
    pitch = float(rng.uniform(0.205, 0.245))
    turn, shift = float(rng.uniform(0, np.pi)), rng.uniform(0, 1, 2)
    i, j = (a.ravel() + s for a, s in zip(np.mgrid[-5:6, -5:6].astype(float), shift))
    px, py = pitch * (i + 0.5 * j), pitch * 0.87 * j
    c, s = np.cos(turn), np.sin(turn)
    x = c * px - s * py + rng.normal(0, 0.09 * pitch, len(px))
    y = s * px + c * py + rng.normal(0, 0.09 * pitch, len(px))
    seen = (np.abs(x) < 0.62) & (np.abs(y) < 0.62)
    glands = [
        Gland(float(a), float(b), pitch * float(rng.uniform(0.37, 0.41)), harmonics(rng, 0.05),
              float(rng.uniform(1.0, 1.22)), float(rng.uniform(0, 3.14)),
              float(rng.uniform(0.13, 0.2)), float(rng.uniform(0.75, 1.0)),
              int(rng.integers(15, 20)), 1, 0, 1.25, 0.0092, float(rng.uniform(0, 6.28)))
        for a, b in zip(x[seen], y[seen])
    ]  # fmt: skip
    return Tissue(glands, _scatter(rng, int(rng.integers(60, 1000)), glands))


def _scatter(rng: np.random.Generator, number: int, glands: list[Gland]) -> Nuclei:
    """Lymphocytes, plasma cells and spindle-shaped fibroblasts between the glands."""
    x, y = rng.uniform(-0.53, 0.53, (2, 2 * number))
    clear = np.ones(2 * number, bool)
    for g in glands:
        clear &= (x - g.x) ** 2 + (y - g.y) ** 2 > (1.12 * g.radius) ** 2
    x, y = x[clear][:number], y[clear][:number]
    spindle = rng.random(len(x)) < 0.3
    wide = np.where(
        spindle, rng.uniform(0.003, 0.0042, len(x)), rng.uniform(0.0062, 0.0082, len(x))
    )
    long = np.where(spindle, rng.uniform(0.013, 0.02, len(x)), wide * rng.uniform(1, 1.2, len(x)))
    return np.stack([x, y, long, wide, rng.uniform(0, 3.14, len(x)), rng.uniform(0.7, 1.1, len(x))])


def _region(
    rng: np.random.Generator, size: int, asked: Asked
) -> tuple[tuple[float, ...], np.ndarray]:
    """A straight-ish front across the field, or all of it: (normal angle, offset) and mask."""
    x, y = grid(size)
    turn = float(rng.uniform(0, 2 * np.pi))
    focal = asked.told("extent", "focal" if rng.random() < 0.5 else "diffuse") == "focal"
    offset = float(rng.uniform(-0.06, 0.04)) if focal else -2.0
    wave = (float(rng.uniform(0.01, 0.03)), float(rng.uniform(6, 11)), float(rng.uniform(0, 6.28)))
    front = (turn, offset, *wave)
    return front, largest(_inside(front, x / ZOOM, y / ZOOM))


def _inside(front: tuple[float, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    turn, offset, high, often, phase = front
    c, s = float(np.cos(turn)), float(np.sin(turn))
    along, across = c * x + s * y, c * y - s * x
    return np.asarray(along > offset + high * np.sin(often * across + phase))


def _diseased(
    rng: np.random.Generator, healthy: Tissue, finding: str, grade: str, front: tuple[float, ...]
) -> Tissue:
    """The healthy field with what lies beyond the front replaced."""
    gx, gy = (np.array([getattr(g, k) for g in healthy.glands]) for k in "xy")
    touched = _inside(front, gx, gy)
    kept = [g for g, t in zip(healthy.glands, touched) if not t]
    lost = [g for g, t in zip(healthy.glands, touched) if t]
    inside = _inside(front, healthy.cells[0], healthy.cells[1])
    if finding == "colitis":
        glands = kept + [_inflamed(rng, g, grade) for g in lost]
        more = _scatter(rng, INFILTRATE[grade], glands)
        more = more[:, _inside(front, more[0], more[1])]
        return Tissue(glands, np.concatenate([healthy.cells, more], 1))
    if finding == "adenoma":
        glands = kept + [_adenomatous(rng, g, grade) for g in lost]
        return Tissue(glands, healthy.cells)
    if grade == "poorly":
        sheet = _sheet(rng)
        sheet = sheet[:, _inside(front, sheet[0], sheet[1])]
        return Tissue(kept, np.concatenate([healthy.cells[:, ~inside], sheet], 1))
    glands = [g for g in _malignant(rng, grade) if _inside(front, np.array(g.x), np.array(g.y))]
    glands = [g for g in glands if _apart(g, kept)]
    stroma = healthy.cells[:, ~inside]
    more = _scatter(rng, int(rng.integers(60, 900)), [*kept, *glands])
    more = more[:, _inside(front, more[0], more[1])]
    return Tissue(kept + glands, np.concatenate([stroma, more], 1))


def _apart(gland: Gland, others: list[Gland]) -> bool:
    return all(
        np.hypot(gland.x - o.x, gland.y - o.y) > 0.9 * (gland.radius + o.radius) for o in others
    )


def _inflamed(rng: np.random.Generator, g: Gland, grade: str) -> Gland:
    """A crypt that has shrunk, bent and lost mucin, the more the worse."""
    worse = GRADES["colitis"].index(grade) / 2
    return Gland(g.x, g.y, g.radius * (0.94 - 0.2 * worse * float(rng.uniform(0.4, 1))),
                 harmonics(rng, 0.06 + 0.12 * worse), g.stretch, g.angle, g.lumen * (1 + worse),
                 g.mucin * (1 - 0.65 * worse), g.cells, 1, 0, 1.4, g.size, g.phase)  # fmt: skip


def _adenomatous(rng: np.random.Generator, g: Gland, grade: str) -> Gland:
    """A crowded crypt of dark pencil-shaped nuclei in rows; little mucin."""
    high = grade == "high"
    return Gland(g.x, g.y, g.radius * float(rng.uniform(1.08, 1.2)), harmonics(rng, 0.08),
                 g.stretch * float(rng.uniform(1.0, 1.15)), g.angle,
                 float(rng.uniform(0.2, 0.34)), 0.05 if high else 0.3,
                 int(rng.integers(26, 32)), 3 if high else 2, 0, 2.4 if not high else 1.9,
                 0.0105, g.phase)  # fmt: skip


def _malignant(rng: np.random.Generator, grade: str) -> list[Gland]:
    """Angular glands of many sizes; the moderately differentiated run together around holes."""
    fused = grade == "moderately"
    found: list[Gland] = []
    for _ in range(160):
        radius = float(rng.uniform(0.10, 0.17) if fused else rng.uniform(0.055, 0.12))
        x, y = (float(v) for v in rng.uniform(-0.6, 0.6, 2))
        gland = Gland(x, y, radius, harmonics(rng, 0.17 if fused else 0.22),
                      float(rng.uniform(1.0, 1.35)), float(rng.uniform(0, 3.14)),
                      float(rng.uniform(0.14, 0.22) if fused else rng.uniform(0.42, 0.58)), 0.0,
                      int(radius * 235), 2 if not fused else 4,
                      int(rng.integers(4, 8)) if fused else 0, 1.55, 0.0122,
                      float(rng.uniform(0, 6.28)))  # fmt: skip
        if _apart(gland, found):
            found.append(gland)
    return found


def _sheet(rng: np.random.Generator) -> Nuclei:
    """Large nuclei of all shapes, side by side without glands."""
    pitch = 0.0335
    n = int(1.1 / pitch)
    i, j = (a.ravel() for a in np.mgrid[0:n, 0:n].astype(float))
    x = (i + 0.5 * (j % 2)) * pitch - 0.55 + rng.normal(0, 0.24 * pitch, n * n)
    y = j * pitch - 0.55 + rng.normal(0, 0.24 * pitch, n * n)
    keep = rng.random(n * n) < 0.9
    x, y = x[keep], y[keep]
    wide = np.clip(rng.normal(0.0118, 0.0025, len(x)), 0.006, 0.019)
    long = wide * rng.uniform(1.0, 1.6, len(x))
    return np.stack(
        [x, y, long, wide, rng.uniform(0, 3.14, len(x)), rng.uniform(0.55, 1.15, len(x))]
    )


def _radius(gland: Gland, theta: np.ndarray) -> np.ndarray:
    """Distance of the border in the gland's own frame, before it is stretched."""
    k = np.arange(2, 2 + gland.border.shape[1])[:, None]
    wave = (gland.border[0][:, None] * np.cos(k * ANGLES + gland.border[1][:, None])).sum(0)
    return np.asarray(gland.radius * np.interp(theta, ANGLES, 1 + wave), np.float32)


def _nuclei(gland: Gland) -> Nuclei:
    """Nuclei on the outer side of the epithelium, in one row or several, pointing inwards."""
    golden = 2.399963
    parts = []
    for row in range(gland.rows):
        at = np.arange(gland.cells) + 0.5 * (row % 2)
        theta = (gland.phase + 2 * np.pi * at / gland.cells + np.pi) % (2 * np.pi) - np.pi
        jitter = np.sin(golden * (at + 31 * row + 7 * gland.phase) * 3.7)
        depth = gland.lumen + 0.12 + (0.86 - gland.lumen) * (1 - (row + 0.28) / (gland.rows + 0.35))
        deepest = 1 - 0.75 * gland.size * gland.long / gland.radius
        r = _radius(gland, theta) * np.clip(depth + 0.05 * jitter, 0.2, deepest)
        if gland.rows == 1:
            r = _radius(gland, theta) * (0.86 + 0.03 * jitter)
        px, py = r * np.cos(theta) * gland.stretch, r * np.sin(theta) / gland.stretch
        c, s = np.cos(gland.angle), np.sin(gland.angle)
        x, y = gland.x + c * px - s * py, gland.y + s * px + c * py
        inward = gland.rows > 1
        angle = theta + gland.angle + (0 if inward else np.pi / 2) + 0.25 * jitter
        wide = gland.size * 0.72 * (1 + 0.16 * jitter)
        density = 0.85 + 0.16 * np.cos(golden * 5 * at + row)
        parts.append(np.stack([x, y, wide * gland.long, wide, angle, density]))
    return np.concatenate(parts, 1)


class _Slide:
    """Stroma and stains of one slide; photographs any tissue on it."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.size = size
        fibres = texture(rng, size, 22, 60) * 0.5 + texture(rng, size, 60, 22) * 0.5
        self.stroma = 0.40 + 0.07 * fibres + 0.05 * texture(rng, size, 8)
        gaps = np.clip(texture(rng, size, 36) - 1.1, 0, 1)
        self.stroma *= 1 - 0.9 * np.clip(3 * gaps, 0, 1)
        self.chromatin = 1 + 0.16 * texture(rng, size, 100)
        self.rough = texture(rng, size, 50)
        tint = rng.normal(0, 0.025, (2, 3))
        strength = np.exp(rng.uniform(-0.55, 0.5, 2))  # thickness and staining time vary a lot
        self.stain = (np.array([HAEMATOXYLIN, EOSIN]) + tint) * strength[:, None] * 1.25
        self.light = np.array([246.0, 243.0, 248.0], np.float32) * float(rng.uniform(0.97, 1.01))

    def photograph(
        self,
        field: Field,
        grain: np.ndarray,
        darker: np.ndarray | None = None,
        amount: float = 0.0,
    ) -> np.ndarray:
        """Colour (size, size, 3) uint8; nuclei in `darker` are hyperchromatic by `amount`."""
        size = self.size
        eosin = self.stroma.copy()
        blue = np.full((size, size), 0.06, np.float32)
        empty = np.zeros((size, size), np.float32)
        for gland in field.glands:
            self._epithelium(gland, blue, eosin, empty)
        spots = _stamp_nuclei(size, field.nuclei) * self.chromatin * (1 - 0.9 * empty)
        if darker is not None:
            spots *= 1 + amount * darker
        share = np.clip(spots * 1.5, 0, 1)
        blue += spots - 0.4 * share * blue
        eosin *= 1 - 0.55 * share
        h, e = self.stain.astype(np.float32)
        colour = self.light * np.exp(-(blue[..., None] * h + eosin[..., None] * e)) + grain
        return np.rint(np.clip(colour, 0, 255)).astype(np.uint8)

    def _epithelium(
        self, gland: Gland, blue: np.ndarray, eosin: np.ndarray, empty: np.ndarray
    ) -> None:
        """Cytoplasm, goblet cells' mucin and the lumina of one gland, in its own box."""
        n = self.size
        reach = gland.radius * gland.stretch * (1 + gland.border[0].sum()) + 2 / n
        row, column = ((v + 0.5) * n for v in (gland.y, gland.x))
        rows = slice(max(int(row - reach * n), 0), max(int(row + reach * n) + 2, 0))
        columns = slice(max(int(column - reach * n), 0), max(int(column + reach * n) + 2, 0))
        x, y = grid(n)
        dx, dy = x[:, columns] - gland.x, y[rows] - gland.y
        if not dx.size or not dy.size:  # out of the field
            return
        c, s = float(np.cos(gland.angle)), float(np.sin(gland.angle))
        p, q = (c * dx + s * dy) / gland.stretch, (c * dy - s * dx) * gland.stretch
        r = np.sqrt(p * p + q * q)
        theta = np.arctan2(q, p)
        edge = _radius(gland, theta)
        depth = r / edge
        pixel = 1.3 / n
        inside = cover(r - edge, pixel)
        rim = cover(np.abs(r - edge) - 0.0022, pixel)
        e, b = eosin[rows, columns], blue[rows, columns]
        e += inside * (0.34 - e)
        b += inside * ((0.20 if gland.mucin < 0.5 else 0.12) - b)
        e += 0.5 * rim * (0.55 - e)
        if gland.mucin > 0:
            cells = np.cos(gland.cells * (theta - gland.phase)) * 0.5 + 0.5
            ring = np.clip(1 - ((depth - 0.50) / 0.27) ** 2, 0, 1)
            drop = gland.mucin * np.clip(2.4 * ring * (0.25 + cells) - 0.25, 0, 1) * inside
            e += drop * (0.05 - e)
            b += drop * (0.09 - b)
        void = cover((depth - gland.lumen) * edge + 0.002 * self.rough[rows, columns], 2 * pixel)
        for hole in range(gland.holes):
            turn, far = gland.phase + 2.4 * hole, 0.30 + 0.38 * ((hole * 0.618) % 1)
            hx, hy = far * gland.radius * np.cos(turn), far * gland.radius * np.sin(turn)
            wide = gland.radius * (0.11 + 0.07 * ((hole * 0.377) % 1))
            void = np.maximum(void, cover(np.sqrt((p - float(hx)) ** 2 + (q - float(hy)) ** 2)
                                          - wide, 2 * pixel))  # fmt: skip
        e += void * (0.03 - e)
        b += void * (0.02 - b)
        np.maximum(empty[rows, columns], void, out=empty[rows, columns])


def _stamp_nuclei(size: int, nuclei: Nuclei) -> np.ndarray:
    """Optical density of all nuclei (size, size), each with a darker membrane."""
    canvas = np.zeros((size, size), np.float32)
    order = np.argsort(nuclei[2])
    edge = 1.1 / size
    for part in np.array_split(order, 4):
        if not len(part):
            continue
        x, y, long, wide, angle, density = nuclei[:, part].astype(np.float32)
        c, s = (f(angle)[:, None, None] for f in (np.cos, np.sin))
        a, b, d = (v[:, None, None] for v in (long, wide, density))

        def ellipse(
            dx: np.ndarray,
            dy: np.ndarray,
            c: np.ndarray = c,
            s: np.ndarray = s,
            a: np.ndarray = a,
            b: np.ndarray = b,
            d: np.ndarray = d,
        ) -> np.ndarray:
            p, q = (c * dx + s * dy) / a, (c * dy - s * dx) / b
            r = np.sqrt(p * p + q * q)
            shade = 0.8 + 0.2 * np.clip(r, 0, 1) ** 2
            return np.asarray(d * shade * cover((r - 1) * b, edge))

        stamp(canvas, x, y, float(long.max()) + edge, ellipse)
    return canvas


_DIFFERENTIATION = tuple(f"{how} differentiated" for how in ("well", "moderately", "poorly"))
_GRADES, _EXTENTS = ("low grade", "high grade"), ("focal", "diffuse")
KIND = Kind(
    name="histology",
    modality="histology",
    anatomy="colon",
    dicom="GM",
    draw=draw,
    findings=TOLD,
    spill=Spill(0.2, why="a crypt that is changed reaches over the front by its radius"),
    attributes={
        "severity": severity("colitis"),
        "differentiation": Attribute(
            "grading",
            ("How well is the tumor differentiated?",),
            _DIFFERENTIATION,
            of={"adenocarcinoma": _DIFFERENTIATION},
        ),
        "dysplasia": Attribute(
            "grading",
            ("Is the dysplasia low grade or high grade?",),
            _GRADES,
            of={"adenoma": _GRADES},
        ),
        "extent": Attribute(
            "attribute",
            ("Is the disease focal or diffuse?",),
            _EXTENTS,
            of=dict.fromkeys(TOLD, _EXTENTS),
        ),
        "cellularity": Attribute(
            "grading", ("How dense are the nuclei?",), ("sparse", "moderate", "dense"), "{} nuclei"
        ),
    },
    no_article=frozenset({"adenocarcinoma", "colitis"}),
)
