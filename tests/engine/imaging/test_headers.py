"""Wrong headers: the codestream decides, values are read as meant, or a file is refused."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
import openjpeg.utils
import PIL.Image
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from engine.imaging.codestream import read_codestream
from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader
from engine.imaging.render import render
from engine.imaging.values import number, numbers
from tests.engine.imaging.test_imaging import grey, ramp, save

COLOURS = np.zeros((64, 64, 3), np.uint8)
COLOURS[..., 0], COLOURS[:32, :, 1], COLOURS[:, :20, 2] = 200, 120, 250
WINDOW = {"WindowCenter": "2000", "WindowWidth": "3000"}
TWELVE = {"BitsStored": 12, "HighBit": 11}


def shown(values: np.ndarray, centre: float = 2000, width: float = 3000) -> np.ndarray:
    """C.11.2.1.2.1 over 0..255."""
    return np.round(np.clip(((values - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255))


def compressed(stream: bytes, syntax: str, shape: tuple[int, ...], **attributes: Any) -> Dataset:
    """A file of one codestream, with the header that is right for its array's shape, and more."""
    ds = grey(np.zeros((1, 1)), Rows=shape[0], Columns=shape[1])
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if len(shape) == 3:
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        ds.PhotometricInterpretation = "RGB"
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def jpeg(pixels: np.ndarray, **more: Any) -> bytes:
    out = io.BytesIO()
    options = {"quality": 100} | ({"subsampling": 0} if pixels.ndim == 3 else {}) | more
    PIL.Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


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


def jls(values: np.ndarray, interleave: int = 0) -> bytes:
    """JPEG-LS of as many bits as the largest value needs."""
    planes = values.transpose(2, 0, 1).copy() if values.ndim == 3 and not interleave else values
    out = bytes(jpeg_ls.encode_array(planes, 0, interleave_mode=interleave))
    stream = read_codestream(out)
    assert stream is not None
    assert stream.precision == max(2, int(values.max()).bit_length())
    return out


# The codestream against the header


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


# Values that cannot be read


def written(ds: Dataset, **texts: str | bytes) -> Dataset:
    """A dataset read from a file in which attributes stand as given, allowed or not."""
    for keyword, text in texts.items():
        data = text.encode() if isinstance(text, str) else text
        tag = Tag(tag_for_keyword(keyword) or 0)
        vr = dictionary_VR(tag).split(" or ")[0]
        data += b" " * (len(data) % 2)
        ds[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)
    return ds


READ = {"-1024,00": -1024, "0,5": 0.5, " 1.5 ": 1.5, "+2": 2, ",5": 0.5, "5.": 5, "1e2": 100,
        "-1024,0E0": -1024, "40\\": 40, "7\\7": 7, "3.0\0": 3, "": 1, "  ": 1}  # fmt: skip
NOT_READ = ("1,024", "1,024.5", "abc", "1_000", "nan", "inf", "1e999", "--4", "0x10", "4 5", "1\\2",
            "1;5", "\\3", "\xb2")  # fmt: skip


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_a_number_is_read_as_it_is_meant(text: str, value: float) -> None:
    ds = written(Dataset(), RescaleSlope=text)
    assert number(FrameHeader(ds), "RescaleSlope", 1) == value


@pytest.mark.parametrize("text", NOT_READ)
def test_a_number_that_cannot_be_read_is_refused_by_name(text: str) -> None:
    ds = written(Dataset(), RescaleSlope=text.encode("latin-1"))
    with pytest.raises(ImagingError, match="unreadable file: RescaleSlope"):
        number(FrameHeader(ds), "RescaleSlope", 1)


@given(st.floats(-1e6, 1e6).map(lambda x: f"{x:.8g}"))
def test_a_decimal_comma_is_a_decimal_point_or_no_number(text: str) -> None:
    (read,) = numbers(text.replace(".", ","))
    assert read == float(text) or (np.isnan(read) and len(text.partition(".")[2]) == 3)


