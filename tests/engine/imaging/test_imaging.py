"""DICOM to safe pixels: rendering, the decoder's child, de-identification, ingest and phantoms."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from engine.errors import TriptychError
from engine.imaging.child import MAX_BAD
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import group_key, quarantine_reason, safe_facts
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader
from engine.imaging.ingest import Rules, frame_of, ingest_file, list_files, split_of_group
from engine.imaging.reader import read_dicom
from engine.imaging.render import render
from engine.imaging.table import Entry
from engine.lineage.chain import file_hash
from engine.records import Image, Refusal
from generators.phantoms import KINDS, draw, to_display
from generators.phantoms.base import GENERATOR
from generators.phantoms.dicom import write_cohort, write_dicom
from tests.pictures import PNG

REAL = Path(__file__).parents[4] / "shared/data/dicom"
KEY = b"a key of the tests"
CANARY = "KANARIE"


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def grey(stored: np.ndarray, **attributes: Any) -> Dataset:
    """A minimal CR image of 16-bit values: (H, W), or (N, H, W) for several frames."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "2.25.1"
    ds.Modality, ds.PatientID, ds.StudyInstanceUID = "CR", "P1", "2.25.2"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.add_new("PixelData", "OW", stored.astype("<u2").tobytes())
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def ramp(side: int = 64) -> np.ndarray:
    return np.arange(side * side).reshape(side, side)


def save(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


def ingest(decoder: Decoder, path: Path, **more: Any) -> tuple[list[Image], list[Refusal]]:
    read = ingest_file(decoder, path.parent, path, Rules(KEY, keep_paths=True, **more))
    PNG.update({picture.id: picture.png for picture in read.pictures})
    return read.images, read.refusals


def pixels_of(image: Image) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(PNG[image.id])))


# Rendering


def test_a_linear_window_maps_its_analytic_range_not_the_images() -> None:
    ds = grey(ramp(), Modality="CT", RescaleIntercept="-1024", RescaleSlope="1",
              WindowCenter="40", WindowWidth="400")  # fmt: skip
    pixels, choices = render(ds)
    hu = ramp() - 1024
    assert pixels[hu <= -160].max() == 0
    assert pixels[hu >= 239].min() == 255
    assert pixels[hu == 39] == 127  # round((39 - 39.5) / 399 + 0.5) * 255
    assert choices["window"] == [40, 400]
    assert choices["window_source"] == "file"
    narrow = grey(np.full((32, 32), 1064), Modality="CT", RescaleIntercept="-1024",
                  RescaleSlope="1", WindowCenter="40", WindowWidth="400")  # fmt: skip
    assert set(render(narrow)[0].ravel()) == {128}  # min-max would have made it black or white


def test_linear_exact_and_sigmoid_follow_their_formulas() -> None:
    window = {"WindowCenter": "2000", "WindowWidth": "1000"}
    exact = render(grey(ramp(), VOILUTFunction="LINEAR_EXACT", **window))[0]
    assert (exact == np.round(np.clip((ramp() - 2000) / 1000 + 0.5, 0, 1) * 255)).all()
    sigmoid, choices = render(grey(ramp(), VOILUTFunction="SIGMOID", **window))
    assert (sigmoid == np.round(255 / (1 + np.exp(-4 * (ramp() - 2000) / 1000)))).all()
    assert choices["voi_function"] == "SIGMOID"


def test_monochrome1_is_inverted_after_the_window() -> None:
    window = {"WindowCenter": "1000", "WindowWidth": "500"}
    plain = render(grey(ramp(), **window))[0]
    inverted, choices = render(grey(ramp(), PhotometricInterpretation="MONOCHROME1", **window))
    assert (np.abs(inverted.astype(int) - (255 - plain.astype(int))) <= 1).all()
    assert choices["inverted"]


