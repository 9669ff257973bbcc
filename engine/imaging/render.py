"""One frame of a DICOM dataset to safe 8-bit pixels, and a record of every choice made.

The order is the standard's (PS3.3 C.7.6.3, C.11, PS3.4 N.2): decode, find padding on stored values,
modality LUT or rescale, VOI LUT or window, invert MONOCHROME1, padding black, and black what is not
finite, with a count among the choices. Overlays are never drawn, because they carry names. Every
step of grey is a function of the stored value alone, so it is computed once a value (`Levels`) and
looked up for every pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from engine.imaging.anatomy import anatomy_of
from engine.imaging.codecs import PIXELS, stored_values
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader, first_item, flatten
from engine.imaging.levels import Levels
from engine.imaging.palette import first_mapped, has_palette, palette_table
from engine.imaging.voi import (
    FUNCTIONS,
    Window,
    file_windows,
    first_number,
    lut_to_display,
    not_finite,
    only_finite,
    percentile_window,
    rescale,
    usable_lut,
)

MAX_BYTES = 512 << 20  # of one frame as stored, and of all frames that a file gives as rendered
# Segmentation, surface segmentation, RT dose, parametric map: labels and quantities, not pictures.
NOT_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.66.",
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.30",
)
GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
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
VISIBLE = 0.01  # a preset with fewer pixels between black and white shows nothing


def render(dataset: Dataset, frame: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Pixels of one frame, (H, W) or (H, W, 3) uint8, and the choices made, ready for JSON.

    Raises ImagingError where the dataset is no image, too large or cannot be decoded.
    """
    header = flatten(FrameHeader(dataset), frame)
    check_header(header)
    if not 0 <= frame < frame_count(header):
        raise ImagingError(Reason.NO_SUCH_FRAME)
    return render_frame(dataset, header, frame)


