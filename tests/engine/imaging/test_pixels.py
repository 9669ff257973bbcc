"""Correct pixels of every format: the corpus, highdicom beside us, the standard's corners."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import ExplicitVRBigEndian

from engine.imaging import compressed, nifti
from engine.imaging.decode import LENGTHS, MAX_REPLY, Decoder, Decoders
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import TEXTS, FrameHeader, flatten
from engine.imaging.ingest import list_files
from engine.imaging.levels import Levels
from engine.imaging.palette import expand_segments
from engine.imaging.picture import open_picture, pages, render_picture
from engine.imaging.reader import NEITHER, file_format, read_dicom
from engine.imaging.render import MAX_BYTES, check_header, render
from engine.imaging.voi import percentile_window
from tests.engine.imaging.test_imaging import REAL, grey, ramp, save

WHEEL = Path(pydicom.data.__file__).parent
FOLDERS = [
    f
    for f in (REAL, *(WHEEL / n for n in ("charset_files", "palettes", "test_files")))
    if f.is_dir()
]
NO_PIXELS = "not an image: no pixel data"
SEGMENTATION = "not an image: Segmentation Storage"
DOSE = "not an image: RT Dose Storage"
NOT_DICOM = f"not an image: {NEITHER}"
DIRECTORY = "not an image: DICOM directory"
NO_SPACE = "unreadable file: no PhotometricInterpretation"
# Every file that is refused, by its path's end, and why; all others must be rendered.
REFUSED = {
    "LICENSE": NOT_DICOM,
    "README.*": NOT_DICOM,
    "FileInfo.txt": NOT_DICOM,
    "test*.json": NOT_DICOM,
    "DICOMDIR": DIRECTORY,
    "liver*.dcm": SEGMENTATION,
    "emri_small_jpeg_2k_lossless_too_short.dcm": "unreadable file: damaged DICOM",  # cut off
    "chrJapMulti*.dcm": NO_PIXELS,
    "chrKoreanMulti.dcm": NO_PIXELS,
    "chrSQEncoding*.dcm": NO_PIXELS,
    "palettes/*": NO_PIXELS,
    "ExplVR_*EndNoMeta.dcm": NO_PIXELS,  # plans without images
    "JPEG-lossy.dcm": f"unsupported encoding: 12-bit JPEG {compressed.NEEDS_EXTRA}",
    "JPGExtended.dcm": f"unsupported encoding: 12-bit JPEG {compressed.NEEDS_EXTRA}",
    "SC_rgb_jpeg_gdcm.dcm": f"unsupported encoding: lossless JPEG {compressed.NEEDS_EXTRA}",
    # A damaged codestream, of 3,722,445,056 columns.
    "JPEG2000-embedded-sequence-delimiter.dcm": "contradictory header: the codestream has another "
    "size",
    "MR_truncated.dcm": "unreadable file: fewer pixels than the header says",
    "UN_sequence.dcm": NO_PIXELS,
    "empty_charset_LEI.dcm": NO_PIXELS,
    "meta_missing_tsyntax.dcm": NO_SPACE,
    "nested_priv_SQ.dcm": NO_SPACE,
    "no_meta.dcm": NOT_DICOM,  # a byte too many at its start
    "no_meta_group_length.dcm": NO_PIXELS,
    "priv_SQ.dcm": NO_PIXELS,
    "reportsi*.dcm": NO_PIXELS,
    "rtplan*.dcm": NO_PIXELS,
    "rtstruct.dcm": NO_PIXELS,
    "*.dump": NOT_DICOM,
    "test-SR.dcm": NO_PIXELS,
    "waveform_ecg.dcm": NO_PIXELS,
    "rtdose*.dcm": DOSE,
    "badVR.dcm": DOSE,
    "crayons.icc": NOT_DICOM,
    "zipMR.gz": "not an image: gzip of something other than NIfTI",
    "dicomdirtests/DICOMDIR-*": DIRECTORY,
    "TINY_ALPHA/PT*": NO_PIXELS,
    "TINY_ALPHA/README": NOT_DICOM,
}
WITH_EXTRA = ("JPEG-lossy.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm")


def corpus() -> list[Path]:
    return [path for folder in FOLDERS for path in list_files(folder)]


def expected_reason(path: Path) -> str | None:
    """Why a file of the corpus is refused; None where it is to be rendered."""
    if compressed.has_extra() and path.name in WITH_EXTRA:
        return None
    return next((r for end, r in REFUSED.items() if fnmatch(path.as_posix(), f"*/{end}")), None)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def outcome(decoder: Decoder, path: Path, rule: str = "middle") -> str | None:
    """Why a file was refused, None where it was rendered."""
    try:
        frames = decoder.decode(path, rule).frames
    except ImagingError as error:
        return str(error)
    assert frames
    assert all(f.pixels.dtype == np.uint8 for f in frames)
    return None


# The corpus


def test_every_file_of_the_corpus_is_rendered_or_refused_for_its_true_reason() -> None:
    paths = corpus()
    with Decoders(2) as decoders:
        found = dict(zip(paths, decoders.map(outcome, paths)))
    wrong = {p.name: (r, expected_reason(p)) for p, r in found.items() if r != expected_reason(p)}
    assert wrong == {}
    stale = {end for end in REFUSED if not any(fnmatch(p.as_posix(), f"*/{end}") for p in paths)}
    assert stale == set() or not REAL.is_dir()
    assert sum(reason is None for reason in found.values()) >= (100 if REAL.is_dir() else 90)


def test_encodings_of_one_picture_look_the_same(decoder: Decoder) -> None:
    plain = decoder.decode(WHEEL / "test_files/SC_rgb_rle.dcm", "all").frames[0].pixels
    paths = [p for p in corpus() if p.name.startswith("SC_rgb_") and expected_reason(p) is None]
    for path in paths:
        pixels = decoder.decode(path, "all").frames[0].pixels
        if pixels.shape == plain.shape:
            lossless = any(word in path.name for word in ("rle", "16bit", "32bit", "_2frame"))
            assert np.abs(pixels.astype(int) - plain).mean() <= (0.51 if lossless else 4), path.name


# highdicom, frame by frame. `hd` is what its get_frame gives with the modality and VOI transforms
# and presentation LUT over 0..255, ours the rendered frame; each reason is checked, not believed.


def same(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """Equal but for rounding: ours is the nearest of 256 levels."""
    return hd.shape == ours.shape and bool((np.abs(hd - ours) <= 0.5 + 1e-6).all())


def no_window(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """The file has no window: highdicom gives modality values, ours go through our window."""
    centre, width = choices["window"]
    step = 1 if choices["voi_function"] == "LINEAR" else 0
    shown = np.clip(((hd - (centre - step / 2)) / (width - step) + 0.5) * 255, 0, 255)
    return choices["window_source"] != "file" and same(shown, ours, ds, choices)


def deep_colour(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom keeps colours of 16 or 32 bits, ours have 8."""
    return same(hd * 255 / (2.0**ds.BitsStored - 1), ours, ds, choices)


