"""Stored pixel values of one frame: which decoder, and what it is told.

pydicom decodes what is native, deflated or RLE; codestreams describe themselves, see `compressed`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import UID, RLELossless

from engine.imaging.codestream import read_codestream
from engine.imaging.compressed import decompressed
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader
from engine.imaging.layout import (
    YBR,
    Size,
    frame_count,
    is_signed,
    planar,
    read_size,
    stored_bits,
)
from engine.imaging.values import uid

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
ITEM = b"\xfe\xff\x00\xe0"  # what encapsulated pixel data starts with


def stored_values(dataset: Dataset, header: FrameHeader, frame: int) -> tuple[np.ndarray, int]:
    """(H, W) stored values or (H, W, 3) RGB of one frame, and of how many bits they are.

    Raises ImagingError: unsupported encoding where no decoder can, contradictory header where it
    and the codestream cannot both be right, unreadable file or decoding failed.
    """
    size = read_size(header)
    if size.samples == 4:
        raise ImagingError(Reason.UNSUPPORTED, "four samples per pixel")
    syntax = UID(uid(dataset.file_meta, "TransferSyntaxUID"))
    try:
        if _is_encapsulated(dataset, header.top, syntax):
            return _encapsulated(dataset, header, frame, size, syntax)
        return _native(dataset, header, frame, size, syntax)
    except (ImagingError, MemoryError):
        raise
    except NotImplementedError as error:
        raise ImagingError(Reason.UNSUPPORTED) from error
    except Exception as error:  # decoders raise anything; their words may quote the file
        raise ImagingError(Reason.DECODING_FAILED) from error


def _is_encapsulated(dataset: Dataset, top: FrameHeader, syntax: UID) -> bool:
    """Whether pixels are fragments of codestreams; the transfer syntax must not say otherwise."""
    _check_known(syntax)
    said = bool(syntax.is_encapsulated)
    data = top.get("PixelData") if "PixelData" in top else b""
    if "PixelData" in top and not data:
        raise ImagingError(Reason.UNREADABLE, "empty pixel data")
    found = isinstance(data, bytes) and data.startswith(ITEM)
    if said and not found:
        raise ImagingError(Reason.CONTRADICTION, "transfer syntax compressed, pixel data not")
    if found and not said:
        element = dataset.get_item("PixelData")
        length = getattr(element, "length", None) == 0xFFFFFFFF
        found = length or getattr(element, "is_undefined_length", False)
    return found


def _check_known(syntax: UID) -> None:
    """Refuse a transfer syntax that nothing here decodes, by its name where it has one."""
    try:
        get_decoder(syntax)
    except NotImplementedError as error:
        known = syntax.name if syntax.name != syntax else "transfer syntax"
        raise ImagingError(Reason.UNSUPPORTED, known) from error


def _encapsulated(
    dataset: Dataset, header: FrameHeader, frame: int, size: Size, syntax: UID
) -> tuple[np.ndarray, int]:
    top = header.top
    offsets = tuple(top.get(k) for k in OFFSETS) if "ExtendedOffsetTable" in top else None
    count = frame_count(top)
    pixels = top.get("PixelData")
    try:
        data = get_frame(pixels, frame, number_of_frames=count, extended_offsets=offsets)
    except Exception as error:
        raise ImagingError(Reason.DECODING_FAILED, "no such frame in the pixel data") from error
    stream = read_codestream(data)
    if stream is None and syntax == RLELossless:
        if int.from_bytes(data[:4], "little") != size.samples * size.bits // 8:
            raise ImagingError(Reason.CONTRADICTION, "RLE has other samples or bits")
        return _native(dataset, header, frame, size, syntax)
    if stream is None:
        raise ImagingError(Reason.DECODING_FAILED, "no codestream of a known kind")
    return decompressed(data, stream, header, size)


# Native pixels and RLE, which has no header but its segments' offsets


def _native(
    dataset: Dataset, header: FrameHeader, frame: int, size: Size, syntax: UID
) -> tuple[np.ndarray, int]:
    top = header.top
    keywords = [k for k in PIXELS if k in top]
    if len(keywords) > 1:
        raise ImagingError(Reason.CONTRADICTION, " and ".join(keywords))
    frames = frame_count(top)
    if not syntax.is_encapsulated and keywords == ["PixelData"]:
        whole_frames = _whole_frames(size, len(top.get("PixelData") or b""))
        if frame >= whole_frames:
            raise ImagingError(Reason.UNREADABLE, "fewer pixels than the header says")
        frames = min(frames, whole_frames)  # else pydicom refuses them all
    options = _options(header, size, syntax, keywords[0])
    shift = None
    if keywords[0] == "PixelData":
        shift = _unused_bits(options["bits_stored"], header, size)
        options["correct_unused_bits"] = shift is None
    if "ExtendedOffsetTable" in top:
        options["extended_offsets"] = tuple(top.get(k) for k in OFFSETS)
    options["number_of_frames"] = frames
    options["pixel_keyword"], options["pixel_vr"] = keywords[0], dataset[keywords[0]].VR
    values, about = get_decoder(syntax).as_array(top.get(keywords[0]), index=frame, **options)
    if values.ndim == 3 and about["photometric_interpretation"] != "RGB":
        raise ImagingError(Reason.UNSUPPORTED, size.photometric)
    return (values << shift[0]) >> shift[1] if shift else values, options.get("bits_stored", 64)


def _options(header: FrameHeader, size: Size, syntax: UID, keyword: str) -> dict[str, Any]:
    """What pydicom's decoder is told of how values lie."""
    options: dict[str, Any] = {
        "rows": size.rows, "columns": size.columns, "samples_per_pixel": size.samples,
        "photometric_interpretation": size.photometric, "bits_allocated": size.bits,
    }  # fmt: skip
    if keyword == "PixelData":
        options["bits_stored"] = stored_bits(header, size.bits)[0]
        options["pixel_representation"] = int(is_signed(header))
    if size.samples > 1:
        if size.photometric in YBR and size.bits > 8:
            raise ImagingError(Reason.UNSUPPORTED, "YBR of more than 8 bits")
        paired = size.photometric == "YBR_FULL_422" or syntax == RLELossless
        options["planar_configuration"] = 0 if paired else planar(header)
    return options


def _whole_frames(size: Size, length: int) -> int:
    """How many frames native pixel data of a length hold."""
    bits = size.rows * size.columns * size.samples * size.bits
    return int(length * 8 // (bits * 2 / 3 if size.photometric == "YBR_FULL_422" else bits))


def _unused_bits(stored: int, header: FrameHeader, size: Size) -> tuple[int, int] | None:
    """How far to shift left and then right where values do not end at bit 0 (PS3.5 8.1.1).

    None for the values that pydicom puts right itself. The shifts drop what is above HighBit and
    below the stored bits, and keep the sign.
    """
    high = stored_bits(header, size.bits)[1]
    return None if high == stored - 1 else (size.bits - 1 - high, size.bits - stored)