def test_presentation_lut_shape_inverse_does_not_invert_twice() -> None:
    one = grey(ramp(), PhotometricInterpretation="MONOCHROME1")
    both = grey(ramp(), PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert (render(one)[0] == render(both)[0]).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_move_the_window(photometric: str) -> None:
    stored = ramp() + 1000
    padded = stored.copy()
    padded[:8] = 60000
    ds = grey(padded, PhotometricInterpretation=photometric, PixelPaddingValue=60000)
    pixels, choices = render(ds)
    assert (pixels[:8] == 0).all()
    assert choices["padding"]
    assert (pixels[8:] == render(grey(stored[8:], PhotometricInterpretation=photometric))[0]).all()


def test_each_frame_has_its_own_window() -> None:
    ds = grey(np.stack([ramp(), ramp()]))
    items = []
    for centre in ("500", "3000"):
        voi, frame = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, "1000"
        frame.FrameVOILUTSequence = [voi]
        items.append(frame)
    ds.PerFrameFunctionalGroupsSequence = items
    rescale, shared = Dataset(), Dataset()
    rescale.RescaleIntercept, rescale.RescaleSlope = "0", "2"
    shared.PixelValueTransformationSequence = [rescale]
    ds.SharedFunctionalGroupsSequence = [shared]
    for frame_index, centre in enumerate((500, 3000)):
        pixels, choices = render(ds, frame_index)
        assert choices["window"] == [centre, 1000]
        expected = np.clip(((ramp() * 2 - (centre - 0.5)) / 999 + 0.5) * 255, 0, 255)
        assert (pixels == np.round(expected)).all()


@pytest.mark.parametrize("width", ["0", "-5", "0.5"])
def test_an_invalid_window_falls_back_and_says_so(width: str) -> None:
    _, choices = render(grey(ramp(), WindowCenter="40", WindowWidth=width))
    assert choices["fallback"] == ["invalid window"]
    assert choices["window_source"].startswith("percentiles")


@pytest.mark.parametrize(
    ("centres", "widths"), [(["40", "300"], ["400"]), (["40"], ["400", "80"]), (["40"] * 3, "400")]
)
def test_a_centre_or_width_without_its_partner_is_said(centres: object, widths: object) -> None:
    _, choices = render(grey(ramp(), WindowCenter=centres, WindowWidth=widths))
    assert choices["window"] == [40, 400]
    assert choices["fallback"] == ["invalid window"]


def test_a_voi_lut_is_scaled_by_the_bits_it_declares() -> None:
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4, 100, 12])
    lut.add_new("LUTData", "US", [0, 1000, 2000, 4095])
    pixels, choices = render(grey(np.tile([0, 100, 101, 102, 103, 999], (32, 1)),
                                  VOILUTSequence=[lut]))  # fmt: skip
    assert list(pixels[0]) == [0, 0, 62, 125, 255, 255]
    assert choices["voi_function"] == "LUT"


def test_a_ct_without_a_window_takes_the_preset_of_its_body_part() -> None:
    ct = {"Modality": "CT", "RescaleIntercept": "-1024", "RescaleSlope": "1"}
    assert render(grey(ramp(), BodyPartExamined="HEAD", **ct))[1]["window"] == [40, 80]
    assert render(grey(ramp(), BodyPartExamined=CANARY, **ct))[1]["window"] == [40, 400]


def test_dose_and_segmentation_are_not_images() -> None:
    for sop_class in ("1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.66.4"):
        with pytest.raises(ImagingError, match="not an image"):
            render(grey(ramp(), SOPClassUID=sop_class))


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    with pytest.raises(ImagingError, match="too large"):
        render(grey(ramp(), Rows=65535, Columns=65535))


# Real files and the decoder


def test_every_real_file_is_rendered_or_refused_with_a_typed_reason(decoder: Decoder) -> None:
    if not REAL.is_dir():
        pytest.skip("the real DICOM files are not here")
    rendered, reasons = 0, set()
    for path in list_files(REAL):
        try:
            frames = decoder.decode(path, "middle", KEY).frames
        except ImagingError as error:
            reasons.add(error.reason)
            continue
        assert all(f.pixels.dtype == np.uint8 and f.pixels.std() > 0 for f in frames), path.name
        rendered += len(frames)
    assert rendered >= 28
    assert reasons <= {Reason.NOT_AN_IMAGE, Reason.UNREADABLE, Reason.DECODING_FAILED}


