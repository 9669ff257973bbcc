"""A header value that cannot be read is refused by name, and none is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError
from engine.imaging.header import FrameHeader
from engine.imaging.render import render
from engine.imaging.values import number, numbers
from tests.engine.imaging.datasets import grey, ramp, save
from tests.engine.imaging.streams import TWELVE, WINDOW, written

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
