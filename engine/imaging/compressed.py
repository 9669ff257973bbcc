"""A compressed frame to stored values: what its codestream says holds over the header (PS3.5 8.2).

pillow decodes JPEG, pyjpegls JPEG-LS, OpenJPEG JPEG 2000 and HTJ2K. Lossless JPEG (processes 14 and
14 SV1) and 12-bit JPEG need the extra `codecs`: imagecodecs (BSD). Its C code, as all here, is
loaded in the killable child only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import PIL.Image
from pydicom.pixels import convert_color_space

from engine.imaging.codestream import (
    EXTENDED,
    JPEG,
    JPEG_2000,
    JPEG_LS,
    LOSSLESS,
    Codestream,
)
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader
from engine.imaging.layout import UNCONVERTED, YBR, Size, is_signed
from engine.imaging.values import whole

NEEDS_EXTRA = "needs pip install 'triptych[codecs]'"
TRANSFORMED = ("YBR_ICT", "YBR_RCT")  # what JPEG 2000's component transform makes of RGB


def decompressed(
    data: bytes, stream: Codestream, header: FrameHeader, size: Size
) -> tuple[np.ndarray, int]:
    """A codestream's (H, W) values or (H, W, 3) RGB, and of how many bits they are.

    Raises ImagingError where the header is of another picture, or no decoder can.
    """
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
    known = stream.colours or stream.kind == JPEG_2000  # without a transform, RGB as it is
    if space in UNCONVERTED and not (space in TRANSFORMED and known):
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
