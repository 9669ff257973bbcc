"""Files are found, labelled, split by group, and phantoms come back as they were drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydicom import dcmread

from engine.imaging.decode import Decoder
from engine.imaging.deidentify import group_key
from engine.imaging.groups import split_of_group
from engine.imaging.ingest import list_files
from engine.imaging.table import Entry
from engine.lineage.chain import file_hash
from generators.phantoms import KINDS, draw, to_display
from generators.phantoms.base import GENERATOR
from generators.phantoms.dicom import write_cohort, write_dicom
from tests.engine.imaging.datasets import KEY, grey, ingest, pixels_of, ramp, save


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