def deep_palette(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom keeps a palette's 16-bit entries, ours are their upper 8 bits."""
    return bool((hd // 256 == ours).all())


def supplemental(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom leaves a supplemental palette out; ours colours the stored values it maps."""
    coloured = pixel_array(ds, index=choices["frame"]) >= ds[0x00281101].value[1]
    plain = (ours == ours[..., :1]).all(axis=2)
    greys = same(hd[~coloured], ours[~coloured][:, 0], ds, choices)
    return greys and bool(plain[~coloured].all() and not plain[coloured].all())


def fused_window(hd: np.ndarray, ours: np.ndarray, ds: Dataset, choices: dict[str, Any]) -> bool:
    """highdicom applies LINEAR's half and whole step (C.11.2.1.2.1) in stored values, before the
    rescale slope; the standard has them in the modality LUT's output."""
    slope, intercept = float(ds.RescaleSlope), float(ds.RescaleIntercept)
    (centre, width), stored = choices["window"], pixel_array(ds, index=0)

    def shown(values: np.ndarray, centre: float, width: float) -> np.ndarray:
        grey = np.clip(((values - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)
        return 255 - grey if choices["inverted"] else grey

    fused = shown(stored, (centre - intercept) / slope, width / slope)
    standard = shown(stored * slope + intercept, centre, width)
    return bool(np.allclose(hd, fused)) and same(standard, ours, ds, choices)


DIFFERENCES = {
    "MR2_J2K?.dcm": fused_window,
    "6154": fused_window,
    "6247": fused_window,
    "6278": fused_window,
    "JLSL_08_07_0_1F.dcm": no_window,
    "JLSL_16_15_1_1F.dcm": no_window,
    "emri_small.dcm": no_window,
    "emri_small_jpeg_ls_lossless.dcm": no_window,
    "CT_small.dcm": no_window,
    "JPEG2000.dcm": no_window,
    "JPEGLSNearLossless_16.dcm": no_window,
    "SC_rgb*16bit*.dcm": deep_colour,
    "SC_rgb*32bit*.dcm": deep_colour,
    "OBXXXX1A*.dcm": deep_palette,
    "examples_palette.dcm": deep_palette,
    "eCT_Supplemental.dcm": supplemental,
}
BIG_ENDIAN = "only valid for datasets with little endian"
# What highdicom does not open and we render: its words.
NOT_OPENED = {
    "*expb*": BIG_ENDIAN,
    "*_big*": BIG_ENDIAN,
    "ExplVR_BigEnd.dcm": BIG_ENDIAN,
    "color-px.dcm": "No IOD found",
    "JLS?_RGB_*.dcm": "'DICM' prefix is missing",
    "gdcm-US-ALOKA-16.dcm": "Segmented LUTs are not implemented",
    "SC_rgb_small_odd.dcm": "ReferencedSOPInstanceUID",
}


def by_name(table: dict[str, Any], path: Path, default: Any) -> Any:
    return next((value for end, value in table.items() if fnmatch(path.name, end)), default)


@pytest.mark.filterwarnings("ignore")
def test_every_difference_from_highdicom_is_explained() -> None:
    hd = pytest.importorskip("highdicom")
    unexplained, compared = [], 0
    for path in corpus():
        if expected_reason(path) is not None or path.name in WITH_EXTRA:
            continue
        ds = read_dicom(path.read_bytes())
        try:
            image = hd.imread(path)
            frames = [
                image.get_frame(
                    number + 1,
                    apply_real_world_transform=False,
                    apply_voi_transform=None,
                    voi_output_range=(0, 255),
                    apply_icc_profile=False,
                )
                for number in range(int(ds.get("NumberOfFrames", 1)))
            ]
        except Exception as error:
            if by_name(NOT_OPENED, path, "-") not in str(error):
                unexplained.append(f"{path.name}: highdicom: {error}")
            continue
        holds = by_name(DIFFERENCES, path, same)
        for number, theirs in enumerate(frames):
            ours, choices = render(ds, number)
            compared += 1
            if not holds(np.asarray(theirs, float), ours, ds, choices):
                unexplained.append(f"{path.name} frame {number}: not {holds.__name__}")
    assert not unexplained, "\n".join(unexplained)
    assert compared >= (120 if REAL.is_dir() else 115)


# The standard's corners


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


# Other formats


def volume(affine: np.ndarray, voxels: np.ndarray) -> bytes:
    nibabel = pytest.importorskip("nibabel")
    return bytes(nibabel.Nifti1Image(voxels, affine).to_bytes())


def turned(voxels: np.ndarray, axes: str) -> bytes:
    """RAS voxels as they are stored in another orientation, and the affine that says so."""
    nibabel = pytest.importorskip("nibabel")
    to = nibabel.orientations.axcodes2ornt(axes)
    affine = nibabel.orientations.inv_ornt_aff(to, voxels.shape)
    return volume(affine, nibabel.apply_orientation(voxels, to))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PSR", "SAL", "ILP"])
def test_a_volume_is_shown_right_on_the_left_and_anterior_on_top(axes: str) -> None:
    voxels = np.zeros((6, 8, 4), np.int16)
    voxels[5, 7, 3] = 1000  # the most right, anterior and superior voxel
    voxels[0, 0, 0] = 500
    found = nifti.read_nifti(turned(voxels, axes))
    assert found.slices == 4
    top, bottom = (nifti.render_slice(found, i)[0] for i in (3, 0))
    assert top.shape == (8, 6)
    assert np.argwhere(top == top.max()).tolist() == [[0, 0]]
    assert np.argwhere(bottom == bottom.max()).tolist() == [[7, 5]]


def test_volumes_go_through_the_decoder_by_the_frame_rule(decoder: Decoder, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = volume(np.eye(4), rng.integers(0, 900, (20, 30, 7, 2), np.int16))
    (tmp_path / "one.nii").write_bytes(data)
    (tmp_path / "two").write_bytes(gzip.compress(data))
    for rule, expected in (("middle", [3]), ("every:3", [0, 3, 6]), ("all", list(range(7)))):
        plain, packed = (decoder.decode(tmp_path / n, rule).frames for n in ("one.nii", "two"))
        assert [f.frame for f in plain] == expected
        assert all((a.pixels == b.pixels).all() for a, b in zip(plain, packed))
    assert plain[0].rendering["window_source"].startswith("percentiles")
    assert len({tuple(f.rendering["window"]) for f in plain}) == 1


def test_a_volume_is_scaled_and_refused_where_nothing_is_finite() -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.arange(27, dtype=np.float32).reshape(3, 3, 3), np.eye(4))
    image.header["cal_max"] = 26
    found = nifti.read_nifti(image.to_bytes())
    shown = nifti.render_slice(found, 0)[0]
    assert shown[-1, -1] == 0
    assert shown[0, 0] == round(24 / 26 * 255)
    broken = volume(np.eye(4), np.full((3, 3, 3), np.nan, np.float32))
    with pytest.raises(ImagingError, match="not finite"):
        nifti.render_slice(nifti.read_nifti(broken), 0)


def test_without_nibabel_the_refusal_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImagingError, match=r"pip install 'triptych\[nifti\]'"):
        nifti.read_nifti(bytes(352))


def tiff(*images: PIL.Image.Image, **more: Any) -> bytes:
    out = io.BytesIO()
    first, *rest = images
    first.save(out, "TIFF", save_all=True, append_images=rest, **more)
    return out.getvalue()


def test_pages_of_a_tiff_are_frames_and_thumbnails_are_not() -> None:
    page = PIL.Image.fromarray(ramp().astype(np.uint8))
    plain = open_picture(tiff(page, page, page), "TIFF")
    assert pages(plain) == [0, 1, 2]
    out = io.BytesIO()
    with PIL.TiffImagePlugin.AppendingTiffWriter(out, True) as writer:
        for kind in (0, 1, 0, 9):
            page.save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    assert pages(open_picture(out.getvalue(), "TIFF")) == [0, 2]


def test_a_deep_tiff_where_white_is_zero_is_turned() -> None:
    deep = PIL.Image.fromarray((ramp() * 10).astype(np.uint16))
    black = render_picture(open_picture(tiff(deep), "TIFF"), 0)[0]
    white = render_picture(open_picture(tiff(deep, tiffinfo={262: 0}), "TIFF"), 0)[0]
    assert (np.abs(white.astype(int) - (255 - black.astype(int))) <= 1).all()


def test_a_format_is_known_by_content_whatever_the_name(tmp_path: Path) -> None:
    out = io.BytesIO()
    PIL.Image.fromarray(ramp().astype(np.uint8)).save(out, "PNG")
    assert file_format(out.getvalue()) == "PNG"
    dicom = save(grey(ramp()), tmp_path / "photo.png").read_bytes()
    assert file_format(dicom) == "DICOM"
    assert file_format(b"II*\0".ljust(128, b"\0") + dicom[128:]) == "DICOM"
    bare = dcmread(tmp_path / "photo.png")
    bare.file_meta.clear()
    plain = io.BytesIO()
    bare.save_as(plain, implicit_vr=True, little_endian=True)
    assert file_format(plain.getvalue()) == "DICOM"
    assert (render(read_dicom(plain.getvalue()))[0] == render(grey(ramp()))[0]).all()
    for other in (b"", b"text", gzip.compress(b"text"), b"%PDF-1.7"):
        with pytest.raises(ImagingError, match="not an image"):
            file_format(other)


# Isolation


def test_decoders_answer_in_order_and_a_bad_file_stops_none_of_them(tmp_path: Path) -> None:
    paths = []
    for number in range(12):
        path = tmp_path / f"{number}"
        image = np.full((20, 20 + number), 7)
        save(grey(image), path) if number % 3 else path.write_bytes(b"no image")
        paths.append(path)

    def width(decoder: Decoder, path: Path) -> int | str:
        try:
            return decoder.decode(path, "middle").frames[0].pixels.shape[1]
        except ImagingError as error:
            return str(error.reason)

    with Decoders(2) as decoders:
        found = list(decoders.map(width, paths))
    assert found == [20 + n if n % 3 else "not an image" for n in range(12)]


@pytest.mark.parametrize(
    "reply",
    [
        LENGTHS.pack(2**31, 0),
        LENGTHS.pack(2, 2**40) + b"{}",
        LENGTHS.pack(3, 0) + b"nan",
        LENGTHS.pack(4, 0) + b"\xff\xff\xff\xff",
        LENGTHS.pack(14, 0) + b'{"reason":"x"}',
        LENGTHS.pack(13, 1) + b'{"shape":[9]}' + b"x",
    ],
)
def test_a_child_that_talks_nonsense_counts_as_crashed(
    reply: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "child.py"
    ready = LENGTHS.pack(2, 0) + b"{}"
    script.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"out = sys.stdout.buffer\nout.write({ready!r})\nout.flush()\n"
        f"sys.stdin.buffer.readline()\nout.write({reply!r})\nout.flush()\nsys.stdin.read()\n"
    )
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    with Decoder() as decoder:
        with pytest.raises(ImagingError) as caught:
            decoder.decode(tmp_path / "any", "middle")
        assert caught.value.reason is Reason.CRASHED
        assert decoder.pid is None


def test_a_reply_is_no_longer_than_what_one_file_may_give() -> None:
    assert MAX_REPLY >= MAX_BYTES


def test_300_mutants_bombs_and_polyglots_do_no_harm() -> None:
    """In a process of its own: the peak of its children's memory is that of the decoders."""
    words = ["--mutants", "300", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", *words],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
