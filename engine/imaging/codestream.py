"""What a compressed frame says of itself: JPEG, JPEG-LS and JPEG 2000 headers.

Where it differs from the DICOM header, the compressed stream controls the decompression (PS3.5
8.2.1, 8.2.3, 8.2.4). RLE says nothing of itself but how many segments it has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from engine.imaging.errors import ImagingError, Reason

JPEG, EXTENDED, LOSSLESS = "JPEG", "12-bit JPEG", "lossless JPEG"
JPEG_LS, JPEG_2000 = "JPEG-LS", "JPEG 2000"
SOI, SOC = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
JP2 = b"\0\0\0\x0cjP  "
# Start of frame (T.81 table B.1, T.87): Huffman and arithmetic, DCT and lossless, and JPEG-LS.
DCT, PREDICTED, LS = (0xC0, 0xC1, 0xC2), (0xC3,), 0xF7
OTHERS = (0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
COD, SOT, SOS = 0x52, 0x90, 0xDA
RGB_IDS = (b"RGB", b"rgb")


@dataclass(frozen=True, slots=True)
class Codestream:
    """A frame's own description. `precision` is in bits; `signed` is None where it does not say.

    `colours` is what its three components are as stored: RGB, YBR, or "" where it does not say.
    """

    kind: str
    rows: int
    columns: int
    components: int
    precision: int
    signed: bool | None = None
    colours: str = ""


def read_codestream(data: bytes) -> Codestream | None:
    """A frame's description, None where it is none of these. Raises ImagingError if damaged."""
    if not data.startswith((SOI, SOC, JP2)):
        return None
    try:
        return _jpeg(data) if data.startswith(SOI) else _jpeg_2000(data)
    except (IndexError, struct.error) as error:
        raise ImagingError(Reason.DECODING_FAILED, "damaged codestream") from error


def _segments(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Marker segments from an offset: a marker's second byte and what follows its length."""
    while True:
        while data[at] == data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise IndexError("no marker")
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _jpeg(data: bytes) -> Codestream:
    jfif, adobe, transformed = False, None, False
    for marker, body in _segments(data, 2):
        if marker == 0xE0:
            jfif = jfif or body.startswith(b"JFIF\0")
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        elif marker == 0xE8 and body.startswith(b"mrfx"):
            transformed = True  # a JPEG-LS colour transform, which its decoder undoes
        elif marker in (*DCT, *PREDICTED, LS):
            break
        elif marker in OTHERS:
            raise ImagingError(Reason.UNSUPPORTED, "JPEG process")
        elif marker == SOS:
            raise IndexError("no frame header")
    precision, rows, columns, components = struct.unpack_from(">BHHB", body)
    kind = JPEG_LS if marker == LS else LOSSLESS if marker in PREDICTED else JPEG
    if kind == JPEG and precision != 8:
        kind = EXTENDED
    colours = "RGB" if transformed else _jpeg_colours(body[6::3], jfif, adobe)
    return Codestream(kind, rows, columns, components, precision, None, colours)


def _jpeg_colours(ids: bytes, jfif: bool, adobe: int | None) -> str:
    """By component ids, JFIF (which has YCbCr alone) and Adobe's transform; grey says nothing."""
    if len(ids) != 3:
        return ""
    if ids in RGB_IDS:
        return "RGB"
    if jfif or adobe in (1, 2):
        return "YBR"
    return "RGB" if adobe == 0 else ""


def _jpeg_2000(data: bytes) -> Codestream:
    """By its SIZ and COD segments (T.800 A.5.1, A.6.1), in a JP2 file or by itself."""
    start = data.find(SOC)
    if start < 0:
        raise IndexError("no codestream")
    size, transformed = b"", False
    for marker, body in _segments(data, start + 2):
        if marker == 0x51:
            size = body
        elif marker == COD:
            transformed = body[4] == 1
        if marker in (COD, SOT):
            break
    right, bottom, left, top = struct.unpack_from(">4I", size, 2)
    (components,) = struct.unpack_from(">H", size, 34)
    depths = size[36 : 36 + 3 * components : 3]
    if len(depths) != components or len(set(depths)) != 1:
        raise ImagingError(Reason.UNSUPPORTED, "JPEG 2000 components that differ")
    return Codestream(
        JPEG_2000, bottom - top, right - left, components, (depths[0] & 0x7F) + 1,
        bool(depths[0] & 0x80), "RGB" if transformed else "",
    )  # fmt: skip