def test_lossless_encodings_of_one_image_give_the_same_pixels(decoder: Decoder) -> None:
    pairs = [
        ("693_J2KR.dcm", "693_UNCR.dcm"),
        ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm"),
    ]
    if not REAL.is_dir():
        pytest.skip("the real DICOM files are not here")
    for one, other in pairs:
        first, second = (
            decoder.decode(REAL / name, "middle").frames[0].pixels for name in (one, other)
        )
        assert (first == second).all()


def test_frame_rules_pick_frames(decoder: Decoder, tmp_path: Path) -> None:
    path = save(grey(np.stack([ramp() + i for i in range(5)])), tmp_path / "five")
    for rule, expected in (("middle", [2]), ("every:2", [0, 2, 4]), ("all", [0, 1, 2, 3, 4])):
        assert [f.frame for f in decoder.decode(path, rule).frames] == expected
    with pytest.raises(TriptychError, match="every:n"):
        decoder.decode(path, "every:0")


def deflated(plain_size: int, path: Path) -> Path:
    """A deflated DICOM file whose dataset inflates to `plain_size` bytes of one private value."""
    save(grey(ramp()), path)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    meta_end = 132 + 12 + int.from_bytes(whole[140:144], "little")
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
    chunk, bomb = bytes(1 << 20), bytearray()
    for _ in range(plain_size >> 20):
        bomb += deflater.compress(chunk)
    path.write_bytes(whole[:meta_end] + bytes(bomb) + deflater.flush())
    return path


def test_a_deflate_bomb_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    images, refusals = ingest(decoder, deflated(600 << 20, tmp_path / "bomb"))
    assert not images
    assert [r.reason for r in refusals] == ["too large: inflates to more than 512 MiB"]


def test_a_deflated_file_of_fair_size_is_read(decoder: Decoder, tmp_path: Path) -> None:
    ds = grey(ramp())
    plain = decoder.decode(save(ds, tmp_path / "plain"), "middle").frames[0].pixels
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert (
        decoder.decode(save(ds, tmp_path / "deflated"), "middle").frames[0].pixels == plain
    ).all()


def test_a_decoder_killed_in_mid_file_refuses_it_and_reads_the_next(tmp_path: Path) -> None:
    good = save(grey(ramp()), tmp_path / "good")
    with Decoder() as decoder:
        decoder.decode(good, "middle")
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)  # so that the child hangs in mid-file
        timer = threading.Timer(0.3, os.kill, (decoder.pid, signal.SIGKILL))
        timer.start()
        images, refusals = ingest(decoder, good)
        timer.join()
        assert (images, [r.reason for r in refusals]) == ([], ["decoder crashed"])
        assert ingest(decoder, good)[0]


def test_a_file_that_takes_too_long_is_a_timeout(tmp_path: Path) -> None:
    good = save(grey(ramp()), tmp_path / "good")
    with Decoder(timeout_s=2) as decoder:
        decoder.decode(good, "middle")
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)
        with pytest.raises(ImagingError) as caught:
            decoder.decode(good, "middle")
    assert caught.value.reason is Reason.TIMEOUT


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = save(grey(np.zeros((7000, 7000), np.uint16)), tmp_path / "large")
    with Decoder(memory=450 << 20) as decoder, pytest.raises(ImagingError) as caught:
        decoder.decode(path, "middle")
    assert caught.value.reason is Reason.OUT_OF_MEMORY


def test_a_corrupt_file_is_a_refusal(decoder: Decoder, tmp_path: Path) -> None:
    good = save(grey(ramp()), tmp_path / "good").read_bytes()
    contents = {"cut": good[:-4000], "noise": os.urandom(5000), "empty": b"",
                "header": good[:200], "png": b"\x89PNG\r\n\x1a\n" + os.urandom(99)}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        images, refusals = ingest(decoder, tmp_path / name)
        assert not images, name
        assert [r.frame for r in refusals] == [-1], name


