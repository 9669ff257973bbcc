"""MR of the brain (T1 with contrast agent, T2, FLAIR): no finding, tumor, infarct or plaques."""

import numpy as np

from generators.phantoms.asked import NOTHING, Asked
from generators.phantoms.base import MIN_CNR, Phantom, Truth, contrast_to_noise, count_components
from generators.phantoms.brain import (
    FIELD_OF_VIEW_MM,
    Anatomy,
    Lesion,
    draw_anatomy,
    draw_extent,
    place,
)
from generators.phantoms.canvas import cover, streams, waves
from generators.phantoms.kind import EACH, Attribute, Kind

TOLD = dict.fromkeys(("tumor", "infarct", "plaque"), EACH)
FINDINGS = ("none", *TOLD)
SEQUENCES = ("T1", "T2", "FLAIR")
# T1 ms, T2 ms and proton density (relative to water), rounded from values at 1.5 T.
TISSUE = {
    "air": (1000.0, 100.0, 0.0),
    "skin": (900.0, 60.0, 0.6),
    "fat": (260.0, 75.0, 0.75),
    "bone": (800.0, 20.0, 0.08),
    "marrow": (400.0, 60.0, 0.3),
    "csf": (4000.0, 1800.0, 1.0),
    "white": (600.0, 78.0, 0.70),
    "grey": (980.0, 98.0, 0.80),
    "deep": (880.0, 86.0, 0.77),
    "falx": (900.0, 50.0, 0.55),
    "choroid": (700.0, 110.0, 0.8),
    "infarct": (2050.0, 320.0, 0.92),
    "plaque": (2050.0, 320.0, 0.94),
    "oedema": (1300.0, 145.0, 0.84),
    "rim": (270.0, 125.0, 0.92),
    "necrosis": (2700.0, 420.0, 0.95),
}
# Window of the stored values, centre and width; white matter is stored near 1000.
WINDOWS = {"T1": (880.0, 1700.0), "T2": (1640.0, 3100.0), "FLAIR": (1130.0, 2140.0)}
WHITE_LEVEL = 1000.0


def signal(sequence: str, tissue: tuple[float, float, float]) -> float:
    """Signal of a (T1 ms, T2 ms, PD) tissue.

    Spin echo S = PD (1 − exp(−TR/T1)) exp(−TE/T2) with TR/TE 500/12 (T1) and 4500/100 ms (T2);
    inversion recovery S = PD |1 − 2 exp(−TI/T1) + exp(−TR/T1)| exp(−TE/T2) with TR/TI/TE
    9000/2500/110 ms, which nulls fluid (FLAIR). Bernstein et al., Handbook of MRI Pulse Sequences.
    """
    t1, t2, density = tissue
    if sequence == "FLAIR":
        recovered = abs(1 - 2 * np.exp(-2500 / t1) + np.exp(-9000 / t1))
        return float(density * recovered * np.exp(-110 / t2))
    tr, te = (500, 12) if sequence == "T1" else (4500, 100)
    return float(density * (1 - np.exp(-tr / t1)) * np.exp(-te / t2))