WRONG = {
    "RescaleSlope": "abc", "RescaleIntercept": "1.0.0", "WindowCenter": "forty",
    "WindowWidth": "400;5", "VOILUTFunction": "LOG", "PresentationLUTShape": "UPSIDE DOWN",
    "PixelPaddingValue": b"\1\0\2\0", "PixelPaddingRangeLimit": b"\1\0\0", "NumberOfFrames": "two",
    "BitsAllocated": b"\x10\0\x0c\0", "BitsStored": b"\x0c\0\x10\0", "HighBit": b"\1\0\2",
    "PixelRepresentation": b"\2\0", "SamplesPerPixel": b"\1\0\3\0", "Rows": b"\x40\0\x20\0",
    "Columns": b"64,5", "VOILUTSequence": b"LUT ", "ModalityLUTSequence": b"LUT ",
    "SequenceOfUltrasoundRegions": b"BOX ", "PerFrameFunctionalGroupsSequence": b"ITEM",
}  # fmt: skip


@pytest.mark.parametrize(("keyword", "data"), WRONG.items())
def test_what_decides_pixels_and_cannot_be_read_is_refused_by_name(
    keyword: str, data: str | bytes, tmp_path: Path, decoder: Decoder
) -> None:
    ds = grey(ramp(), RescaleSlope="1", RescaleIntercept="0", PixelPaddingValue=5, **WINDOW)
    path = save(ds, tmp_path / "right")
    assert decoder.decode(path, "middle").frames
    wrong = written(dcmread(path), **{keyword: data})
    with pytest.raises(ImagingError) as caught:
        decoder.decode(save(wrong, tmp_path / "wrong"), "middle")
    assert keyword in str(caught.value)
    assert str(caught.value).startswith("unreadable file: ")


NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
          "PhotometricInterpretation")  # fmt: skip


@pytest.mark.parametrize("keyword", NEEDED)
def test_what_is_needed_and_absent_is_named(keyword: str) -> None:
    ds = grey(ramp(), **WINDOW)
    delattr(ds, keyword)
    with pytest.raises(ImagingError, match=f"unreadable file: no {keyword}$"):
        render(ds)


def test_what_is_absent_and_can_be_one_thing_only_is_that() -> None:
    ds = grey(ramp(), **TWELVE, **WINDOW)
    expected = render(ds)[0]
    del ds.SamplesPerPixel, ds.HighBit
    assert (render(ds)[0] == expected).all()
    ds.PhotometricInterpretation = " monochrome2"
    assert (render(ds)[0] == expected).all()
    colours = grey(ramp(), SamplesPerPixel=3, BitsAllocated=8, BitsStored=8, HighBit=7,
                   PhotometricInterpretation="RGB")  # fmt: skip
    colours.PixelData = bytes(64 * 64 * 3)
    with pytest.raises(ImagingError, match="unreadable file: no PlanarConfiguration"):
        render(colours)


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"BitsStored": 17}, "BitsStored and BitsAllocated"),
        ({"BitsStored": 16, "HighBit": 11}, "HighBit and BitsStored"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel and PhotometricInterpretation"),
        ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel and PhotometricInterpretation"),
    ],
)
def test_values_that_cannot_all_be_right_are_named(attributes: dict[str, Any], named: str) -> None:
    with pytest.raises(ImagingError, match=f"contradictory header: {named}"):
        render(grey(ramp(), **attributes))


def test_a_slope_of_0_and_a_lut_that_is_none_are_refused() -> None:
    with pytest.raises(ImagingError, match="RescaleSlope is 0"):
        render(grey(ramp(), RescaleSlope="0", RescaleIntercept="-1024", **WINDOW))
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4096, 0, 16])
    lut.add_new("LUTData", "US", [1, 2, 3])
    with pytest.raises(ImagingError, match="ModalityLUTSequence cannot be read"):
        render(grey(ramp(), ModalityLUTSequence=[lut]))
    with pytest.raises(ImagingError, match="VOILUTSequence cannot be read"):
        render(grey(ramp(), VOILUTSequence=[lut]))
    _, choices = render(grey(ramp(), VOILUTSequence=[lut], **WINDOW))  # either may be used
    assert choices["fallback"] == ["invalid VOI LUT"]


