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
from engine.imaging.grey import Grey, Scale
from engine.imaging.header import FrameHeader, first_item, flatten
from engine.imaging.layout import GREY, frame_count, photometric, read_size
from engine.imaging.levels import Levels
from engine.imaging.palette import first_mapped, has_palette, palette_table
from engine.imaging.values import is_empty, number, uid, unreadable, word, words
from engine.imaging.voi import (
    FUNCTIONS,
    Window,
    file_windows,
    lut_to_display,
    not_finite,
    only_finite,
    percentile_window,
    rescale,
    usable_lut,
)

MAX_BYTES = 512 << 20  # of one frame as stored, and of all frames that a file gives as rendered
# Labels and quantities, not pictures: segmentations (also of surfaces, tracts, label and height
# maps), raw data, registrations, fiducials, parametric maps, RT dose.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
NOT_IMAGES = frozenset(
    _STORAGE + tail for tail in ("30", "66", *(f"66.{n}" for n in range(1, 9)), "481.2")
)
NOT_MODALITIES = frozenset(("RTDOSE", "SEG"))
PRESENTATIONS = ("MONOCHROME", "COLOR", "MIXED", "TRUE_COLOR")
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
    stored, bits = stored_values(dataset, header, frame)
    choices = {
        "frame": frame,
        "frames": frame_count(header),
        "photometric_interpretation": photometric(header),
    }
    if stored.ndim == 2 and photometric(header) in GREY:
        pixels, more = _render_grey(stored, bits, header, little_endian(dataset))
    else:
        pixels = _render_colour(stored, bits, header, little_endian(dataset))
        more = {"window": None, "voi_function": None, "window_source": "colour"}
    return np.ascontiguousarray(pixels), choices | more


def little_endian(dataset: Dataset) -> bool:
    """The byte order that the dataset was read in; little where it was made in memory."""
    return dataset.original_encoding[1] is not False


def check_header(header: Dataset | FrameHeader, frames: int = 1) -> None:
    """Refuse what is no image, and what would not fit, before anything is allocated.

    `frames` is how many of its frames will be rendered.
    """
    check_kind(header)
    size = read_size(header)
    pixels = size.rows * size.columns
    channels = 1 if size.photometric in GREY else 3
    check_size(pixels * size.samples * size.bits / 8, pixels * channels * frames)


def check_kind(header: Dataset | FrameHeader) -> None:
    """Refuse what is no image."""
    sop_class = uid(header, "SOPClassUID")
    if sop_class in NOT_IMAGES or not NOT_MODALITIES.isdisjoint(words(header, "Modality")):
        known = UID(sop_class).name
        raise ImagingError(Reason.NOT_AN_IMAGE, "" if known == sop_class else known)
    if not any(keyword in header for keyword in PIXELS):
        raise ImagingError(Reason.NOT_AN_IMAGE, "no pixel data")


def check_size(stored: float, rendered: float) -> None:
    """Refuse a frame of too many bytes as stored, and frames of too many bytes as rendered."""
    if stored > MAX_BYTES:
        raise ImagingError(Reason.TOO_LARGE, f"more than {MAX_BYTES >> 20} MiB of pixels")
    if rendered > MAX_BYTES:
        limit = f"more than {MAX_BYTES >> 20} MiB of pixels in the chosen frames"
        raise ImagingError(Reason.TOO_LARGE, limit)


def _render_colour(stored: np.ndarray, bits: int, header: FrameHeader, little: bool) -> np.ndarray:
    """Palette or RGB to (H, W, 3) uint8 by the range of the stored bits; no windowing."""
    if stored.ndim == 2:
        levels = Levels.of(stored)
        return levels.look_up(_palette(header, levels.values, little))
    if stored.dtype.kind == "i":
        raise ImagingError(Reason.CONTRADICTION, "signed colours")
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


