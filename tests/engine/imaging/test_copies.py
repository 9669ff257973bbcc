"""A de-identified copy looks as its source does, frame by frame, or it is not written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config, dcmread

from engine.imaging.clean import copy_of
from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError
from engine.imaging.header import FrameHeader, flatten
from engine.imaging.layout import frame_count
from engine.imaging.reader import read_dicom
from engine.imaging.regions import crop_to_regions
from engine.imaging.render import render
from generators.phantoms import KINDS
from generators.phantoms.dicom import write_cohort
from tests.commands import command
from tests.engine.imaging.corpus import WITH_EXTRA, corpus, expected_reason
from tests.engine.imaging.datasets import grey, ramp, save

KEY = b"a key of the tests"
# Files of the corpus that are rendered and not written, and why.
NOT_WRITTEN = {
    "eCT_Supplemental.dcm": "a cleaned copy would look different: PixelPresentation is not kept",
    "JLSL_RGB_ILV2.dcm": "unreadable file: no SOPInstanceUID",
    "JLSN_RGB_ILV0.dcm": "unreadable file: no SOPInstanceUID",
}
Seen = tuple[np.ndarray, Any, Any]


@pytest.fixture(autouse=True)
def _as_in_the_child() -> Iterator[None]:
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    yield
    config.settings.reading_validation_mode = before


def seen(ds: Dataset) -> Iterator[Seen]:
    """What every frame shows, and the window options that a viewer would offer."""
    for frame in range(frame_count(FrameHeader(ds))):
        pixels, choices = render(ds, frame)
        header = flatten(FrameHeader(ds), frame)
        options = None
        if choices["window_source"] != "colour":
            keywords = ("WindowCenter", "WindowWidth")
            options = [np.atleast_1d(header.get(k) or 0).tolist() for k in keywords]
            options.append(header.get("VOILUTFunction") or "LINEAR")
        yield crop_to_regions(pixels, FrameHeader(ds))[0], choices["window"], options


def alike(source: Dataset, copy: Dataset) -> bool:
    """Whether every frame is equal, pixel by pixel, and offers the same windows."""
    ours, theirs = list(seen(source)), list(seen(copy))
    return len(ours) == len(theirs) and all(
        np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(ours, theirs)
    )


def copied(ds: Dataset) -> Dataset:
    return dcmread(io.BytesIO(copy_of(ds, KEY)))


@pytest.mark.filterwarnings("ignore")
def test_every_file_at_hand_is_written_alike_or_refused_by_name() -> None:
    written = 0
    for path in corpus():
        if expected_reason(path) is not None or path.name in WITH_EXTRA:
            continue
        source = read_dicom(path.read_bytes())
        if path.name in NOT_WRITTEN:
            with pytest.raises(ImagingError, match=NOT_WRITTEN[path.name]):
                copied(source)
            continue
        assert alike(source, copied(source)), path.name
        written += 1
    assert written >= 85


def test_every_kind_of_phantom_is_written_alike(tmp_path: Path) -> None:
    for path in write_cohort(tmp_path, dict.fromkeys(KINDS, 1), 64, 5, 0.3):
        source = dcmread(path)
        assert alike(source, copied(source)), path


# Drawn headers: what writers do, in any mixture

decimals = st.floats(-3000, 3000).map(lambda x: f"{x:.9g}")
widths = st.floats(1, 5000).map(lambda x: f"{x:.9g}")
voi = st.fixed_dictionaries({}, optional={
    "WindowCenter": decimals,
    "WindowWidth": widths,
    "VOILUTFunction": st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", ""]),
})  # fmt: skip
rescale = st.fixed_dictionaries({}, optional={
    "RescaleSlope": st.floats(0.001, 3).map(lambda x: f"{x:.12g}"),
    "RescaleIntercept": decimals,
})  # fmt: skip
top = st.fixed_dictionaries({}, optional={
    "PhotometricInterpretation": st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    "PresentationLUTShape": st.sampled_from(["IDENTITY", "INVERSE"]),
    "Modality": st.sampled_from(["CT", "MR", "US", "ct"]),
    "BodyPartExamined": st.sampled_from(["HEAD", "chest", "ELSEWHERE"]),
    "ImageType": st.sampled_from([
        ["ORIGINAL", "PRIMARY", "LOCALIZER"], ["ORIGINAL", "PRIMARY", "X", "LOCALIZER"], ["ODD"]]),
    "PixelPaddingValue": st.sampled_from([-2000, 63536, 0, 700]),
    "PixelPaddingRangeLimit": st.sampled_from([-1990, 63546, 10]),
    "PixelRepresentation": st.sampled_from([0, 1]),
})  # fmt: skip
layouts = st.sampled_from([(16, 15), (12, 11), (12, 15), (8, 7), (10, 12)])


def filled(values: dict[str, Any]) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def group(looks: tuple[dict[str, Any], dict[str, Any]]) -> Dataset:
    """A functional group; of what is empty there is none, or an item without a value."""
    ds = Dataset()
    ds.add_new(0x00209111, "SQ", [Dataset()])  # frame content, which is not kept
    for keyword, values in zip(("FrameVOILUTSequence", "PixelValueTransformationSequence"), looks):
        if values:
            setattr(ds, keyword, [filled(values)])
    return ds


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(top, voi, rescale, layouts, st.lists(st.tuples(voi, rescale), min_size=3, max_size=3),
       st.sampled_from(["plain", "shared", "per frame"]), st.booleans())  # fmt: skip
def test_a_drawn_file_is_written_alike(
    attributes: dict[str, Any], window: dict[str, Any], slope: dict[str, Any],
    layout: tuple[int, int], looks: list[tuple[dict[str, Any], dict[str, Any]]], groups: str,
    regions: bool,
) -> None:  # fmt: skip
    bits, high = layout
    stored = np.stack([np.roll(ramp(), 700 * k) for k in range(3)]) % 2**bits
    ds = grey(stored << (high + 1 - bits), BitsStored=bits, HighBit=high, BurnedInAnnotation="NO")
    for keyword, value in (attributes | window | slope).items():
        if keyword.startswith("PixelPadding"):
            ds.add_new(keyword, "SS" if value < 0 else "US", value)
        else:
            setattr(ds, keyword, value)
    if groups == "shared":
        ds.SharedFunctionalGroupsSequence = [group(looks[0])]
    elif groups == "per frame":
        ds.PerFrameFunctionalGroupsSequence = [group(look) for look in looks]
    if regions:
        corners = {"RegionLocationMinX0": 3, "RegionLocationMinY0": 5,
                   "RegionLocationMaxX1": 40, "RegionLocationMaxY1": 50}  # fmt: skip
        ds.SequenceOfUltrasoundRegions = [filled(corners)]
    assert alike(ds, copied(ds))


def test_items_without_anything_kept_stay_in_their_place() -> None:
    ds = grey(np.stack([ramp()] * 3))
    look: tuple[dict[str, Any], dict[str, Any]]
    look = ({"WindowCenter": "50", "WindowWidth": "40"}, {})
    ds.PerFrameFunctionalGroupsSequence = [group(({}, {})), group(({}, {})), group(look)]
    items = copied(ds).PerFrameFunctionalGroupsSequence
    assert [len(item) for item in items] == [0, 0, 1]


def test_a_palette_of_few_bits_is_written_alike() -> None:
    ds = grey(ramp() % 16, PhotometricInterpretation="PALETTE COLOR", BitsStored=4, HighBit=3)
    for number, colour in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [16, 0, 16])
        entries = (np.arange(16) * 4096 + number * 1000).astype("<u2")
        setattr(ds, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    copy = copied(ds)
    assert alike(ds, copy)
    assert (copy.BitsStored, copy.PhotometricInterpretation) == (8, "RGB")


def lut() -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "US", (np.arange(4096) ** 2 // 256).tolist())
    return item


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_file_that_needs_a_lut_is_not_written(keyword: str) -> None:
    ds = grey(ramp())
    setattr(ds, keyword, [lut()])
    with pytest.raises(ImagingError, match=f"look different: {keyword} is not kept"):
        copy_of(ds, KEY)


def test_a_group_with_a_lut_is_not_written_though_another_window_is_kept() -> None:
    ds = grey(np.stack([ramp()] * 2), WindowCenter="2000", WindowWidth="4000")
    items = [Dataset(), Dataset()]
    voi_lut = Dataset()
    voi_lut.VOILUTSequence = [lut()]
    items[1].FrameVOILUTSequence = [voi_lut]
    ds.PerFrameFunctionalGroupsSequence = items
    with pytest.raises(ImagingError, match="VOILUTSequence is not kept"):
        copy_of(ds, KEY)


def test_the_command_says_why_a_file_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save(grey(ramp(), VOILUTSequence=[lut()]), tmp_path / "in" / "lut")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "key").write_bytes(b"k" * 40)
    done = command("deidentify", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out/report.csv").open() as report:
        reasons = {row["reason"] for row in csv.DictReader(report)}
    assert reasons == {
        "a cleaned copy would look different: VOILUTSequence is not kept as it is",
        "not an image: neither DICOM, NIfTI, PNG, JPEG nor TIFF",
    }


def test_the_decoder_renders_a_copy_as_its_source(tmp_path: Path) -> None:
    stored = np.where(ramp() % 7 == 0, 63536, ramp())
    ds = grey(stored, PixelRepresentation=1, WindowCenter="2000", WindowWidth="4000")
    ds.add_new("PixelPaddingValue", "US", 63536)
    path = save(ds, tmp_path / "source")
    with Decoder() as decoder:
        (tmp_path / "copy").write_bytes(decoder.clean(path, KEY))
        ours, theirs = (decoder.decode(tmp_path / n, "all").frames for n in ("source", "copy"))
    assert [(f.pixels == g.pixels).all() for f, g in zip(ours, theirs)] == [True]
    assert dcmread(tmp_path / "copy").PixelPaddingValue == -2000