def compressed(frames: int, bad: set[int]) -> Dataset:
    """An RLE object of which some frames are cut off."""
    ds = grey(ramp())
    ds.compress(RLELossless)
    (whole,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.NumberOfFrames = frames
    ds.PixelData = encapsulate([whole[:80] if i in bad else whole for i in range(frames)])
    return ds


def test_a_bad_frame_is_refused_and_the_others_go_through(decoder: Decoder, tmp_path: Path) -> None:
    path = save(compressed(5, {0, 3}), tmp_path / "five")
    images, refusals = ingest(decoder, path, frames="all")
    assert [frame_of(i) for i in images] == [1, 2, 4]
    assert [(r.frame, r.status) for r in refusals] == [(0, "refused"), (3, "refused")]
    assert {r.reason for r in refusals} == {"decoding failed"}
    images, refusals = ingest(decoder, path, frames="every:2")
    assert ([frame_of(i) for i in images], [r.frame for r in refusals]) == ([2, 4], [0])


def test_a_file_cut_off_gives_the_frames_that_are_whole(decoder: Decoder, tmp_path: Path) -> None:
    ds = grey(np.stack([ramp() + i for i in range(4)]))
    ds.PixelData = ds.PixelData[:20_000]  # two frames and a half
    images, refusals = ingest(decoder, save(ds, tmp_path / "cut"), frames="all")
    assert [frame_of(i) for i in images] == [0, 1]
    cut = "unreadable file: fewer pixels than the header says"
    assert [(r.frame, r.reason) for r in refusals] == [(2, cut), (3, cut)]


@pytest.mark.parametrize("frames", [3, MAX_BAD + 3])
def test_a_file_without_a_good_frame_or_with_too_many_bad_ones_is_one_refusal(
    frames: int, decoder: Decoder, tmp_path: Path
) -> None:
    bad = set(range(3)) if frames == 3 else set(range(1, frames))
    path = save(compressed(frames, bad), tmp_path / "bad")
    images, refusals = ingest(decoder, path, frames="all")
    assert images == []
    assert [(r.frame, r.reason) for r in refusals] == [(-1, "decoding failed")]


def with_nan(kind: str, path: Path) -> Path:
    """A picture of float values with a corner that is not finite."""
    values = ramp().astype(np.float32)
    values[:8, :8], values[0, 0] = np.nan, np.inf
    if kind == "TIFF":
        PIL.Image.fromarray(values).save(path, "TIFF")
    elif kind == "NIfTI":
        nibabel = pytest.importorskip("nibabel")
        volume = values[::-1, ::-1].T[..., None]  # as a slice is seen
        path.write_bytes(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes())
    else:
        ds = grey(ramp(), BitsAllocated=32)
        for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(ds, keyword)
        ds.FloatPixelData = values.astype("<f4").tobytes()
        save(ds, path)
    return path


@pytest.mark.parametrize("kind", ["DICOM", "TIFF", "NIfTI"])
def test_values_that_are_not_finite_are_black_flagged_and_used_where_asked_for(
    kind: str, decoder: Decoder, tmp_path: Path
) -> None:
    path = with_nan(kind, tmp_path / "nan")
    images, refusals = ingest(decoder, path)
    assert images == []
    assert [(r.frame, r.status, r.reason) for r in refusals] == [
        (0, "flagged", "degenerate: values that are not finite")
    ]
    (image,) = ingest(decoder, path, include=frozenset({"nan"}), public=True)[0]
    assert json.loads(image.rendering)["not_finite"] == 64
    shown, finite = pixels_of(image), np.ones((64, 64), bool)
    finite[:8, :8] = False
    assert not shown[~finite].any()
    low, high = np.percentile(ramp()[finite], (0.5, 99.5))  # the corner does not move the window
    expected = np.clip((ramp() - low) / (high - low), 0, 1) * 255
    assert np.abs(shown - expected)[finite].max() <= 0.5 + 1e-6


def test_a_picture_without_a_finite_value_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((64, 64), np.nan, np.float32)).save(tmp_path / "x", "TIFF")
    _, refusals = ingest(decoder, tmp_path / "x", include=frozenset({"nan"}))
    assert [(r.status, r.reason) for r in refusals] == [("refused", "values that are not finite")]


