"""Nothing of a patient leaves with a picture: rows, refusals, groups, quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydicom import Dataset

from engine.imaging.decode import Decoder
from engine.imaging.deidentify import group_key, quarantine_reason, safe_facts
from engine.imaging.header import FrameHeader
from engine.imaging.reader import read_dicom
from tests.engine.imaging.datasets import CANARY, KEY, grey, ingest, ramp, save
from tests.pictures import PNG


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