def test_an_empty_slope_is_none() -> None:
    ds = grey(ramp(), Modality="CT", RescaleSlope=None, RescaleIntercept=None)
    assert render(ds)[1]["window_source"].startswith("percentiles")


def test_padding_of_the_other_sign_is_padding() -> None:
    for signed, padding, stored in ((1, 63536, -2000), (0, -1, 65535)):
        values = np.full((64, 64), 1000)
        values[:8] = stored
        ds = grey(values & 0xFFFF, PixelRepresentation=signed, **WINDOW)
        ds.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
        pixels, choices = render(ds)
        assert choices["padding"]
        assert (pixels[:8] == 0).all()


def test_a_frame_without_a_group_of_its_own_is_refused() -> None:
    ds = grey(np.stack([ramp()] * 3), **WINDOW)
    ds.PerFrameFunctionalGroupsSequence = [Dataset(), Dataset()]
    assert render(ds, 1)[1]["window"] == [2000, 3000]
    with pytest.raises(ImagingError, match="fewer functional groups than frames"):
        render(ds, 2)


def test_classes_are_compared_whole() -> None:
    rt_image = "1.2.840.10008.5.1.4.1.1.481.23"  # enhanced RT image, not RT dose ...481.2
    assert render(grey(ramp(), SOPClassUID=rt_image))[0].shape == (64, 64)
    ds = grey(ramp(), Modality="ct ", RescaleSlope="1", RescaleIntercept="0")
    ds.ImageType = ["DERIVED", "PRIMARY", "NOLOCALIZER"]
    assert render(ds)[1]["window_source"] == "preset unknown"


# Reasons


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def nifti_header(magic: bytes) -> bytes:
    return struct.pack("<i", 348).ljust(344, b"\0") + magic


PAIR = "unsupported encoding: a NIfTI pair (.hdr, .img) is not read: give it as one .nii file"
REASONS = {
    "pair.hdr": (nifti_header(b"ni1\0"), PAIR),
    "pair.img": (bytes(4096), PAIR),
    "alone.img": (bytes(4096), "not an image: neither DICOM, NIfTI, PNG, JPEG nor TIFF"),
    "brain.hdr": (nifti_header(bytes(4)), "unsupported encoding: Analyze 7.5"),
    "empty": (b"", "unreadable file: empty file"),
    "a.zip": (b"PK\3\4" + bytes(99), "not an image: a ZIP archive"),
    "p.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", "unsupported encoding: JPEG 2000 file"),
    "p.jls": (jls(COLOURS), "unsupported encoding: JPEG-LS"),
    "p.jpg": (jpeg(COLOURS)[:40], "unreadable file: damaged JPEG"),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_names_what_is_wrong_with_this_file(
    name: str, tmp_path: Path, decoder: Decoder
) -> None:
    for other, (data, _) in REASONS.items():
        (tmp_path / other).write_bytes(data)
    with pytest.raises(ImagingError) as caught:
        decoder.decode(tmp_path / name, "middle")
    assert str(caught.value) == REASONS[name][1]


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, decoder: Decoder) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "lost").symlink_to(tmp_path / "gone")
    said = {"pipe": "not a regular file", "link": "a link to a folder", "lost": "leads nowhere"}
    for name, why in said.items():
        with pytest.raises(ImagingError, match=why) as caught:
            decoder.decode(tmp_path / name, "middle")
        assert caught.value.reason is Reason.UNREADABLE


def test_big_tiff_is_read(tmp_path: Path, decoder: Decoder) -> None:
    PIL.Image.fromarray(COLOURS).save(tmp_path / "big", "TIFF", big_tiff=True)
    assert (decoder.decode(tmp_path / "big", "middle").frames[0].pixels == COLOURS).all()


def test_a_picture_is_no_damaged_dicom_to_deidentify(tmp_path: Path, decoder: Decoder) -> None:
    PIL.Image.fromarray(COLOURS).save(tmp_path / "one.png")
    with pytest.raises(ImagingError, match="PNG: only DICOM files are written again"):
        decoder.clean(tmp_path / "one.png", b"k" * 16)