# De-identification


def with_canaries() -> Dataset:
    """An image with a canary in names, ids, dates, code strings, sequences and private tags."""
    ds = grey(ramp(), PatientName=f"{CANARY}^1", PatientID=f"{CANARY}2", BodyPartExamined="KNEE",
              InstitutionName=f"{CANARY}3", ImageComments=f"{CANARY}4",
              StudyDescription=f"{CANARY}5", ViewPosition=f"{CANARY}6")  # fmt: skip
    region, nested = Dataset(), Dataset()
    nested.PatientName = f"{CANARY}^7"
    region.CodeValue, region.CodeMeaning = f"{CANARY}8", f"{CANARY}9"
    region.OtherPatientIDsSequence = [nested]
    ds.AnatomicRegionSequence = [region]
    ds.private_block(0x0011, f"{CANARY}10", create=True).add_new(1, "LO", f"{CANARY}11")
    ds.preamble = CANARY.encode().ljust(128, b"\0")
    return ds


def test_nothing_of_the_patient_reaches_the_row(decoder: Decoder, tmp_path: Path) -> None:
    assert CANARY not in json.dumps(safe_facts(with_canaries()))
    images, refusals = ingest(decoder, save(with_canaries(), tmp_path / "file"))
    row = images[0].to_dict()
    assert CANARY not in str(row)
    assert CANARY.encode() not in PNG[row["id"]]
    assert (row["modality"], row["anatomy"]) == ("X-ray", "extremity")
    assert not refusals


def test_nothing_of_the_patient_reaches_a_refusal(decoder: Decoder, tmp_path: Path) -> None:
    ds = with_canaries()
    ds.Modality, ds.PhotometricInterpretation = CANARY, CANARY
    images, refusals = ingest(decoder, save(ds, tmp_path / "file"))
    assert not images
    assert CANARY not in str(refusals)


def test_text_of_a_picture_file_does_not_reach_the_row(decoder: Decoder, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x010E] = CANARY
    picture = PIL.Image.fromarray((ramp() % 256).astype(np.uint8))
    picture.save(tmp_path / "one.jpg", exif=exif, comment=CANARY)
    images, _ = ingest(decoder, tmp_path / "one.jpg", public=True)
    assert CANARY not in str(images[0].to_dict())


def test_groups_are_keyed_by_patient_and_say_nothing(decoder: Decoder, tmp_path: Path) -> None:
    one = grey(ramp(), PatientID="P7", StudyInstanceUID="2.25.5")
    two = grey(ramp() + 1, PatientID="P7 ", StudyInstanceUID="2.25.6")
    assert group_key(one, KEY) == group_key(two, KEY) == group_key("patient:P7", KEY)
    assert group_key(one, KEY) != group_key(one, b"another key")
    assert len(group_key(one, KEY)) == 32
    study = grey(ramp(), PatientID="", StudyInstanceUID="2.25.5")
    assert group_key(study, KEY) == group_key("study:2.25.5", KEY)
    for written in (["A", "B"], "A\\B "):  # an id may not have a backslash, and some do
        named = grey(ramp(), PatientID=written)
        assert group_key(named, KEY) == group_key("patient:A\\B", KEY)
    assert ingest(decoder, save(one, tmp_path / "one"))[0][0].patient == group_key(two, KEY)


