"""Where a codestream and its header differ, the codestream says what its pixels are."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import openjpeg.utils
import PIL.Image
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from engine.imaging.errors import ImagingError
from engine.imaging.render import render
from tests.engine.imaging.datasets import grey, ramp
from tests.engine.imaging.streams import COLOURS, TWELVE, WINDOW, compressed, jls, jpeg


def shown(values: np.ndarray, centre: float = 2000, width: float = 3000) -> np.ndarray:
    """C.11.2.1.2.1 over 0..255."""
    return np.round(np.clip(((values - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255))


def adobe(stream: bytes, transform: int) -> bytes:
    """A JPEG whose JFIF segment is Adobe's instead."""
    (length,) = struct.unpack_from(">H", stream, 4)
    segment = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    return stream[:2] + segment + stream[4 + length :]


def bare(stream: bytes) -> bytes:
    """A JPEG without its JFIF segment, which says nothing of its colours."""
    (length,) = struct.unpack_from(">H", stream, 4)
    return stream[:2] + stream[4 + length :]


def j2k(values: np.ndarray, bits: int, transform: bool = False) -> bytes:
    kind = 1 if values.ndim == 3 else 2
    options: dict[str, Any] = {
        "bits_stored": bits,
        "photometric_interpretation": kind,
        "use_mct": transform,
    }
    return bytes(openjpeg.utils.encode_array(values, **options))


@pytest.mark.parametrize("planar", [0, 1, 7, None])
@pytest.mark.parametrize(
    ("stream", "syntax", "space"),
    [
        (jpeg(COLOURS), JPEGBaseline8Bit, "YBR_FULL_422"),
        (j2k(COLOURS, 8, True), JPEG2000Lossless, "YBR_RCT"),
        (j2k(COLOURS, 8), JPEG2000Lossless, "RGB"),
        (jls(COLOURS, 0), JPEGLSLossless, "RGB"),
        (jls(COLOURS, 1), JPEGLSLossless, "RGB"),
        (jls(COLOURS, 2), JPEGLSLossless, "RGB"),
    ],
)
def test_planar_configuration_is_no_matter_of_a_codestream(
    planar: int | None, stream: bytes, syntax: str, space: str
) -> None:
    ds = compressed(stream, syntax, COLOURS.shape, PhotometricInterpretation=space)
    ds.PlanarConfiguration = planar
    assert np.abs(render(ds)[0].astype(int) - COLOURS).max() <= 6


