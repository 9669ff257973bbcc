"""Stored pixel values of one frame: pydicom's decoders, and what they can and cannot do.

pillow, pyjpegls and OpenJPEG decode what a plain installation reads. Lossless JPEG (processes 14
and 14 SV1) and 12-bit JPEG need the extra `codecs`: imagecodecs (BSD), whose C code is loaded here
and nowhere else, so in the killable child only.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder, DecodeRunner
from pydicom.uid import (
    UID,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader
from engine.imaging.voi import first_number

EXTRA = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
NEEDS_EXTRA = "needs pip install 'triptych[codecs]'"
DECODED = (
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422",
)  # fmt: skip
# What a decoder of pydicom asks for, where the file says it.
OPTIONS = {
    "rows": "Rows",
    "columns": "Columns",
    "samples_per_pixel": "SamplesPerPixel",
    "planar_configuration": "PlanarConfiguration",
    "photometric_interpretation": "PhotometricInterpretation",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "pixel_representation": "PixelRepresentation",
}
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Colour spaces that pydicom would hand on as if they were RGB, unless the codec converts them.
UNCONVERTED = ("YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT", "HSV", "ARGB", "CMYK")


def stored_values(dataset: Dataset, header: FrameHeader, frame: int) -> np.ndarray:
    """(H, W) stored values or (H, W, 3) RGB of one frame, whatever the label says of YBR.

    Raises ImagingError: unsupported encoding where no decoder can, else decoding failed.
    """
    if str(header.get("PhotometricInterpretation", "")).strip() not in DECODED + UNCONVERTED:
        raise ImagingError(Reason.UNSUPPORTED, "photometric interpretation")
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    decoder = _decoder(syntax, header)
    shift = _unused_bits(syntax, header)
    more: dict[str, Any] = {"correct_unused_bits": False} if shift else {}
    if "PixelData" in header and not syntax.is_encapsulated:
        whole = _whole_frames(header, len(header.top.get("PixelData") or b""))
        if frame >= whole:
            raise ImagingError(Reason.UNREADABLE, "fewer pixels than the header says")
        if whole < first_number(header, "NumberOfFrames", 1):
            more["number_of_frames"] = whole  # else pydicom refuses them all
    try:
        data, options = _source(dataset, header.top)
        values, about = decoder.as_array(data, index=frame, **options | more)
    except MemoryError:
        raise
    except NotImplementedError as error:
        raise ImagingError(Reason.UNSUPPORTED) from error
    except Exception as error:  # decoders raise anything; their words may quote the file
        raise ImagingError(Reason.DECODING_FAILED) from error
    colours = about["photometric_interpretation"]
    if values.ndim == 3 and colours != "RGB":
        named = str(colours) if colours in UNCONVERTED else "photometric interpretation"
        raise ImagingError(Reason.UNSUPPORTED, named)
    return (values << shift[0]) >> shift[1] if shift else values


def _source(dataset: Dataset, top: FrameHeader) -> tuple[bytes, dict[str, Any]]:
    """A file's encoded pixels, and what pydicom would read of its header to decode them."""
    (keyword,) = (k for k in PIXELS if k in top)
    options = {name: top.get(k) for name, k in OPTIONS.items() if k in top}
    options["number_of_frames"] = int(top.get("NumberOfFrames") or 1)
    options["pixel_keyword"], options["pixel_vr"] = keyword, dataset[keyword].VR
    if "ExtendedOffsetTable" in top:
        tables = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
        options["extended_offsets"] = tuple(top.get(k) for k in tables)
    return top.get(keyword), options


def _whole_frames(header: FrameHeader, length: int) -> int:
    """How many frames native pixel data of a length hold."""
    keywords = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    bits = math.prod(first_number(header, keyword) for keyword in keywords)
    halved = header.get("PhotometricInterpretation") == "YBR_FULL_422"
    return int(length * 8 // (bits * 2 / 3 if halved else bits))


def _decoder(syntax: UID, header: FrameHeader) -> Decoder:
    """The decoder of a transfer syntax, or ImagingError with what is missing."""
    if syntax in EXTRA and not add_extra():
        if syntax != JPEGExtended12Bit or first_number(header, "BitsStored") > 8:
            raise ImagingError(Reason.UNSUPPORTED, f"{_short(syntax)} {NEEDS_EXTRA}")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        known = syntax.name if syntax.name != syntax else "transfer syntax"
        raise ImagingError(Reason.UNSUPPORTED, known) from error
    if not decoder.is_available:
        raise ImagingError(Reason.UNSUPPORTED, syntax.name)
    return decoder


def _short(syntax: UID) -> str:
    return "12-bit JPEG" if syntax == JPEGExtended12Bit else "lossless JPEG"


@cache
def add_extra() -> bool:
    """Let pydicom use imagecodecs for lossless and 12-bit JPEG; False where it is not installed."""
    if find_spec("imagecodecs") is None:
        return False
    for syntax in EXTRA:
        get_decoder(syntax).add_plugin("imagecodecs", (__name__, "decode_jpeg"))
    return True


def is_available(uid: str) -> bool:
    """Whether `decode_jpeg` decodes a transfer syntax; pydicom asks."""
    return uid in EXTRA and find_spec("imagecodecs") is not None


DECODER_DEPENDENCIES = dict.fromkeys(EXTRA, ("imagecodecs",))  # pydicom reads this


def decode_jpeg(source: bytes, runner: DecodeRunner) -> bytes:
    """One frame of lossless or 12-bit JPEG as native values, its colours left as they are."""
    import imagecodecs

    values = np.asarray(imagecodecs.jpeg8_decode(source))
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    return values.tobytes()


def _unused_bits(syntax: UID, header: FrameHeader) -> tuple[int, int] | None:
    """How far to shift left and then right where values do not end at bit 0 (PS3.5 8.1.1).

    None for the values that pydicom puts right itself. The shifts drop what is above HighBit and
    below the stored bits, and keep the sign.
    """
    if (syntax.is_encapsulated and syntax != RLELossless) or "PixelData" not in header:
        return None
    bits = [first_number(header, k) for k in ("BitsAllocated", "BitsStored", "HighBit")]
    allocated, stored, high = (int(b) if abs(b) < 99 else 0 for b in bits)
    if not 0 < stored <= high < allocated:
        return None
    return allocated - 1 - high, allocated - stored
