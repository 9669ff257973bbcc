"""One frame of a DICOM dataset to safe 8-bit pixels, and a record of every choice made.

The order is the standard's (PS3.3 C.7.6.3, C.11, PS3.4 N.2): decode, find padding on stored
values, modality LUT or rescale, VOI LUT or window, invert MONOCHROME1, padding black. Overlays are
never drawn, because they carry names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import UID

from engine.imaging.anatomy import anatomy_of
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.voi import (
    FUNCTIONS,
    Window,
    file_windows,
    first_item,
    lut_to_display,
    numbers,
    rescale,
    usable_lut,
)

MAX_BYTES = 512 << 20
# Segmentation, surface segmentation, RT dose, parametric map: labels and quantities, not pictures.
NOT_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.66.",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.30",
)
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# The functional groups that decide how a frame looks (PS3.3 C.7.6.16.2), and its anatomy.
FLATTENED = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameAnatomySequence",
    "PixelMeasuresSequence",
)
# (centre, width) in HU for CT without a window of its own: brain, mediastinum, soft tissue, bone.
CT_PRESETS = {
    "head": (40.0, 80.0),
    "brain": (40.0, 80.0),
    "chest": (40.0, 400.0),
    "abdomen": (40.0, 400.0),
    "spine": (300.0, 1500.0),
    "extremity": (300.0, 1500.0),
}
CT_DEFAULT = (40.0, 400.0)
PERCENTILES = (0.5, 99.5)


def render(dataset: Dataset, frame: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Pixels of one frame, (H, W) or (H, W, 3) uint8, and the choices made, ready for JSON.

    Raises ImagingError where the dataset is no image, too large or cannot be decoded.
    """
    check_header(dataset)
    if not 0 <= frame < frame_count(dataset):
        raise ImagingError(Reason.NO_SUCH_FRAME)
    header = flatten(dataset, frame)
    stored = _decode(dataset, frame)
    choices = {
        "frame": frame,
        "frames": frame_count(dataset),
        "photometric_interpretation": photometric(header),
    }
    if choices["photometric_interpretation"] in ("MONOCHROME1", "MONOCHROME2"):
        pixels, more = _render_grey(stored, header)
    else:
        pixels, more = (
            _render_colour(stored, dataset),
            {"window": None, "voi_function": None, "window_source": "colour"},
        )
    return np.ascontiguousarray(pixels), choices | more


def frame_count(dataset: Dataset) -> int:
    """NumberOfFrames, 1 where it is absent or no number."""
    count = next(iter(numbers(dataset.get("NumberOfFrames"))), 1.0)
    return int(count) if np.isfinite(count) and count >= 1 else 1


def photometric(header: Dataset) -> str:
    """Photometric Interpretation (0028,0004), empty where it is absent."""
    return str(header.get("PhotometricInterpretation", "")).strip()


def check_header(dataset: Dataset) -> None:
    """Refuse what is no image, and what would not fit, before anything is allocated."""
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class.startswith(NOT_IMAGES) or dataset.get("Modality") in ("RTDOSE", "SEG"):
        known = UID(sop_class).name
        raise ImagingError(Reason.NOT_AN_IMAGE, "" if known == sop_class else known)
    if not any(keyword in dataset for keyword in PIXELS):
        raise ImagingError(Reason.NOT_AN_IMAGE, "no pixel data")
    sizes = [
        next(iter(numbers(dataset.get(k))), 0.0)
        for k in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    ]
    if not all(np.isfinite(s) and s > 0 for s in sizes):
        raise ImagingError(Reason.UNREADABLE, "no image size")
    if np.prod(sizes) / 8 * frame_count(dataset) > MAX_BYTES:
        raise ImagingError(Reason.TOO_LARGE, f"more than {MAX_BYTES >> 20} MiB of pixels")


def flatten(dataset: Dataset, frame: int) -> Dataset:
    """The header that holds for one frame: functional groups lifted to the top, no pixels."""
    header = Dataset()
    header.update(dict(dataset.items()))
    for keyword in (*PIXELS, *GROUPS):
        if keyword in header:
            delattr(header, keyword)
    for keyword, index in zip(GROUPS, (0, frame)):
        groups = dataset.get(keyword) or []
        for name in FLATTENED if index < len(groups) else ():
            item = first_item(groups[index], name)
            if item is not None:
                header.update(dict(item.items()))
    return header


def _decode(dataset: Dataset, frame: int) -> np.ndarray:
    """Stored values of one frame; pydicom has already made RGB of YBR, whatever the label says."""
    try:
        return pixel_array(dataset, index=frame)
    except MemoryError:
        raise
    except NotImplementedError as error:
        raise ImagingError(Reason.UNSUPPORTED) from error
    except Exception as error:  # decoders raise anything; their words may quote the file
        raise ImagingError(Reason.DECODING_FAILED) from error