def draw(
    seed: int,
    size: int = 256,
    difficulty: float = 0.3,
    finding: str | None = None,
    asked: Asked = NOTHING,
) -> Phantom:
    """Draw one axial slice, its sequence at random.

    `size` is the side in pixels (a field of view of 230 mm), `difficulty` in [0, 1] makes lesions
    fainter and noise stronger, `finding` is one of FINDINGS or None for a uniform draw. Pixels are
    (size, size) uint16. Equal arguments give equal pixels; a lesion-free twin (`finding="none"`)
    has the same anatomy and noise.
    """
    of_anatomy, of_finding, of_noise = streams(seed)
    chosen = FINDINGS[of_finding.integers(len(FINDINGS))]
    finding = chosen if finding is None else finding
    sequence = asked.told("sequence", SEQUENCES[of_anatomy.integers(len(SEQUENCES))])
    anatomy = draw_anatomy(of_anatomy, size)
    scale = WHITE_LEVEL / signal(sequence, TISSUE["white"])
    levels = {name: scale * signal(sequence, tissue) for name, tissue in TISSUE.items()}
    healthy = anatomy.render(levels) * (1 + 0.012 * waves(of_anatomy, size, 10, 2, 9))
    gain = np.exp(of_anatomy.uniform(0.03, 0.07) * waves(of_anatomy, size, 3, 0.2, 0.8))
    sigma = float(WHITE_LEVEL * (of_noise.uniform(0.02, 0.035) + 0.03 * difficulty))
    noise = of_noise.standard_normal((2, size, size), np.float32) * np.float32(sigma)
    twin = _stored(healthy * gain, noise)
    spacing, window = FIELD_OF_VIEW_MM / size, WINDOWS[sequence]
    if finding == "none":
        truth = Truth("MR", "brain", "none", attributes={"sequence": sequence})
        return Phantom(twin, np.zeros(twin.shape, bool), truth, spacing, window, seed, difficulty)

    side, extent, count = draw_extent(of_finding, finding == "plaque", asked)
    while True:
        lesions = place(of_finding, anatomy.shape, finding, side, extent, count)
        mask = np.zeros((size, size), bool)
        for lesion in lesions:
            box = anatomy.box(lesion.centre, lesion.diameter)
            mask[box] |= lesion.distance(anatomy.u[box], anatomy.v[box]) < 0
        if count_components(mask) == count:
            break
    texture = waves(of_finding, size, 10, 6, 18)
    faint, fading = difficulty, 0.5 if sequence == "T2" else 0.3
    while True:
        ill = healthy.copy()
        for lesion in lesions:
            if finding == "tumor":
                _tumor(ill, anatomy, lesion, levels, texture, 1.0 - fading * faint)
            else:
                _even(ill, anatomy, lesion, levels[finding], 1.0 - fading * faint)
        pixels = _stored(ill * gain, noise)
        cnr = contrast_to_noise(pixels, twin, mask, sigma)
        if cnr >= MIN_CNR or faint < 0.01:
            break
        faint *= 0.7
    diameter = round(float(2 * np.sqrt(mask.sum() / count / np.pi) * spacing), 1)
    attributes = {"sequence": sequence}
    truth = Truth("MR", "brain", finding, side, count, extent, diameter, cnr, attributes)
    return Phantom(pixels, mask, truth, spacing, window, seed, difficulty)


def _stored(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Magnitude of a complex signal with Gaussian noise in both channels (Rician)."""
    real = image + noise[0]
    magnitude = np.sqrt(real * real + noise[1] * noise[1])
    return np.rint(np.clip(magnitude, 0, 65535)).astype(np.uint16)


def _even(
    image: np.ndarray, anatomy: Anatomy, lesion: Lesion, level: float, strength: float
) -> None:
    """An infarct or a plaque: one even signal with a soft edge."""
    box = anatomy.box(lesion.centre, lesion.diameter)
    distance = lesion.distance(anatomy.u[box], anatomy.v[box])
    share = cover(distance, max(0.008, 1.3 / anatomy.size))
    share = share * cover(-anatomy.depth[box], 1.3 / anatomy.size)
    image[box] += strength * share * (level - image[box])


def _tumor(
    image: np.ndarray,
    anatomy: Anatomy,
    lesion: Lesion,
    levels: dict[str, float],
    texture: np.ndarray,
    strength: float,
) -> None:
    """A ragged enhancing rim around necrosis, in a halo of oedema."""
    edge, radius = max(0.007, 1.3 / anatomy.size), lesion.diameter / 2
    box = anatomy.box(lesion.centre, lesion.diameter + 0.06)
    rough = texture[box]
    distance = lesion.distance(anatomy.u[box], anatomy.v[box])
    brain = cover(-anatomy.depth[box], 1.3 / anatomy.size) * strength
    halo = cover(distance - 0.012 - 0.1 * radius - 0.006 * rough, 0.02)
    core = cover(distance + radius * (0.45 + 0.07 * rough), edge)
    image[box] += halo * brain * (levels["oedema"] - image[box])
    rim = levels["rim"] * (1 + 0.06 * rough)
    image[box] += cover(distance, edge) * brain * (rim - image[box])
    image[box] += core * brain * (levels["necrosis"] - image[box])


KIND = Kind(
    name="MR",
    modality="MR",
    anatomy="brain",
    dicom="MR",
    draw=draw,
    findings=TOLD,
    attributes={"sequence": Attribute("attribute", ("Which MR sequence is this?",), SEQUENCES)},
)
