"""NIfTI volumes to axial slices, seen as a radiologist sees them.

The axes are turned to canonical RAS by the file's own affine; a slice is displayed with the
patient's right on the left and anterior at the top, lowest slice first. One window holds for the
whole volume, so that one value is one grey on every slice. Of a time series the first volume is
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

from engine.imaging.errors import ImagingError, Reason
from engine.imaging.levels import Levels
from engine.imaging.reader import GZIP, inflate_whole
from engine.imaging.render import check_size
from engine.imaging.values import unreadable
from engine.imaging.voi import Window, not_finite, only_finite, percentile_window

LABELS = 1002  # NIFTI_INTENT_LABEL: an atlas or a segmentation, not a picture
HEADERS = {b"n+1": 348, b"n+2": 540}
SAMPLED = 1 << 20  # voxels, evenly spaced, that decide a volume's percentiles
NEEDS_EXTRA = "NIfTI needs pip install 'triptych[nifti]'"


@dataclass(frozen=True)
class Volume:
    """Stored voxels, (X, Y, Z) or (X, Y, Z, 3) in RAS order, and how they are shown."""

    voxels: np.ndarray
    slope: float
    intercept: float
    window: Window | None
    choices: dict[str, Any]

    @property
    def slices(self) -> int:
        """How many axial slices there are."""
        return int(self.voxels.shape[2])


def read_nifti(data: bytes) -> Volume:
    """A .nii or .nii.gz volume. Raises ImagingError for what is damaged, large or no picture."""
    try:
        import nibabel
    except ImportError as error:
        raise ImagingError(Reason.UNSUPPORTED, NEEDS_EXTRA) from error
    if data.startswith(GZIP):
        data = inflate_whole(data, gzip=True)
    kind = nibabel.Nifti1Header if data[344:347] == b"n+1" else nibabel.Nifti2Header
    try:
        header = kind.from_fileobj(BytesIO(data))
        stored = _first_volume(header, data)
        turn = nibabel.io_orientation(header.get_best_affine())
        voxels = nibabel.apply_orientation(stored, turn)
        _check_scale(header)
        slope, intercept = (float(v or d) for v, d in zip(header.get_slope_inter(), (1, 0)))
    except (ImagingError, MemoryError):
        raise
    except Exception as error:
        raise ImagingError(Reason.UNREADABLE, "damaged NIfTI") from error
    known = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    choices = {"format": "NIFTI", "orientation": "file" if known else "assumed"}
    window = _window(header, voxels, slope, intercept) if voxels.ndim == 3 else None
    return Volume(voxels, slope, intercept, window, choices)


def _check_scale(header: Any) -> None:
    """Refuse a scale or a display range that is no number; a slope of 0 or NaN means none."""
    slope = float(header["scl_slope"])
    scaled = slope != 0 and not np.isnan(slope)
    for name in (*(("scl_slope", "scl_inter") if scaled else ()), "cal_min", "cal_max"):
        if not np.isfinite(float(header[name])):
            raise unreadable(name)


def _first_volume(header: Any, data: bytes) -> np.ndarray:
    """The stored voxels of the first volume, a view of the data; checked before it is made."""
    if int(header["intent_code"]) == LABELS:
        raise ImagingError(Reason.NOT_AN_IMAGE, "label map")
    dtype = header.get_data_dtype()
    shape = (*header.get_data_shape(), 1, 1)[:3]
    if dtype.names == ("R", "G", "B"):
        dtype, shape = np.dtype(np.uint8), (3, *shape)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ImagingError(Reason.UNSUPPORTED, "NIfTI data type")
    if min(shape) < 1:
        raise ImagingError(Reason.UNREADABLE, "no image size")
    check_size(prod(shape) * dtype.itemsize, 0)
    offset = max(int(header["vox_offset"]), HEADERS[bytes(header["magic"].item())[:3]])
    if offset + prod(shape) * dtype.itemsize > len(data):
        raise ImagingError(Reason.UNREADABLE, "fewer voxels than the header says")
    stored = np.frombuffer(data, dtype, prod(shape), offset).reshape(shape, order="F")
    return np.moveaxis(stored, 0, -1) if len(shape) == 4 else stored


def _window(header: Any, voxels: np.ndarray, slope: float, intercept: float) -> Window:
    """The header's display range, bytes as they are, else percentiles of the volume."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if high > low:
        return Window((low + high) / 2, high - low, "LINEAR_EXACT", "file")
    if voxels.dtype == np.uint8 and (slope, intercept) == (1, 0):
        return Window(127.5, 255, "LINEAR_EXACT", "stored range")
    every = -(-voxels.size // SAMPLED)
    sample = voxels.reshape(-1)[::every] * slope + intercept
    return percentile_window(sample[np.isfinite(sample)])


def render_slice(volume: Volume, index: int) -> tuple[np.ndarray, dict[str, Any]]:
    """One axial slice as (H, W) or (H, W, 3) uint8 and the choices made."""
    stored = np.ascontiguousarray(volume.voxels[::-1, ::-1, index].swapaxes(0, 1))
    if volume.window is None:
        return stored, volume.choices
    levels = Levels.of(stored)
    values, finite = only_finite(levels.values * volume.slope + volume.intercept)
    window = volume.window
    table = np.where(finite, np.round(window.apply(values)), 0).astype(np.uint8)
    return levels.look_up(table), volume.choices | not_finite(levels, finite) | {
        "window": [window.centre, window.width],
        "voi_function": window.function,
        "window_source": window.source,
    }
