"""Stored pixel values of one frame: pydicom's decoders, and what they can and cannot do.

pillow, pyjpegls and OpenJPEG decode what a plain installation reads. Lossless JPEG (processes 14
and 14 SV1) and 12-bit JPEG need the extra `codecs`: imagecodecs (BSD), whose C code is loaded here
and nowhere else, so in the killable child only.
"""

from __future__ import annotations

import math
from functools import cache

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
from engine.imaging.voi import numbers

EXTRA = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
NEEDS_EXTRA = "needs pip install 'triptych[codecs]'"
DECODED = (
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422",
)  # fmt: skip
# Colour spaces that pydicom would hand on as if they were RGB, unless the codec converts them.
UNCONVERTED = ("YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT", "HSV", "ARGB", "CMYK")


def stored_values(dataset: Dataset, frame: int) -> np.ndarray:
    """(H, W) stored values or (H, W, 3) RGB of one frame, whatever the label says of YBR.

    Raises ImagingError: unsupported encoding where no decoder can, else decoding failed.
    """
    if str(dataset.get("PhotometricInterpretation", "")).strip() not in DECODED + UNCONVERTED:
        raise ImagingError(Reason.UNSUPPORTED, "photometric interpretation")
    decoder = _decoder(dataset)
    _check_length(dataset, frame)
    try:
        values, about = decoder.as_array(dataset, index=frame, **_options(dataset))
    except MemoryError:
        raise
    except NotImplementedError as error:
        raise ImagingError(Reason.UNSUPPORTED) from error
    except Exception as error:  # decoders raise anything; their words may quote the file
        raise ImagingError(Reason.DECODING_FAILED) from error
    colours = about["photometric_interpretation"]
    if values.ndim == 3 and colours != "RGB":
        raise ImagingError(
            Reason.UNSUPPORTED,
            str(colours) if colours in UNCONVERTED else "photometric interpretation",
        )
    return _right_aligned(values, dataset)


def _check_length(dataset: Dataset, frame: int) -> None:
    """Refuse native pixel data that end before the frame does."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return
    keywords = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    sizes = [float(next(iter(numbers(dataset.get(k))), 0.0)) for k in keywords]
    halved = dataset.get("PhotometricInterpretation") == "YBR_FULL_422"
    bits = math.prod(sizes) * (2 / 3 if halved else 1) * (frame + 1)
    if len(dataset.PixelData or b"") < bits / 8:
        raise ImagingError(Reason.UNREADABLE, "fewer pixels than the header says")


def _decoder(dataset: Dataset) -> Decoder:
    """The decoder of a dataset's transfer syntax, or ImagingError with what is missing."""
    syntax = UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax in EXTRA:
        add_extra()
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        known = syntax.name if syntax.name != syntax else "transfer syntax"
        raise ImagingError(Reason.UNSUPPORTED, known) from error
    bits = dataset.get("BitsStored")
    if syntax in EXTRA and not add_extra():
        if syntax != JPEGExtended12Bit or (isinstance(bits, int) and bits > 8):
            raise ImagingError(Reason.UNSUPPORTED, f"{_short(syntax)} {NEEDS_EXTRA}")
    if not decoder.is_available:
        raise ImagingError(Reason.UNSUPPORTED, syntax.name)
    return decoder


def _short(syntax: UID) -> str:
    return "12-bit JPEG" if syntax == JPEGExtended12Bit else "lossless JPEG"


@cache
def add_extra() -> bool:
    """Let pydicom use imagecodecs for lossless and 12-bit JPEG; False where it is not installed."""
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    for syntax in EXTRA:
        get_decoder(syntax).add_plugin("imagecodecs", (__name__, "decode_jpeg"))
    return True


def is_available(uid: str) -> bool:
    """Whether `decode_jpeg` decodes a transfer syntax; pydicom asks."""
    return uid in EXTRA and add_extra()


DECODER_DEPENDENCIES = dict.fromkeys(EXTRA, ("imagecodecs",))  # pydicom reads this


def decode_jpeg(source: bytes, runner: DecodeRunner) -> bytes:
    """One frame of lossless or 12-bit JPEG as native values, its colours left as they are."""
    import imagecodecs

    values = np.asarray(imagecodecs.jpeg8_decode(source))
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    return values.tobytes()


def _misaligned(dataset: Dataset) -> bool:
    """Whether native values do not end at bit 0, as old files may have it (PS3.5 8.1.1)."""
    bits = [dataset.get(k) for k in ("BitsAllocated", "BitsStored", "HighBit")]
    native = not dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if not native and dataset.file_meta.TransferSyntaxUID != RLELossless:
        return False
    if "PixelData" not in dataset or not all(isinstance(b, int) for b in bits):
        return False
    allocated, stored, high = bits
    return bool(0 < stored <= high < allocated and high != stored - 1)


def _options(dataset: Dataset) -> dict[str, bool]:
    return {"correct_unused_bits": False} if _misaligned(dataset) else {}


def _right_aligned(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Drop the bits above HighBit and below the stored ones; the sign goes along."""
    if not _misaligned(dataset):
        return values
    allocated, stored, high = dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit
    return (values << (allocated - 1 - high)) >> (allocated - stored)