def test_pictures_that_may_carry_text_are_quarantined(decoder: Decoder, tmp_path: Path) -> None:
    assert quarantine_reason(grey(ramp())) is None
    for modality in ("US", "SC", "ES", "XA", "OT"):
        assert quarantine_reason(grey(ramp(), Modality=modality)) is not None
        assert quarantine_reason(grey(ramp(), Modality=modality, BurnedInAnnotation="NO")) is None
    capture = grey(ramp(), Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert quarantine_reason(capture) is not None
    ds = grey(ramp(), BurnedInAnnotation="YES")
    _, refusals = ingest(decoder, save(ds, tmp_path / "file"))
    assert [r.reason for r in refusals] == ["quarantined: burned-in annotation"]


def test_a_face_or_a_label_that_the_header_speaks_of_is_quarantined() -> None:
    clear = {"BurnedInAnnotation": "NO"}
    for said in ("YES", "Y", "yes ", ["NO", "YES"]):
        for keyword in ("RecognizableVisualFeatures", "SpecimenLabelInImage"):
            assert quarantine_reason(grey(ramp(), **clear, **{keyword: said})) is not None
    for said in ("NO", "no ", ""):
        ds = grey(ramp(), **clear, RecognizableVisualFeatures=said, SpecimenLabelInImage=said)
        assert quarantine_reason(ds) is None
    label = grey(ramp(), **clear, ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"])
    assert quarantine_reason(label) == "a slide's label"
    photograph = grey(ramp(), **clear, Modality="XC")
    assert quarantine_reason(photograph) == "recognisable features not ruled out"
    photograph.RecognizableVisualFeatures = "NO"
    assert quarantine_reason(photograph) is None
    assert quarantine_reason(grey(ramp(), BurnedInAnnotation="Y")) == "burned-in annotation"


CAPTURE, PHOTO = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.77.1.4"
RADIOGRAPH = "1.2.840.10008.5.1.4.1.1.1"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": said}, "text not ruled out")
        for said in (["US", "CT"], ["CT", "US"], "us ", "USS", "XYZ", "", ["CT", "XYZ"], "SR")
    ]
    + [({"Modality": said}, None) for said in ("ct ", ["CT", "MR"], ["CT", ""])]
    + [
        ({"SOPClassUID": [RADIOGRAPH, CAPTURE]}, "text not ruled out"),
        ({"SOPClassUID": f"{CAPTURE} "}, "text not ruled out"),
        ({"SOPClassUID": [CAPTURE, PHOTO]}, "recognisable features not ruled out"),
        ({"Modality": ["CT", "xc"]}, "recognisable features not ruled out"),
        ({"BurnedInAnnotation": ["NO", "YES"]}, "burned-in annotation"),
        ({"BurnedInAnnotation": "no ", "Modality": "USS"}, None),
        ({"RecognizableVisualFeatures": ["no", "y"]}, "recognisable features"),
        ({"SpecimenLabelInImage": " yes"}, "a slide's label"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "overview "]}, "a slide's label"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_each_of_several_values_counts_and_a_code_that_is_unknown_rules_nothing_out(
    attributes: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    ds = grey(ramp(), **attributes)
    stored = FrameHeader(read_dicom(save(ds, tmp_path / "x").read_bytes()))
    assert quarantine_reason(stored) == quarantine_reason(ds) == reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "NIfTI"])
def test_a_picture_without_a_header_waits_unless_it_is_public(
    kind: str, decoder: Decoder, tmp_path: Path
) -> None:
    pixels = (ramp() // 17).astype(np.uint8)
    if kind == "NIfTI":
        nibabel = pytest.importorskip("nibabel")
        (tmp_path / "x").write_bytes(nibabel.Nifti1Image(pixels[..., None], np.eye(4)).to_bytes())
    else:
        PIL.Image.fromarray(pixels).save(tmp_path / "x", kind)
    images, (refusal,) = ingest(decoder, tmp_path / "x")
    assert (images, refusal.status) == ([], "quarantined")
    assert "no header" in refusal.reason
    assert len(ingest(decoder, tmp_path / "x", public=True)[0]) == 1


# Ingest


def test_labels_say_what_a_picture_is_and_whose(decoder: Decoder, tmp_path: Path) -> None:
    PIL.Image.fromarray((ramp() % 251).astype(np.uint8)).save(tmp_path / "a.jpg")
    table = {"a.jpg": Entry(modality="MR", anatomy="head", patient="P7")}
    image = ingest(decoder, tmp_path / "a.jpg", table=table, public=True)[0][0]
    assert (image.modality, image.anatomy) == ("MR", "head")
    assert image.patient == group_key("patient:P7", KEY)
    plain = ingest(decoder, tmp_path / "a.jpg", public=True)[0][0]
    assert (plain.modality, plain.anatomy, plain.id) == ("other", "unknown", image.id)
    assert plain.patient == group_key("file:a.jpg", KEY)


def test_degenerate_images_are_refused(decoder: Decoder, tmp_path: Path) -> None:
    for name, pixels in {
        "flat": np.full((64, 64), 7),
        "tiny": ramp(8),
        "strip": np.eye(16, 400),
    }.items():
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
        images, refusals = ingest(decoder, tmp_path / f"{name}.png")
        assert not images
        assert refusals[0].reason.startswith("degenerate")


def test_listing_finds_every_file_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "deep/.hidden").mkdir(parents=True)
    names = (".DS_Store", "DICOMDIR", "IM0001", "deep/.hidden/y", "deep/x.dcm", "labels.json")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    found = [path.relative_to(tmp_path).as_posix() for path in list_files(tmp_path)]
    assert found == sorted((*names, "link", "nowhere", "pipe"))


