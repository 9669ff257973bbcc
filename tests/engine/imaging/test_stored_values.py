"""The standard's corners of stored values, lookup tables, palettes and colours."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.pixels import apply_color_lut
from pydicom.uid import ExplicitVRBigEndian

from engine.imaging import compressed
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import TEXTS, FrameHeader, flatten
from engine.imaging.levels import Levels
from engine.imaging.palette import expand_segments
from engine.imaging.reader import read_dicom
from engine.imaging.render import check_header, render
from engine.imaging.voi import percentile_window
from tests.engine.imaging.corpus import (
    WHEEL,
    corpus,
)
from tests.engine.imaging.datasets import REAL, grey, ramp


def test_levels_look_up_what_was_computed_once_a_value() -> None:
    rng = np.random.default_rng(0)
    for image in (
        rng.integers(-900, 900, (70, 50), np.int16),
        rng.integers(0, 2**32, (9, 9), np.uint32),
        rng.normal(size=(8, 9)).astype(np.float32),
        np.full((600, 600), 65535, np.uint16),
    ):
        levels = Levels.of(image)
        assert (levels.look_up(levels.values) == image).all()
        assert levels.counts.sum() == image.size
        by_levels = percentile_window(levels.values.astype(float), levels.counts)
        by_pixels = percentile_window(image.astype(float).ravel())
        assert np.isclose(by_levels.centre, by_pixels.centre)
        assert np.isclose(by_levels.width, by_pixels.width)


def test_a_header_gives_what_pydicom_reads() -> None:
    compared = 0
    for path in corpus():
        try:
            read, again = (read_dicom(path.read_bytes()) for _ in range(2))
        except ImagingError:
            continue
        header = FrameHeader(read)
        for tag in again.keys():  # noqa: SIM118
            keyword, kind = keyword_for_tag(tag), again.get_item(tag).VR
            if tag_for_keyword(keyword) == tag and (kind == "US" or kind in TEXTS):
                assert header.get(keyword) == again[tag].value, (path.name, keyword)
                compared += 1
    assert compared > 1_000


def test_a_frames_own_group_holds_over_a_shared_one_and_that_over_the_top() -> None:
    ds = grey(np.stack([ramp(), ramp()]), WindowCenter="1", WindowWidth="10", RescaleSlope="7")

    def voi(centre: str) -> Dataset:
        item, group = Dataset(), Dataset()
        item.WindowCenter, item.WindowWidth = centre, "10"
        group.FrameVOILUTSequence = [item]
        return group

    ds.SharedFunctionalGroupsSequence = [voi("2")]
    assert [flatten(FrameHeader(ds), f).get("WindowCenter") for f in (0, 1)] == [2, 2]
    ds.PerFrameFunctionalGroupsSequence = [voi("3"), Dataset()]
    assert [flatten(FrameHeader(ds), f).get("WindowCenter") for f in (0, 1)] == [3, 2]
    assert flatten(FrameHeader(ds), 0).get("RescaleSlope") == 7
    assert "WindowCenter" in flatten(FrameHeader(ds), 0)
    assert flatten(FrameHeader(ds), 0).get("PatientName", "none") == "none"


def test_signed_big_endian_and_padded_values_are_what_they_are() -> None:
    values = ramp() - 2048
    window = {"WindowCenter": "0", "WindowWidth": "2000", "VOILUTFunction": "LINEAR_EXACT"}
    expected = np.round(np.clip(values / 2000 + 0.5, 0, 1) * 255)
    ds = grey(values, PixelRepresentation=1, **window)
    assert (render(ds)[0] == expected).all()
    out = io.BytesIO()
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    ds.PixelData = values.astype(">i2").tobytes()
    ds.save_as(out, implicit_vr=False, little_endian=False)
    assert (render(read_dicom(out.getvalue()))[0] == expected).all()


@pytest.mark.parametrize("representation", [0, 1])
def test_values_that_end_above_bit_0_are_moved_down_and_keep_their_sign(
    representation: int,
) -> None:
    values = ramp() - 2048 * representation
    ds = grey((values << 4) | 9, BitsStored=12, HighBit=15, PixelRepresentation=representation,
              WindowCenter=str(2048 * (1 - representation)), WindowWidth="4096",
              VOILUTFunction="LINEAR_EXACT")  # fmt: skip
    expected = np.round(np.clip(ramp() / 4096, 0, 1) * 255)
    assert (render(ds)[0] == expected).all()


def test_bits_above_the_stored_ones_are_no_part_of_the_value() -> None:
    ds = grey(ramp() | 0xF000, BitsStored=12, HighBit=11, WindowCenter="2048", WindowWidth="4096")
    plain = grey(ramp(), WindowCenter="2048", WindowWidth="4096")
    assert (render(ds)[0] == render(plain)[0]).all()


def test_a_preset_that_would_show_nothing_is_not_used() -> None:
    ct = {"Modality": "CT", "RescaleIntercept": "0", "RescaleSlope": "1"}
    _, choices = render(grey(ramp() + 3000, **ct))
    assert choices["window_source"].startswith("percentiles")
    _, choices = render(grey(ramp(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **ct))
    assert choices["window_source"].startswith("percentiles")


def test_a_lut_with_more_bits_than_it_says_and_packed_bytes_are_read() -> None:
    def lut(descriptor: list[int], vr: str, data: Any) -> Dataset:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", descriptor)
        item.add_new("LUTData", vr, data)
        return item

    image = np.tile([0, 1, 2, 3], (16, 1))
    deep = render(grey(image, VOILUTSequence=[lut([4, 0, 8], "US", [0, 1000, 2000, 4095])]))[0]
    assert list(deep[0]) == [0, 62, 125, 255]
    packed = render(grey(image, VOILUTSequence=[lut([4, 0, 8], "OW", bytes([0, 9, 99, 255]))]))[0]
    assert list(packed[0]) == [0, 9, 99, 255]


def test_a_modality_lut_comes_before_the_window() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 10, 16])
    item.add_new("LUTData", "US", [0, 100, 200, 300])
    ds = grey(np.tile([0, 10, 11, 12, 13, 99], (6, 1)), ModalityLUTSequence=[item],
              WindowCenter="150", WindowWidth="300", VOILUTFunction="LINEAR_EXACT")  # fmt: skip
    assert list(render(ds)[0][0]) == [0, 0, 85, 170, 255, 255]


@pytest.mark.parametrize("tail", ["1", "1.1", "2", "2.1", "3"])
def test_a_modality_lut_back_to_x_ray_intensity_is_left_out(tail: str) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 16])
    item.add_new("LUTData", "US", [3000, 2000, 1000, 0])
    window = {"WindowCenter": "1.5", "WindowWidth": "3", "VOILUTFunction": "LINEAR_EXACT"}
    sop_class = f"1.2.840.10008.5.1.4.1.1.12.{tail}"
    ds = grey(np.tile([0, 1, 2, 3], (6, 1)), SOPClassUID=sop_class, ModalityLUTSequence=[item],
              **window)  # fmt: skip
    pixels, choices = render(ds)
    assert list(pixels[0]) == [0, 85, 170, 255]
    assert choices["modality_lut"] == "none: LUT to X-ray intensity"


def test_a_dark_palette_picture_is_not_taken_for_8_bit_entries() -> None:
    ds = grey(np.zeros((16, 16), int), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [2, 0, 16])
        entries = np.array([200, 65535], "<u2").tobytes()
        setattr(ds, f"{colour}PaletteColorLookupTableData", entries)
    assert set(render(ds)[0].ravel()) == {0}


@pytest.mark.parametrize("name", ["gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"])
def test_a_segmented_palette_is_as_pydicom_expands_it(name: str) -> None:
    if not REAL.is_dir():
        pytest.skip("the real DICOM files are not here")
    ds = dcmread(REAL / name)
    assert (render(ds)[0] == apply_color_lut(ds.pixel_array, ds) >> 8).all()


def test_segments_repeat_and_never_grow_past_the_palette() -> None:
    words = np.array([0, 2, 5, 9, 1, 3, 12, 2, 2, 0, 0])  # 5 9, a line to 12, both again
    assert list(expand_segments(words, 16, True, 10)) == [5, 9, 10, 11, 12, 5, 9, 10, 11, 12]
    huge = np.array([0, 1, 5] + [1, 65535, 7] * 1000)
    assert len(expand_segments(huge, 16, True, 256)) == 256
    for damaged in ([1, 3, 9], [0, 9, 1, 2], [7, 1, 1], []):
        with pytest.raises(ValueError):
            expand_segments(np.array(damaged, int), 16, True, 4)


@pytest.mark.parametrize("space", ["YBR_PARTIAL_420", "YBR_ICT", "CMYK", "KANARIE"])
def test_colour_spaces_that_are_not_converted_are_refused_by_name(space: str) -> None:
    ds = grey(ramp(), SamplesPerPixel=3, PlanarConfiguration=0, BitsAllocated=8, BitsStored=8,
              HighBit=7, PhotometricInterpretation=space)  # fmt: skip
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3)
    with pytest.raises(ImagingError) as caught:
        render(ds)
    assert caught.value.reason is Reason.UNSUPPORTED
    assert "KANARIE" not in str(caught.value)


def test_a_missing_codec_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "has_extra", lambda: False)
    ds = dcmread(WHEEL / "test_files/JPEG-lossy.dcm")
    with pytest.raises(ImagingError, match=r"12-bit JPEG needs pip install 'triptych\[codecs\]'"):
        render(ds)


@pytest.mark.skipif(not compressed.has_extra(), reason="the extra codecs is not installed")
def test_the_extra_decodes_lossless_and_12_bit_jpeg() -> None:
    plain, lossless = (WHEEL / "test_files" / f"SC_rgb_{n}.dcm" for n in ("rle", "jpeg_gdcm"))
    assert (render(dcmread(plain))[0] == render(dcmread(lossless))[0]).all()
    deep = render(dcmread(WHEEL / "test_files/JPEG-lossy.dcm"))[0]
    j2k = render(dcmread(WHEEL / "test_files/JPEG2000.dcm"))[0]  # the same scan, signed
    assert np.corrcoef(deep.ravel(), j2k.ravel())[0, 1] > 0.95


def test_what_a_header_claims_is_bounded_by_frame_and_by_rule() -> None:
    ds = grey(ramp(), NumberOfFrames="100000", Rows=512, Columns=512)
    check_header(ds)
    with pytest.raises(ImagingError, match="in the chosen frames"):
        check_header(ds, 100_000)
    ds.Rows = ds.Columns = 65535
    with pytest.raises(ImagingError, match="too large"):
        check_header(ds)