def _render_colour(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Palette or RGB to (H, W, 3) uint8 by the range of the stored bits; no windowing."""
    if photometric(dataset) == "PALETTE COLOR":
        try:
            colours = apply_color_lut(stored, dataset)
        except Exception as error:
            raise ImagingError(Reason.UNREADABLE, "palette") from error
        # Some writers put 8-bit colours into 16-bit entries.
        return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    if stored.ndim != 3 or stored.shape[2] != 3:
        raise ImagingError(Reason.UNSUPPORTED, "photometric interpretation")
    bits = int(dataset.get("BitsStored", 8))
    if bits == 8:
        return stored.astype(np.uint8)
    return np.clip(np.rint(stored * (255 / (2.0**bits - 1))), 0, 255).astype(np.uint8)


def _render_grey(stored: np.ndarray, header: Dataset) -> tuple[np.ndarray, dict[str, Any]]:
    if stored.ndim != 2:
        raise ImagingError(Reason.UNREADABLE, "shape")
    padding = padding_mask(stored, header)
    values, modality_lut = rescale(stored, header)
    if not np.isfinite(values).all():
        raise ImagingError(Reason.NOT_FINITE)
    display, voi = _apply_voi(values, header, padding)
    # MONOCHROME1 and the shape INVERSE say the same thing (C.8.11.3.1.2): invert once.
    inverse = str(header.get("PresentationLUTShape", "")) == "INVERSE"
    inverted = photometric(header) == "MONOCHROME1" or inverse
    pixels = np.round(255 - display if inverted else display).astype(np.uint8)
    pixels[padding] = 0
    return pixels, voi | {
        "modality_lut": modality_lut,
        "inverted": inverted,
        "padding": bool(padding.any()),
    }


def padding_mask(stored: np.ndarray, header: Dataset) -> np.ndarray:
    """Where stored values are padding (C.7.5.1.1.2): one value, or the range up to its limit."""
    ends = [
        next(iter(numbers(header.get(k))), float("nan"))
        for k in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ]
    if not np.isfinite(ends[0]):
        return np.zeros(stored.shape, bool)
    ends[1] = ends[1] if np.isfinite(ends[1]) else ends[0]
    if header.get("PixelRepresentation") == 1:  # some writers store -2000 as 63536
        ends = [e - 65536 if e > 32767 else e for e in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def _apply_voi(
    values: np.ndarray, header: Dataset, padding: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Values to float 0..255 by the file's VOI LUT, its first valid window, or ours."""
    fallback = []
    lut = first_item(header, "VOILUTSequence")
    if lut is not None and usable_lut(lut):
        return lut_to_display(values, lut), {
            "window": None,
            "voi_function": "LUT",
            "window_source": "file",
        }
    fallback += ["invalid VOI LUT"] if lut is not None else []
    if str(header.get("VOILUTFunction", "") or "LINEAR").strip() not in FUNCTIONS:
        fallback.append("unknown VOI function")
    windows = list(file_windows(header))
    fallback += ["invalid window"] if any(not w.valid for w in windows) else []
    window = next((w for w in windows if w.valid), None) or default_window(values, header, padding)
    return window.apply(values), {
        "window": [window.centre, window.width],
        "voi_function": window.function,
        "window_source": window.source,
        "fallback": fallback,
    }


def default_window(values: np.ndarray, header: Dataset, padding: np.ndarray) -> Window:
    """The window for a file that has none: CT preset, 8-bit as is, else percentiles."""
    in_hu = "RescaleSlope" in header and header.get("RescaleType", "HU") == "HU"
    if header.get("Modality") == "CT" and in_hu:
        anatomy = anatomy_of(header)
        centre, width = CT_PRESETS.get(anatomy, CT_DEFAULT)
        return Window(centre, width, "LINEAR", f"preset {anatomy}")
    bits, signed = int(header.get("BitsStored", 16)), header.get("PixelRepresentation") == 1
    if bits <= 8 and not signed and values.min() >= 0 and values.max() < 2**bits:
        top = 2**bits - 1
        return Window(top / 2, top, "LINEAR_EXACT", "stored range")
    return percentile_window(values[~padding])


def percentile_window(values: np.ndarray) -> Window:
    """From the 0.5th to the 99.5th percentile; a width of 1 where nothing lies between them."""
    low, high = np.percentile(values, PERCENTILES) if values.size else (0.0, 1.0)
    width = float(high - low) or 1.0
    return Window(float(low) + width / 2, width, "LINEAR_EXACT", "percentiles 0.5-99.5")