def test_a_group_is_in_one_split_and_shares_come_out_about_right() -> None:
    fractions = {"train": 0.8, "val": 0.1, "test": 0.1}
    splits = [split_of_group(f"group {i}", fractions) for i in range(2000)]
    assert splits == [split_of_group(f"group {i}", fractions) for i in range(2000)]
    assert abs(splits.count("train") / 2000 - 0.8) < 0.04
    assert split_of_group("x", {"train": 0.0, "test": 1.0}) == "test"


# Phantoms


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_phantom_comes_back_as_it_is_displayed(
    kind: str, decoder: Decoder, tmp_path: Path
) -> None:
    for seed in range(3):
        phantom = draw(kind, seed, 64)
        path = tmp_path / f"{seed}.dcm"
        write_dicom(phantom, path, "0001", 0)
        drawn = {path.name: file_hash(path)}
        image = ingest(decoder, path, drawn=drawn, public=True)[0][0]
        assert (pixels_of(image) == to_display(phantom)).all()
        truth = phantom.truth
        assert (image.modality, image.anatomy) == (truth.modality, truth.anatomy)
        assert image.is_synthetic
        assert image.truth is not None
        assert json.loads(image.truth) == phantom.truth.to_dict()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_phantom_file_says_that_it_is_one(kind: str, tmp_path: Path) -> None:
    phantom = draw(kind, 5, 64)
    for name in ("one", "two"):
        write_dicom(phantom, tmp_path / name, "0001", 0)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    ds = dcmread(tmp_path / "one")
    assert ds.SyntheticData == "YES"
    assert ds.BurnedInAnnotation == "NO"
    assert str(ds.PatientName) == "PHANTOM^0001"
    assert ds.Manufacturer == GENERATOR
    purpose = ds.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")


@pytest.mark.parametrize("drawn", [{}, {"real.dcm": "0" * 64}])
def test_a_header_that_says_synthetic_makes_no_phantom(
    decoder: Decoder, tmp_path: Path, drawn: dict[str, str]
) -> None:
    said = {"SyntheticData": "YES", "Manufacturer": GENERATOR}
    path = save(grey(ramp(), **said), tmp_path / "real.dcm")
    (tmp_path / "real.dcm.truth.json").write_text('{"finding": "none"}')
    image = ingest(decoder, path, drawn=drawn)[0][0]
    assert (image.truth, image.is_synthetic) == (None, False)


def test_a_cohort_is_the_same_when_it_is_finished_later(tmp_path: Path) -> None:
    def cohort(name: str, counts: dict[str, int]) -> list[bytes]:
        return [p.read_bytes() for p in write_cohort(tmp_path / name, counts, 64, 1, 0.3)]

    cohort("grown", {"ultrasound": 2})
    assert cohort("grown", {"ultrasound": 6}) == cohort("whole", {"ultrasound": 6})
    files = sorted((tmp_path / "whole").rglob("*.dcm"))
    assert [f.name for f in files] == [f"{i:04d}.dcm" for i in range(6)]
    assert len({dcmread(f).PatientID for f in files}) == 5
