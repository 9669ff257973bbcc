"""A reason names what is wrong with this file."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.render import render
from tests.engine.imaging.datasets import grey, ramp, save
from tests.engine.imaging.streams import COLOURS, WINDOW, compressed, jls, jpeg, written


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
