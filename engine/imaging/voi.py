"""Stored values to display values: modality LUT, VOI LUT and windows (DICOM PS3.3 C.11.1, C.11.2).

Every function maps onto 0..255 by the formula's analytic range, never by the image's own minimum
and maximum, so that one window shows one tissue in one grey on every image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from pydicom import Dataset

from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader, first_item
from engine.imaging.levels import Levels
from engine.imaging.values import is_empty, number, numbers, uid, unreadable, word

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
PERCENTILES = (0.5, 99.5)
# XA and XRF, plain, enhanced and biplane. Their modality LUT leads back to X-ray intensity and is
# not for display (C.8.7.1.1.2; PS3.4 N.2.5 has it ignored).
ANGIOGRAPHY = frozenset(f"1.2.840.10008.5.1.4.1.1.12.{n}" for n in ("1", "1.1", "2", "2.1", "3"))


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
        return enough and math.isfinite(self.centre) and math.isfinite(self.width)

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

    def share_between(self, values: np.ndarray, counts: np.ndarray) -> float:
        """The share of pixels that are neither black nor white, `counts[i]` having `values[i]`."""
        between = np.abs(values - self.centre) < self.width / 2
        return float(counts[between].sum() / max(1, counts.sum()))


def percentile_window(values: np.ndarray, counts: np.ndarray | None = None) -> Window:
    """From the 0.5th to the 99.5th percentile; a width of 1 where nothing lies between them.

    `counts[i]` pixels have `values[i]`, one each by default.
    """
    if counts is not None:
        values, counts = values[counts > 0], counts[counts > 0]
    low, high = _quantiles(values, counts) if values.size else (0.0, 1.0)
    width = (high - low) or 1.0
    return Window(low + width / 2, width, "LINEAR_EXACT", "percentiles 0.5-99.5")


def _quantiles(values: np.ndarray, counts: np.ndarray | None) -> tuple[float, float]:
    """The two percentiles, as numpy.percentile has them of every pixel."""
    if counts is None:
        low, high = np.percentile(values, PERCENTILES)
        return float(low), float(high)
    order = np.argsort(values, kind="stable")
    values, last = values[order], np.cumsum(counts[order]) - 1
    found = []
    for percentile in PERCENTILES:
        at = percentile / 100 * last[-1]
        below, above = (values[np.searchsorted(last, f(at))] for f in (np.floor, np.ceil))
        found.append(float(below + (above - below) * (at - np.floor(at))))
    return found[0], found[1]


def only_finite(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values with the least finite one in place of those that are not, and which are finite.

    Raises ImagingError where none is.
    """
    finite = np.isfinite(values)
    if finite.all():
        return values, finite
    if not finite.any():
        raise ImagingError(Reason.NOT_FINITE)
    return np.where(finite, values, values[finite].min()), finite


def not_finite(levels: Levels, finite: np.ndarray) -> dict[str, int]:
    """What the choices say of pixels that are not finite: how many, where there are any."""
    count = levels.pixels(~finite)
    return {"not_finite": count} if count else {}


def file_windows(header: FrameHeader) -> list[Window]:
    """The windows the file gives, valid or not, in its order.

    Raises ImagingError, naming the attribute, where centre, width or function cannot be read.
    """
    function = word(header, "VOILUTFunction", FUNCTIONS, "LINEAR")
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        found.append(numbers(header.get(keyword)))
        if not all(math.isfinite(n) for n in found[-1]):
            raise unreadable(keyword)
    # a centre or width without its partner is half a window, and no valid one
    pairs = zip_longest(*found, fillvalue=math.nan)
    return [Window(centre, width, function) for centre, width in pairs]


def rescale(values: np.ndarray, header: FrameHeader) -> tuple[np.ndarray, str]:
    """Apply the modality LUT or rescale (C.11.1). Returns float64 values and what was applied.

    Raises ImagingError, naming the attribute, where it cannot be read or a slope is 0.
    """
    lut = first_item(header, "ModalityLUTSequence")
    to_intensity = uid(header, "SOPClassUID") in ANGIOGRAPHY
    if lut is not None and not to_intensity:
        if not usable_lut(lut):
            raise unreadable("ModalityLUTSequence")
        return apply_lut(values, lut), "modality LUT"
    slope, intercept = number(header, "RescaleSlope", 1), number(header, "RescaleIntercept", 0)
    if slope == 0:
        raise unreadable("RescaleSlope", "is 0")
    applied = "none" if is_empty(header.get("RescaleSlope")) else "rescale"
    if lut is not None:
        applied += ": LUT to X-ray intensity"
    return values * np.float64(slope) + np.float64(intercept), applied


def usable_lut(item: Dataset) -> bool:
    """Whether a LUT item has a plausible descriptor and as many entries as it says."""
    descriptor = numbers(item.get("LUTDescriptor"))
    if len(descriptor) != 3 or not np.isfinite(descriptor).all() or not item.get("LUTData"):
        return False
    if not (8 <= descriptor[2] <= 16 and 0 <= descriptor[0] <= 65536):
        return False
    return len(_lut_data(item)) >= (int(descriptor[0]) or 65536)


def _lut_data(item: Dataset) -> np.ndarray:
    """A LUT's entries as float64: numbers, 16-bit words, or packed 8-bit entries."""
    data = item.LUTData
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data)).astype(np.float64)
    count = int(numbers(item.LUTDescriptor)[0]) or 65536
    order = ">" if item.original_encoding[1] is False else "<"
    kind = "u1" if len(data) < 2 * count else f"{order}u2"
    return np.frombuffer(data, kind, len(data) // np.dtype(kind).itemsize).astype(np.float64)


def apply_lut(values: np.ndarray, item: Dataset) -> np.ndarray:
    """Look values up (C.11.1.1.1): below the first mapped value the first entry, above the last."""
    count, first, _ = (int(n) for n in numbers(item.LUTDescriptor))
    # A negative first value may be written, or read, as an unsigned one.
    if first > 32767 and (values.min() < 0 or values.max() < first):
        first -= 65536
    index = np.clip(np.rint(values - first), 0, (count or 65536) - 1).astype(np.int64)
    return np.asarray(_lut_data(item)[index])


def lut_to_display(values: np.ndarray, item: Dataset) -> np.ndarray:
    """A VOI LUT's output (C.11.2.1.1) as float 0..255 over the range its bits allow.

    A descriptor that says fewer bits than its entries have is wrong; then the entries decide.
    """
    bits = int(numbers(item.LUTDescriptor)[2])
    bits = max(bits, int(_lut_data(item).max()).bit_length())
    return np.clip(apply_lut(values, item) * 255 / (2**bits - 1), 0, 255)