def _render_grey(
    stored: np.ndarray, bits: int, header: FrameHeader, little: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    levels, _, table, choices = _levels(stored, bits, header)
    if _is_supplemented(header):
        table = _supplement(table, levels.values, header, little)
        choices["palette"] = "supplemental"
    return levels.look_up(table), choices


def _levels(
    stored: np.ndarray, bits: int, header: FrameHeader
) -> tuple[Levels, Scale, np.ndarray, dict[str, Any]]:
    """A grey frame's levels, what they stand for, what they are drawn as, and the choices made."""
    levels = Levels.of(stored)
    padding = padding_mask(levels.values, stored.dtype, header)
    values, modality_lut = rescale(levels.values, header)
    values, finite = only_finite(values)
    unsigned_bits = bits if stored.dtype.kind == "u" else None
    display, voi = _apply_voi(values, header, levels, finite & ~padding, unsigned_bits)
    # MONOCHROME1 and the shape INVERSE say the same thing (C.8.11.3.1.2): invert once.
    shape = word(header, "PresentationLUTShape", ("IDENTITY", "INVERSE"), "IDENTITY")
    inverted = photometric(header) == "MONOCHROME1" or shape == "INVERSE"
    scale = Scale(values, padding | ~finite, inverted)
    choices = not_finite(levels, finite) | {
        "modality_lut": modality_lut,
        "inverted": inverted,
        "padding": levels.pixels(padding) > 0,
    }
    return levels, scale, scale.table(display), voi | choices


def _is_supplemented(header: FrameHeader) -> bool:
    coloured = has_palette(header) and word(header, "PixelPresentation", PRESENTATIONS, "")
    return coloured in ("COLOR", "MIXED")


def grey_frame(dataset: Dataset, header: FrameHeader, frame: int) -> Grey:
    """A frame's levels, for whoever chooses another window than the one of `render_frame`.

    Raises ImagingError where it is coloured, or has more than 65,536 levels.
    """
    stored, bits = stored_values(dataset, header, frame)
    if stored.ndim != 2 or photometric(header) not in GREY or _is_supplemented(header):
        raise ImagingError(Reason.UNSUPPORTED, "colours have no window")
    levels, scale, table, choices = _levels(stored, bits, header)
    if len(levels.values) > 1 << 16:
        raise ImagingError(Reason.UNSUPPORTED, "more than 65,536 different values")
    index = np.subtract(levels.index, levels.low, dtype=np.int64).astype("<u2")
    window = tuple(choices["window"]) if choices["window"] else None
    function = choices["voi_function"]
    return Grey(index, scale, table, window, function if function in FUNCTIONS else "LINEAR")


def _supplement(
    table: np.ndarray, values: np.ndarray, header: FrameHeader, little: bool
) -> np.ndarray:
    """Grey for stored values below a supplemental palette, its colours above (C.8.16.2.1.1.1)."""
    colours = _palette(header, values, little)
    coloured = values >= first_mapped(header, float(values.min()))
    return np.where(coloured[:, None], colours, table[:, None])


def padding_mask(stored: np.ndarray, kind: np.dtype[Any], header: FrameHeader) -> np.ndarray:
    """Where stored values, of an image of some dtype, are padding (C.7.5.1.1.2)."""
    ends = padding_range(kind, header)
    if ends is None or kind.kind == "f":
        return np.zeros(stored.shape, bool)
    return (stored >= min(ends)) & (stored <= max(ends))


def padding_range(kind: np.dtype[Any], header: FrameHeader) -> tuple[float, float] | None:
    """Padding's first and last stored value, None without; ImagingError where it cannot be read.

    Some writers give the 16 bits of a signed value as unsigned (-2000 as 63536), or the reverse.
    """
    first = number(header, "PixelPaddingValue", np.inf)
    if first == np.inf:
        return None
    last = number(header, "PixelPaddingRangeLimit", first)
    if kind.kind == "i" and kind.itemsize <= 2:
        first, last = (e - 65536 if e > 32767 else e for e in (first, last))
    elif kind.kind == "u" and kind.itemsize == 2:
        first, last = (e + 65536 if e < 0 else e for e in (first, last))
    return first, last


def _apply_voi(
    values: np.ndarray, header: FrameHeader, levels: Levels, shown: np.ndarray, bits: int | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Values to float 0..255 by the file's VOI LUT, its first valid window, or ours.

    `values[i]` is what the levels' value i stands for, `shown[i]` whether it is to be seen; `bits`
    are those of unsigned stored values.
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
    windows = file_windows(header)
    fallback += ["invalid window"] if any(not w.valid for w in windows) else []
    window = next((w for w in windows if w.valid), None)
    if window is None and lut is not None:
        raise unreadable("VOILUTSequence")
    window = window or default_window(values, header, levels.counts * shown, bits)
    return window.apply(values), {
        "window": [window.centre, window.width],
        "voi_function": window.function,
        "window_source": window.source,
        "fallback": fallback,
    }


def default_window(
    values: np.ndarray, header: FrameHeader, counts: np.ndarray, bits: int | None
) -> Window:
    """The window for a file that has none: CT preset, 8-bit as is, else percentiles.

    `counts[i]` pixels with something to show have `values[i]`; `bits` are those of unsigned stored
    values.
    """
    preset = _ct_preset(header)
    if preset is not None and preset.share_between(values, counts) >= VISIBLE:
        return preset
    if bits is not None and bits <= 8 and values.min() >= 0 and values.max() < 2**bits:
        top = 2**bits - 1
        return Window(top / 2, top, "LINEAR_EXACT", "stored range")
    return percentile_window(values, counts)


def _ct_preset(header: FrameHeader) -> Window | None:
    """The window of a CT slice in Hounsfield units by its body part; a localizer has none."""
    units = words(header, "RescaleType") or ["HU"]
    in_hu = not is_empty(header.get("RescaleSlope")) and units == ["HU"]
    if (
        words(header, "Modality") != ["CT"]
        or not in_hu
        or "LOCALIZER" in words(header, "ImageType")
    ):
        return None
    anatomy = anatomy_of(header)
    centre, width = CT_PRESETS.get(anatomy, CT_DEFAULT)
    return Window(centre, width, "LINEAR", f"preset {anatomy}")