@pytest.mark.parametrize("space", ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT"])
@pytest.mark.parametrize(
    "stream",
    [
        jpeg(COLOURS),  # JFIF: YCbCr
        adobe(jpeg(COLOURS), 1),
        jpeg(COLOURS, keep_rgb=True),
    ],
)
def test_a_jpeg_that_says_its_colours_is_converted_as_it_says(stream: bytes, space: str) -> None:
    ds = compressed(stream, JPEGBaseline8Bit, COLOURS.shape, PhotometricInterpretation=space)
    assert np.abs(render(ds)[0].astype(int) - COLOURS).max() <= 6


def test_a_jpeg_that_says_nothing_of_its_colours_is_as_the_header_says() -> None:
    ds = compressed(bare(jpeg(COLOURS)), JPEGBaseline8Bit, COLOURS.shape)
    ds.PhotometricInterpretation = "YBR_FULL_422"
    assert np.abs(render(ds)[0].astype(int) - COLOURS).max() <= 6
    ds.PhotometricInterpretation = "RGB"
    raw = np.asarray(PIL.Image.fromarray(COLOURS).convert("YCbCr"))
    assert np.abs(render(ds)[0].astype(int) - raw).max() <= 6


@pytest.mark.parametrize("space", ["RGB", "YBR_FULL", "YBR_RCT", "YBR_ICT"])
def test_a_jpeg_2000_transform_is_undone_once(space: str) -> None:
    ds = compressed(j2k(COLOURS, 8, True), JPEG2000Lossless, COLOURS.shape)
    ds.PhotometricInterpretation = space
    assert (render(ds)[0] == COLOURS).all()


def test_a_transform_that_a_jpeg_2000_stream_does_not_have_is_not_undone() -> None:
    ds = compressed(j2k(COLOURS, 8), JPEG2000Lossless, COLOURS.shape)
    ds.PhotometricInterpretation = "YBR_RCT"
    assert (render(ds)[0] == COLOURS).all()


@pytest.mark.parametrize("allocated", [8, 16])
def test_the_precision_is_the_streams(allocated: int) -> None:
    stored = ramp().astype(np.uint16)
    said = {"BitsAllocated": allocated, "BitsStored": 8, "HighBit": 7}
    for stream, syntax in ((j2k(stored, 12), JPEG2000Lossless), (jls(stored), JPEGLSLossless)):
        ds = compressed(stream, syntax, stored.shape, **said, **WINDOW)
        assert (render(ds)[0] == shown(stored)).all()
    pixels = (ramp() % 251).astype(np.uint8)
    wide = compressed(jpeg(pixels), JPEGBaseline8Bit, pixels.shape, **TWELVE)
    assert np.abs(render(wide)[0].astype(int) - pixels).max() <= 6


def test_colours_of_a_wider_stream_keep_their_range() -> None:
    deep = (COLOURS.astype(np.uint16) << 4) + (COLOURS >> 4)  # 12 bits
    ds = compressed(j2k(deep, 12), JPEG2000Lossless, COLOURS.shape)
    assert np.abs(render(ds)[0].astype(int) - COLOURS).max() <= 1
    in_container = compressed(j2k(deep, 16), JPEG2000Lossless, COLOURS.shape, BitsAllocated=16,
                              **TWELVE)  # fmt: skip
    assert np.abs(render(in_container)[0].astype(int) - COLOURS).max() <= 1


def test_a_signed_stream_is_signed_whatever_the_header_says() -> None:
    stored = (ramp() - 2000).astype(np.int16)
    for signed in (0, 1):
        ds = compressed(j2k(stored, 13), JPEG2000Lossless, stored.shape, BitsStored=13, HighBit=12,
                        PixelRepresentation=signed, WindowCenter="0", WindowWidth="3000",
                        PixelPaddingValue=63536)  # fmt: skip
        expected = shown(stored, 0, 3000)
        expected[stored == -2000] = 0
        assert (render(ds)[0] == expected).all()


def test_an_unsigned_stream_is_signed_only_where_it_cannot_be_otherwise() -> None:
    signed = {"PixelRepresentation": 1, "BitsStored": 13, "HighBit": 12}
    stored = (ramp() // 2 - 1000).astype(np.int16)
    words = (stored & 0x1FFF).astype(np.uint16)  # two's complement of 13 bits
    ds = compressed(j2k(words, 13), JPEG2000Lossless, stored.shape, **signed,
                    WindowCenter="0", WindowWidth="3000")  # fmt: skip
    assert (render(ds)[0] == shown(stored, 0, 3000)).all()
    full = (ramp() * 2).astype(np.uint16)  # 0..8190 as it says, or -4096..4094
    with pytest.raises(ImagingError, match="contradictory header: the codestream is not signed"):
        render(compressed(j2k(full, 13), JPEG2000Lossless, full.shape, **signed))


def test_jpeg_ls_has_no_sign_and_takes_the_headers() -> None:
    stored = (ramp() - 2048).astype(np.int16)
    said = {"PixelRepresentation": 1, "WindowCenter": "0", "WindowWidth": "3000", **TWELVE}
    for words in (stored & 0xFFF, stored):  # in 12 bits, and in a wider container
        ds = compressed(jls(words.astype(np.uint16)), JPEGLSLossless, stored.shape, **said)
        assert (render(ds)[0] == shown(stored, 0, 3000)).all()


def test_fewer_bits_than_the_header_says_hold_what_is_not_negative() -> None:
    said = {"PixelRepresentation": 1, **WINDOW}  # of 16 bits
    stored = ramp().astype(np.uint16)
    ds = compressed(jls(stored), JPEGLSLossless, stored.shape, **said)
    assert (render(ds)[0] == shown(stored)).all()
    odd = np.where(ramp() % 2, ramp() % 100, 4095 - ramp() % 100).astype(np.uint16)
    with pytest.raises(ImagingError, match="the codestream has another precision"):
        render(compressed(jls(odd), JPEGLSLossless, odd.shape, **said))
    dark = COLOURS // 4  # of 6 bits
    colours = compressed(jls(dark, 2), JPEGLSLossless, dark.shape)
    assert (render(colours)[0] == dark).all()


@pytest.mark.parametrize(
    ("stream", "syntax"),
    [
        (jpeg(np.zeros((64, 64), np.uint8)), JPEGBaseline8Bit),
        (j2k(np.zeros((64, 64), np.uint8), 8), JPEG2000Lossless),
        (jls(np.zeros((64, 64), np.uint8)), JPEGLSLossless),
    ],
)
def test_another_picture_than_the_headers_is_refused(stream: bytes, syntax: str) -> None:
    for shape in ((32, 128), (128, 32), (64, 63), (16, 256)):
        with pytest.raises(ImagingError, match="contradictory header: the codestream has another"):
            render(compressed(stream, syntax, shape))
    with pytest.raises(ImagingError, match="the codestream has other components"):
        render(compressed(stream, syntax, (64, 64, 3)))


def test_the_stream_says_which_codec_it_is_for() -> None:
    pixels = (ramp() % 251).astype(np.uint8)
    streams = (jpeg(pixels), j2k(pixels, 8), jls(pixels))
    for syntax in (JPEGBaseline8Bit, JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless,
                   RLELossless, ExplicitVRLittleEndian):  # fmt: skip
        for stream in streams:
            ds = compressed(stream, syntax, pixels.shape, BitsAllocated=8, BitsStored=8, HighBit=7)
            assert np.abs(render(ds)[0].astype(int) - pixels).max() <= 6
    native = grey(ramp())
    native.file_meta.TransferSyntaxUID = JPEG2000Lossless
    with pytest.raises(ImagingError, match="transfer syntax compressed, pixel data not"):
        render(native)


def test_a_damaged_codestream_is_a_refusal() -> None:
    for whole in (jpeg(COLOURS), j2k(COLOURS, 8), jls(COLOURS)):
        for cut in (3, 20, 60):
            with pytest.raises(ImagingError):
                render(compressed(whole[:cut], JPEGBaseline8Bit, COLOURS.shape))