def test_the_wheels_mismatched_file_is_signed() -> None:
    path = Path(pydicom.data.__file__).parent / "test_files/J2K_pixelrep_mismatch.dcm"
    pixels, choices = render(dcmread(path))
    assert choices["window"] == [40, 100]
    assert (pixels == 0).mean() > 0.3  # air, which unsigned values would have shown white


@pytest.mark.parametrize("planar", [0, 1, None])
def test_rle_is_by_plane_whatever_the_header_says(planar: int | None) -> None:
    ds = grey(ramp(), SamplesPerPixel=3, BitsAllocated=8, BitsStored=8, HighBit=7,
              PhotometricInterpretation="RGB", PlanarConfiguration=0)  # fmt: skip
    ds.PixelData = COLOURS.tobytes()
    ds.compress(RLELossless)
    ds.PlanarConfiguration = planar
    assert (render(ds)[0] == COLOURS).all()
    ds.BitsAllocated = 16
    with pytest.raises(ImagingError, match="contradictory header: RLE has other samples or bits"):
        render(ds)


def test_a_frame_that_is_not_there_is_named() -> None:
    pixels = (ramp() % 251).astype(np.uint8)
    ds = compressed(jpeg(pixels), JPEGBaseline8Bit, pixels.shape, NumberOfFrames=2)
    assert render(ds, 0)[0].shape == (64, 64)
    with pytest.raises(ImagingError, match="decoding failed: no such frame in the pixel data"):
        render(ds, 1)
    for syntax in (JPEGBaseline8Bit, ExplicitVRLittleEndian):
        empty = grey(ramp())
        empty.file_meta.TransferSyntaxUID = syntax
        empty.PixelData = b""
        with pytest.raises(ImagingError, match="unreadable file: empty pixel data"):
            render(empty)


@pytest.mark.parametrize("field", ["scl_slope", "scl_inter", "cal_max"])
def test_a_nifti_scale_that_is_no_number_is_refused_by_name(field: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    from engine.imaging.nifti import read_nifti

    data = bytearray(nibabel.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)).to_bytes())
    at = {"scl_slope": 112, "scl_inter": 116, "cal_max": 124}[field]
    data[112:116] = struct.pack("<f", 2)
    data[at : at + 4] = struct.pack("<f", np.inf)
    with pytest.raises(ImagingError, match=f"unreadable file: {field} cannot be read"):
        read_nifti(bytes(data))


def test_commas_are_read_in_lists_in_groups_and_of_frames(tmp_path: Path, decoder: Decoder) -> None:
    ds = grey(np.stack([ramp()] * 2), Modality="CT", PixelPaddingValue=0)
    look, scale, group = Dataset(), Dataset(), Dataset()
    look.WindowCenter, look.WindowWidth = ["40.5", "80.0"], ["400.0", "80.0"]
    scale.RescaleSlope, scale.RescaleIntercept = "0.5000", "-1024.00"
    group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [look], [scale]
    ds.PerFrameFunctionalGroupsSequence = [group, group]
    right = save(ds, tmp_path / "right")
    data = right.read_bytes()
    for text in (b"40.5\\80.0", b"400.0\\80.0", b"0.5000", b"-1024.00"):
        assert text in data
        data = data.replace(text, text.replace(b".", b","))
    wrong = tmp_path / "wrong"
    wrong.write_bytes(data)
    one, other = (decoder.decode(path, "all").frames for path in (right, wrong))
    assert [f.rendering["window"] for f in other] == [[40.5, 400]] * 2
    assert all((f.pixels == g.pixels).all() for f, g in zip(one, other))
    assert other[0].facts["RescaleIntercept"] == [-1024]
    (tmp_path / "copy").write_bytes(decoder.clean(wrong, b"k" * 16))
    copies = decoder.decode(tmp_path / "copy", "all").frames
    assert all((f.pixels == g.pixels).all() for f, g in zip(one, copies))


def test_a_count_of_frames_with_a_comma_is_that_count(tmp_path: Path, decoder: Decoder) -> None:
    ds = dcmread(save(grey(np.stack([ramp()] * 3), **WINDOW), tmp_path / "right"))
    wrong = save(written(ds, NumberOfFrames="3,0"), tmp_path / "wrong")
    assert len(decoder.decode(wrong, "all").frames) == 3