def render_frame(
    dataset: Dataset, header: FrameHeader, frame: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """As `render`, where the frame's flattened header is at hand and was checked."""
    stored = stored_values(dataset, header, frame)
    choices = {
        "frame": frame,
        "frames": frame_count(header),
        "photometric_interpretation": photometric(header),
    }
    if stored.ndim == 2 and photometric(header) in GREY:
        pixels, more = _render_grey(stored, header, little_endian(dataset))
    else:
        pixels = _render_colour(stored, header, little_endian(dataset))
        more = {"window": None, "voi_function": None, "window_source": "colour"}
    return np.ascontiguousarray(pixels), choices | more


def little_endian(dataset: Dataset) -> bool:
    """The byte order that the dataset was read in; little where it was made in memory."""
    return dataset.original_encoding[1] is not False


def frame_count(header: Dataset | FrameHeader) -> int:
    """NumberOfFrames, 1 where it is absent or no number."""
    return max(1, int(first_number(header, "NumberOfFrames", 1)))


def photometric(header: Dataset | FrameHeader) -> str:
    """Photometric Interpretation (0028,0004), empty where it is absent."""
    return str(header.get("PhotometricInterpretation", "")).strip()


def check_header(header: Dataset | FrameHeader, frames: int = 1) -> None:
    """Refuse what is no image, and what would not fit, before anything is allocated.

    `frames` is how many of its frames will be rendered.
    """
    sop_class = str(header.get("SOPClassUID", ""))
    if sop_class.startswith(NOT_IMAGES) or header.get("Modality") in ("RTDOSE", "SEG"):
        known = UID(sop_class).name
        raise ImagingError(Reason.NOT_AN_IMAGE, "" if known == sop_class else known)
    if not any(keyword in header for keyword in PIXELS):
        raise ImagingError(Reason.NOT_AN_IMAGE, "no pixel data")
    keywords = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    sizes = [first_number(header, keyword) for keyword in keywords]
    if min(sizes) <= 0:
        raise ImagingError(Reason.UNREADABLE, "no image size")
    rows, columns, samples, bits = sizes
    channels = 1 if photometric(header) in GREY else 3
    check_size(rows * columns * samples * bits / 8, rows * columns * channels * frames)


def check_size(stored: float, rendered: float) -> None:
    """Refuse a frame of too many bytes as stored, and frames of too many bytes as rendered."""
    if stored > MAX_BYTES:
        raise ImagingError(Reason.TOO_LARGE, f"more than {MAX_BYTES >> 20} MiB of pixels")
    if rendered > MAX_BYTES:
        limit = f"more than {MAX_BYTES >> 20} MiB of pixels in the chosen frames"
        raise ImagingError(Reason.TOO_LARGE, limit)


def _render_colour(stored: np.ndarray, header: FrameHeader, little: bool) -> np.ndarray:
    """Palette or RGB to (H, W, 3) uint8 by the range of the stored bits; no windowing."""
    if stored.ndim == 2 and photometric(header) == PALETTE:
        levels = Levels.of(stored)
        return levels.look_up(_palette(header, levels.values, little))
    if stored.ndim != 3 or stored.shape[2] != 3:
        raise ImagingError(Reason.UNSUPPORTED, "photometric interpretation")
    bits = _bits_stored(header, 8)
    if bits == 8:
        return stored.astype(np.uint8, copy=False)
    return np.clip(np.rint(stored * (255 / (2.0**bits - 1))), 0, 255).astype(np.uint8)


def _palette(header: FrameHeader, values: np.ndarray, little: bool) -> np.ndarray:
    try:
        return palette_table(header, values, little)
    except MemoryError:
        raise
    except Exception as error:  # a header may hold anything in place of numbers
        raise ImagingError(Reason.UNREADABLE, "palette") from error


def _bits_stored(header: FrameHeader, default: int) -> int:
    bits = first_number(header, "BitsStored", default)
    return int(bits) if 1 <= bits <= 64 else default


def _render_grey(
    stored: np.ndarray, header: FrameHeader, little: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    levels = Levels.of(stored)
    padding = padding_mask(levels.values, header)
    values, modality_lut = rescale(levels.values, header)
    values, finite = only_finite(values)
    display, voi = _apply_voi(values, header, levels, finite & ~padding)
    # MONOCHROME1 and the shape INVERSE say the same thing (C.8.11.3.1.2): invert once.
    inverse = str(header.get("PresentationLUTShape", "")) == "INVERSE"
    inverted = photometric(header) == "MONOCHROME1" or inverse
    table = np.round(255 - display if inverted else display).astype(np.uint8)
    table[padding | ~finite] = 0
    choices = not_finite(levels, finite) | {
        "modality_lut": modality_lut,
        "inverted": inverted,
        "padding": levels.pixels(padding) > 0,
    }
    if header.get("PixelPresentation") in ("COLOR", "MIXED") and has_palette(header):
        table = _supplement(table, levels.values, header, little)
        choices["palette"] = "supplemental"
    return levels.look_up(table), voi | choices


def _supplement(
    table: np.ndarray, values: np.ndarray, header: FrameHeader, little: bool
) -> np.ndarray:
    """Grey for stored values below a supplemental palette, its colours above (C.8.16.2.1.1.1)."""
    colours = _palette(header, values, little)
    coloured = values >= first_mapped(header, float(values.min()))
    return np.where(coloured[:, None], colours, table[:, None])


def padding_mask(stored: np.ndarray, header: FrameHeader) -> np.ndarray:
    """Where stored values are padding (C.7.5.1.1.2): one value, or the range up to its limit."""
    first = first_number(header, "PixelPaddingValue", float("nan"))
    if not np.isfinite(first):
        return np.zeros(stored.shape, bool)
    ends = [first, first_number(header, "PixelPaddingRangeLimit", first)]
    if header.get("PixelRepresentation") == 1:  # some writers store -2000 as 63536
        ends = [e - 65536 if e > 32767 else e for e in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def _apply_voi(
    values: np.ndarray, header: FrameHeader, levels: Levels, shown: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Values to float 0..255 by the file's VOI LUT, its first valid window, or ours.

    `values[i]` is what the levels' value i stands for, `shown[i]` whether it is to be seen.
    """
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
    window = next((w for w in windows if w.valid), None)
    window = window or default_window(values, header, levels.counts * shown)
    return window.apply(values), {
        "window": [window.centre, window.width],
        "voi_function": window.function,
        "window_source": window.source,
        "fallback": fallback,
    }


def default_window(values: np.ndarray, header: FrameHeader, counts: np.ndarray) -> Window:
    """The window for a file that has none: CT preset, 8-bit as is, else percentiles.

    `counts[i]` pixels with something to show have `values[i]`.
    """
    preset = _ct_preset(header)
    if preset is not None and preset.share_between(values, counts) >= VISIBLE:
        return preset
    bits, signed = _bits_stored(header, 16), header.get("PixelRepresentation") == 1
    if bits <= 8 and not signed and values.min() >= 0 and values.max() < 2**bits:
        top = 2**bits - 1
        return Window(top / 2, top, "LINEAR_EXACT", "stored range")
    return percentile_window(values, counts)


def _ct_preset(header: FrameHeader) -> Window | None:
    """The window of a CT slice in Hounsfield units by its body part; a localizer has none."""
    in_hu = "RescaleSlope" in header and header.get("RescaleType", "HU") == "HU"
    localizer = "LOCALIZER" in (header.get("ImageType") or ())
    if header.get("Modality") != "CT" or not in_hu or localizer:
        return None
    anatomy = anatomy_of(header)
    centre, width = CT_PRESETS.get(anatomy, CT_DEFAULT)
    return Window(centre, width, "LINEAR", f"preset {anatomy}")
