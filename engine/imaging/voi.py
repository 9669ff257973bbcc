"""Stored values to display values: modality LUT, VOI LUT and windows (DICOM PS3.3 C.11.1, C.11.2).

Every function maps onto 0..255 by the formula's analytic range, never by the image's own minimum
and maximum, so that one window shows one tissue in one grey on every image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, slots=True)
class Window:
    """A window (units of the modality LUT's output), its function and where it came from."""

    centre: float
    width: float
    function: str = "LINEAR"
    source: str = "file"

    @property
    def valid(self) -> bool:
        """C.11.2.1.2: LINEAR needs a width of at least 1, the others more than 0."""
        enough = self.width >= 1 if self.function == "LINEAR" else self.width > 0
        return bool(enough and np.isfinite([self.centre, self.width]).all())

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape to float 0..255 (C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2)."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4 * (values - self.centre) / self.width, -700, 700)
            return np.asarray(255 / (1 + np.exp(exponent)))
        if self.function == "LINEAR_EXACT":
            return np.clip(((values - self.centre) / self.width + 0.5) * 255, 0, 255)
        if self.width == 1:  # the formula's limit: a threshold
            return np.where(values > self.centre - 0.5, 255.0, 0.0)
        return np.clip(((values - (self.centre - 0.5)) / (self.width - 1) + 0.5) * 255, 0, 255)


def numbers(value: Any) -> list[float]:
    """A numeric attribute of any multiplicity as floats; what is no number becomes NaN."""
    if value is None or value == "":
        return []
    many = [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else value
    return [_number(v) for v in many]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def file_windows(header: Dataset) -> Iterator[Window]:
    """The windows the file gives, valid or not, in its order. An unknown function means LINEAR."""
    name = str(header.get("VOILUTFunction", "") or "LINEAR").strip()
    function = name if name in FUNCTIONS else "LINEAR"
    centres, widths = numbers(header.get("WindowCenter")), numbers(header.get("WindowWidth"))
    for centre, width in zip(centres, widths):
        yield Window(centre, width, function)


def rescale(values: np.ndarray, header: Dataset) -> tuple[np.ndarray, str]:
    """Apply the modality LUT or rescale (C.11.1). Returns float64 values and what was applied."""
    lut = first_item(header, "ModalityLUTSequence")
    if lut is not None and usable_lut(lut):
        return apply_lut(values, lut), "modality LUT"
    slope = next(iter(numbers(header.get("RescaleSlope"))), 1.0)
    intercept = next(iter(numbers(header.get("RescaleIntercept"))), 0.0)
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        return values.astype(np.float64), "none: invalid rescale"
    applied = "rescale" if "RescaleSlope" in header else "none"
    return values * np.float64(slope) + np.float64(intercept), applied


def first_item(header: Dataset, keyword: str) -> Dataset | None:
    """The first item of a sequence, None where it is absent or empty."""
    items = header.get(keyword)
    return items[0] if items else None


def usable_lut(item: Dataset) -> bool:
    """Whether a LUT item has a plausible descriptor and as many entries as it says."""
    descriptor = numbers(item.get("LUTDescriptor"))
    if len(descriptor) != 3 or not 8 <= descriptor[2] <= 16 or not item.get("LUTData"):
        return False
    return len(_lut_data(item)) >= (int(descriptor[0]) or 65536)


def _lut_data(item: Dataset) -> np.ndarray:
    data = item.LUTData
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data)).astype(np.float64)
    order = ">" if item.original_encoding[1] is False else "<"
    return np.frombuffer(data, f"{order}u2").astype(np.float64)


def apply_lut(values: np.ndarray, item: Dataset) -> np.ndarray:
    """Look values up (C.11.1.1.1): below the first mapped value the first entry, above the last."""
    count, first, _ = (int(n) for n in numbers(item.LUTDescriptor))
    if first > 32767 and values.min() < 0:  # a signed value written as an unsigned one
        first -= 65536
    index = np.clip(np.rint(values - first), 0, (count or 65536) - 1).astype(np.int64)
    return np.asarray(_lut_data(item)[index])


def lut_to_display(values: np.ndarray, item: Dataset) -> np.ndarray:
    """A VOI LUT's output (C.11.2.1.1) as float 0..255 over the range its bits allow."""
    bits = int(numbers(item.LUTDescriptor)[2])
    return np.clip(apply_lut(values, item) * 255 / (2**bits - 1), 0, 255)
