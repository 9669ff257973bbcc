"""Stored pixel values of one frame: which decoder, and what it is told.

Compressed frames describe themselves, and what they say holds over the header (PS3.5 8.2): pillow
decodes JPEG, pyjpegls JPEG-LS, OpenJPEG JPEG 2000 and HTJ2K, and pydicom what is native or RLE.
Lossless JPEG (processes 14 and 14 SV1) and 12-bit JPEG need the extra `codecs`: imagecodecs (BSD).
Its C code, as all here, is loaded in the killable child only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import convert_color_space, get_decoder
from pydicom.uid import UID, RLELossless

from engine.imaging.codestream import (
    EXTENDED,
    JPEG,
    JPEG_2000,
    JPEG_LS,
    LOSSLESS,
    Codestream,
    read_codestream,
)
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader
from engine.imaging.layout import (
    UNCONVERTED,
    YBR,
    Size,
    frame_count,
    is_signed,
    planar,
    read_size,
    stored_bits,
)
from engine.imaging.values import uid, whole

NEEDS_EXTRA = "needs pip install 'triptych[codecs]'"
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


# Compressed pixels


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
    _check_same(stream, size)
    colours = _colours(stream, size)
    values = DECODE[stream.kind](data, stream)
    if size.samples == 1:
        values = _with_sign(values, stream, header)
    return _in_rgb(values, colours), _bits(values, stream, header)


def _check_same(stream: Codestream, size: Size) -> None:
    """Refuse a stream of another picture than the header's: nobody can say which is meant."""
    if (stream.rows, stream.columns) != (size.rows, size.columns):
        raise ImagingError(Reason.CONTRADICTION, "the codestream has another size")
    if stream.components != size.samples:
        raise ImagingError(Reason.CONTRADICTION, "the codestream has other components")


def _colours(stream: Codestream, size: Size) -> str:
    """What three components are once decoded: RGB or YBR, as the stream says or else the header."""
    if size.samples == 1:
        return "RGB"
    space = size.photometric
    by_name = stream.kind == JPEG_2000 and space in ("YBR_ICT", "YBR_RCT")  # and no transform
    if space in UNCONVERTED and not by_name and not (stream.colours and space.endswith("CT")):
        raise ImagingError(Reason.UNSUPPORTED, space)
    return stream.colours or ("YBR" if space in YBR else "RGB")


def _in_rgb(values: np.ndarray, colours: str) -> np.ndarray:
    if colours == "RGB":
        return values
    if values.dtype != np.uint8:
        raise ImagingError(Reason.UNSUPPORTED, "YBR of more than 8 bits")
    return np.asarray(convert_color_space(values, "YBR_FULL", "RGB"))


def _bits(values: np.ndarray, stream: Codestream, header: FrameHeader) -> int:
    """The stream's precision, but for what is in a wider container or in as few bits as it needs.

    Some encoders write 12 bits as 16; some write 8 bits as 7 where no value is larger.
    """
    said = whole(header, "BitsStored", stream.precision)
    if stream.precision < said <= 8:
        return said
    fits = 1 <= said < stream.precision and int(values.max()) < 2**said
    return said if fits and int(values.min()) >= -(2 ** (said - 1)) else stream.precision


def _with_sign(values: np.ndarray, stream: Codestream, header: FrameHeader) -> np.ndarray:
    """Values of a stream that knows no sign, or denies it, as two's complement if the header says.

    JPEG and JPEG-LS have unsigned values only, and an unsigned JPEG 2000 stream may carry two's
    complement too. Where either the sign or the bits are in doubt, the middle of the range tells:
    there two's complement wraps around, and signed pictures have no values.
    """
    if stream.signed or not is_signed(header):
        return values
    said, bits, largest = whole(header, "BitsStored"), stream.precision, int(values.max())
    if largest < 2 ** (min(said, bits) - 1):
        return values
    quarter = 2 ** (bits - 2)
    middle = bool(((values >= quarter) & (values < 3 * quarter)).any())
    if said > bits:
        if middle:  # what is not negative, in as few bits as it needs
            return values
        raise ImagingError(Reason.CONTRADICTION, "the codestream has another precision")
    if said < bits and largest < 2**said:
        bits = said  # in a wider container
    elif stream.kind == JPEG_2000 and middle:
        raise ImagingError(Reason.CONTRADICTION, "the codestream is not signed")
    kind = np.dtype(f"i{values.dtype.itemsize}")
    shift = 8 * kind.itemsize - bits
    return (values.view(kind) << shift) >> shift


def _decode_jpeg(data: bytes, stream: Codestream) -> np.ndarray:
    """8-bit JPEG; colours as they are in the stream, whatever libjpeg takes them for."""
    picture = PIL.Image.open(BytesIO(data), formats=("JPEG",))
    rgb = stream.colours == "RGB" and "jfif" not in picture.info
    if stream.components == 3 and not rgb:
        picture.draft("YCbCr", picture.size)
    return np.asarray(picture)


def _decode_jpeg_ls(data: bytes, stream: Codestream) -> np.ndarray:
    import jpeg_ls

    buffer, about = jpeg_ls.decode_pixel_data(data)
    values = np.frombuffer(buffer, "u1" if stream.precision <= 8 else "<u2")
    if stream.components == 1:
        return values.reshape(stream.rows, stream.columns)
    if about["interleave_mode"] == 0:
        planes = values.reshape(stream.components, stream.rows, stream.columns)
        return planes.transpose(1, 2, 0)
    return values.reshape(stream.rows, stream.columns, stream.components)


def _decode_jpeg_2000(data: bytes, stream: Codestream) -> np.ndarray:
    from openjpeg.utils import decode

    return np.asarray(decode(data))


@cache
def has_extra() -> bool:
    """Whether the extra `codecs` is installed."""
    return find_spec("imagecodecs") is not None


def _decode_extra(data: bytes, stream: Codestream) -> np.ndarray:
    """Lossless JPEG, its colours left as they are, or 12-bit JPEG in grey."""
    if not has_extra():
        raise ImagingError(Reason.UNSUPPORTED, f"{stream.kind} {NEEDS_EXTRA}")
    if stream.kind == EXTENDED and stream.components > 1:  # libjpeg guesses a colour transform
        raise ImagingError(Reason.UNSUPPORTED, "12-bit JPEG in colour")
    import imagecodecs

    return np.asarray(imagecodecs.jpeg8_decode(data))


DECODE: dict[str, Callable[[bytes, Codestream], np.ndarray]] = {
    JPEG: _decode_jpeg,
    JPEG_LS: _decode_jpeg_ls,
    JPEG_2000: _decode_jpeg_2000,
    EXTENDED: _decode_extra,
    LOSSLESS: _decode_extra,
}
