"""What a segmentation measures: how many regions, and each one's diameter in mm.

A diameter is that of a disc of the region's area, as `generators.phantoms.base.diameter_mm` has it
of their mean; regions are 8-connected. In a picture a millimetre is seen only where the width of
what it shows is told, so a measure comes with that width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from scipy import ndimage

from engine.errors import TriptychError
from generators.compose.program import COUNT, DIAMETER, PRESENCE, SIZE, Fact
from generators.phantoms.bank import SUBJECTS

LEAST_MM = 1.0  # across, below which steps of 0.1 mm are too coarse
REGIONS = 4  # at most: who adds up more only adds


@dataclass(frozen=True, slots=True)
class Measured:
    """How many regions of one finding there are, their diameters in mm, largest first, and how wide
    the image is; without diameters and width where nothing says how large a pixel is."""

    finding: str
    number: int
    diameters: tuple[float, ...] = ()
    width_mm: float | None = None

    def facts(self, image_id: str) -> list[Fact]:
        """As facts of an image; no diameters where one is below LEAST_MM, or of too many.

        Of a finding of the bank those alone that can be told of it: the glands of a tumor are no
        lesions to count.
        """
        source = ("segmentation", image_id)
        told = {t for of in SUBJECTS.values() for t in of.get(self.finding, ())}
        told = told if any(self.finding in of for of in SUBJECTS.values()) else {COUNT, SIZE}
        found = [Fact(PRESENCE, self.finding, True, *source)]
        if COUNT in told:
            found.append(Fact(COUNT, self.finding, self.number, *source))
        least = min(self.diameters, default=0.0)
        if SIZE in told and self.number <= REGIONS and least >= LEAST_MM:
            found += [
                Fact(DIAMETER, self.finding, diameter, *source, which=which)
                for diameter, which in zip(self.diameters, names_of(self.number))
            ]
        return found


def names_of(number: int) -> tuple[str, ...]:
    """What regions are called, largest first; one alone has no name."""
    middle = ("second largest", "third largest")[: max(number - 2, 0)]
    return ("",) if number == 1 else ("largest", *middle, "smallest")


def measured(path: Path) -> Measured | None:
    """What a DICOM Segmentation of one segment measures; None of an empty one.

    Raises TriptychError where the file is none.
    """
    try:
        data = dcmread(path)
        mask = data.pixel_array.astype(bool)
        finding = str(data.SegmentSequence[0].SegmentLabel)
    except (OSError, InvalidDicomError, AttributeError, ValueError) as error:
        raise TriptychError(f"{path} cannot be read as a segmentation: {error}") from None
    return measure(mask if mask.ndim == 2 else mask[0], _spacing(data), finding)


def measure(mask: np.ndarray, spacing: tuple[float, float] | None, finding: str) -> Measured | None:
    """A mask's regions: (H, W) bool, `spacing` in mm of rows and of columns; None of an empty."""
    labelled, number = ndimage.label(mask, structure=np.ones((3, 3)))
    if not number:
        return None
    if spacing is None:
        return Measured(finding, int(number))
    areas = np.bincount(labelled.ravel())[1:] * spacing[0] * spacing[1]
    diameters = sorted((round(float(2 * np.sqrt(a / np.pi)), 1) for a in areas), reverse=True)
    width = round(mask.shape[1] * spacing[1], 1)
    return Measured(finding, int(number), tuple(diameters), width)


def _spacing(data: Dataset) -> tuple[float, float] | None:
    shared = data.get("SharedFunctionalGroupsSequence", [])
    for group in shared:
        for measures in group.get("PixelMeasuresSequence", []):
            if "PixelSpacing" in measures:
                rows, columns = map(float, measures.PixelSpacing)
                return rows, columns
    return None
