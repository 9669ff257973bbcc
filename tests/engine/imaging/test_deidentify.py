"""What may leave a file: the canary test, cleaned files, the key, free text."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from pydicom import Dataset, config, dcmread
from pydicom.datadict import DicomDictionary, dictionary_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from engine.hub.export import export
from engine.imaging.clean import clean
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import WORDS, hidden_path, hidden_uid, safe_facts
from engine.imaging.errors import ImagingError
from engine.imaging.render import render
from engine.imaging.reports import MASK, clean_text, harmless_label
from engine.lineage.opening import writing
from engine.records import ROW_TYPES, Image, Task, Triplet, content_id
from engine.workspace import Workspace
from tests.commands import KEY, command, ingested, refused, report_of
from tests.engine.imaging.datasets import grey, ramp, save

LETTERS = "QXKANARIE"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"

# The canary test. Every attribute of the data dictionary (PS3.6), and so every one of PS3.15's
# table E.1-1, carries a string or number of its own.

# What decides how the picture is decoded and shown: these keep their values at the top.
NEEDED = {
    "SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "NumberOfFrames",
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelPaddingValue", "PixelPaddingRangeLimit", "WindowCenter",
    "WindowWidth", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence",
    "PixelDataProviderURL", "VOILUTFunction", "PresentationLUTShape", "PixelPresentation",
    "SequenceOfUltrasoundRegions",
}  # fmt: skip
NUMERIC = {"UL", "SL", "FL", "FD", "UV", "SV", "DS", "IS"}
TEXT = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
RAW = {"OB", "OW", "OD", "OF", "OL", "OV", "UN", "OB or OW"}


class Canaries:
    """Gives every place its own string `QXKANARIE…` or, where only numbers fit, 77…."""

    def __init__(self) -> None:
        self.planted = 0

    def text(self) -> str:
        self.planted += 1
        return f"{LETTERS}{self.planted:05d}"

    def add(self, ds: Dataset, tag: int, vr: str) -> None:
        """Put a canary into one attribute; sequences get an item with a name."""
        if vr == "SQ":
            item = Dataset()
            item.add_new(0x00100010, "PN", self.text())
            ds.add_new(tag, "SQ", [item])
        elif vr in NUMERIC:
            self.planted += 1
            number = 77_00_000 + self.planted
            ds.add_new(tag, vr, str(number) if vr in ("DS", "IS") else number)
        elif vr in RAW:
            data = self.text().encode()
            ds.add_new(tag, "OB" if vr == "OB or OW" else vr, data.ljust(-(-len(data) // 8) * 8))
        elif vr in TEXT:
            ds.add_new(tag, vr, self.text()[:16])

    def fill(self, ds: Dataset) -> Dataset:
        """Every attribute of the dictionary that decides nothing of the picture."""
        for tag, (vr, *_rest) in DicomDictionary.items():
            group = tag >> 16
            if group in (0x0000, 0x0002, 0xFFFE) or dictionary_keyword(tag) in NEEDED:
                continue
            if tag not in ds:
                self.add(ds, tag, vr)
        for group, element, vr in ((0x6000, 0x0022, "LO"), (0x6002, 0x3000, "OB"),
                                   (0x5000, 0x3000, "OB"), (0x5000, 0x0022, "LO")):  # fmt: skip
            self.add(ds, group << 16 | element, vr)
        private = ds.private_block(0x0011, self.text(), create=True)
        private.add_new(1, "LO", self.text())
        private.add_new(2, "OB", self.text().encode() + b" ")
        return ds


@contextmanager
def anything_goes() -> Iterator[None]:
    """Let pydicom hold values that their VR does not allow, as scanners write them."""
    with pytest.MonkeyPatch.context() as patch:
        for mode in ("_reading_validation_mode", "_writing_validation_mode"):
            patch.setattr(config.settings, mode, config.IGNORE)
        yield


def study(canaries: Canaries, path: Path, nested: bool = True, **attributes: Any) -> Path:
    """A picture that carries a canary wherever DICOM has room for one."""
    ds = grey(ramp(), WindowCenter="2000", WindowWidth="4000")
    for keyword in attributes:
        if keyword in ds:
            delattr(ds, keyword)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "PatientID"):
        delattr(ds, keyword)
    kept = Dataset()
    kept.CodeValue = "51185008"
    group, anatomy = Dataset(), Dataset()
    if nested:
        ds.AnatomicRegionSequence = anatomy.AnatomicRegionSequence = [canaries.fill(kept)]
        group.FrameAnatomySequence = [canaries.fill(anatomy)]
        ds.SharedFunctionalGroupsSequence = [group]
    canaries.fill(ds)
    ds.PixelData += canaries.text().encode() + b" "  # behind the last pixel
    ds.preamble = canaries.text().encode().ljust(128, b"\0")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = canaries.text()
    meta.ImplementationClassUID = canaries.text()
    meta.ImplementationVersionName = canaries.text()
    for tag in (0x00020016, 0x00020017, 0x00020018):
        meta.add_new(tag, "AE", canaries.text())
    meta.PrivateInformationCreatorUID = canaries.text()
    meta.PrivateInformation = canaries.text().encode() + b" "
    ds.file_meta = meta
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def canary_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    """A workspace made from canary files by the real command, all it printed, how many canaries."""
    root, canaries = tmp_path_factory.mktemp("canaries"), Canaries()
    folder = root / "studies" / f"{LETTERS}^folder"
    folder.mkdir(parents=True)
    with anything_goes():
        clear = ("BurnedInAnnotation", "RecognizableVisualFeatures", "SpecimenLabelInImage")
        study(canaries, folder / f"{LETTERS} used", **dict.fromkeys(clear, "NO"))
        study(canaries, folder / "waits", nested=False, SOPClassUID=ULTRASOUND, Rows=63)
        study(canaries, folder / "no picture", False, PhotometricInterpretation=canaries.text())
    exif = PIL.Image.Exif()
    exif[0x010E] = canaries.text()
    picture = PIL.Image.fromarray((ramp(80) % 211).astype(np.uint8))
    picture.save(folder / "one.jpg", exif=exif, comment=canaries.text().encode())
    (root / "studies" / "labels.csv").write_text(
        "path,patient,report,finding,site\n"
        f"{folder.name}/one.jpg,{LETTERS}7,No effusion is seen by {LETTERS} in the left lung.,"
        f"{LETTERS}8,{LETTERS}9\n"
    )
    said = ingested(root / "studies", root / "run", "source.labels=[finding]", "expert.kind=none")
    done = command("ingest", "--review", "-w", root / "run")
    said += done.stdout + done.stderr
    done = command("ingest", "-w", root / "run", "--release", "all", "--by", "R1")
    said += done.stdout + done.stderr
    return root / "run", said, canaries.planted


def everything(workspace: Path) -> Iterator[tuple[str, str]]:
    """Every row, ledger table, report, page and export of a workspace, as text."""
    place = Workspace.existing(workspace)
    for row_type in ROW_TYPES:
        for row in place.read(row_type):
            values = row.to_dict()
            png = values.pop("png", b"")
            yield f"{row_type.table} row", str(values)
            if png:
                opened = PIL.Image.open(io.BytesIO(png))
                yield "pixels", str(opened.info) + opened.tobytes().decode("latin-1")
                yield "PNG bytes", png.decode("latin-1")
    with duckdb.connect(str(workspace / "ledger.duckdb"), read_only=True) as db:
        for (table,) in db.execute("SHOW TABLES").fetchall():
            yield f"ledger {table}", str(db.execute(f'SELECT * FROM "{table}"').fetchall())
    for path in sorted(p for p in workspace.rglob("*") if p.is_file()):
        yield str(path.relative_to(workspace)), path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            yield f"{path.name}, read", str(pq.read_table(path).to_pylist())


def survivors(text: str) -> list[str]:
    found = re.findall(LETTERS, text, re.IGNORECASE)
    return found + re.findall(r"(?<![0-9a-f.])77\d{5}(?![0-9a-f])", text)


def test_no_canary_survives_ingest_review_and_export(canary_run: tuple[Path, str, int]) -> None:
    workspace, said, planted = canary_run
    assert planted > 15_000
    images = Workspace.existing(workspace).read(Image)
    statuses = {row["status"] for row in report_of(workspace)}
    assert statuses == {"used", "released", "refused", "skipped"}
    assert len(images) == 3
    assert any(i.report == f"No effusion is seen by {MASK} in the left lung." for i in images)
    task = Task.make("X-ray", "disease", "easy", "open", "direct")
    rows = [
        Triplet(
            id=content_id(i.id), image_id=i.id, generator_id="expert", task_id=task.id,
            prompt_hash="", seed=0, sample=0, round=0, question="What is it?", options=(),
            answer="a ramp", rationale="", raw="", logprob=0.0,
        )
        for i in images
    ]  # fmt: skip
    made_by = Workspace.existing(workspace).config
    with writing(workspace, "images", made_by) as place:
        stage = place.begin("seed", 0, "fingerprint")
        stage.write(Triplet, rows)
        stage.write(Task, [task])
        place.commit(stage)
        export(place, workspace / "dataset", "images")
    assert (workspace / "dataset" / "README.md").is_file()
    left = {where: found for where, text in everything(workspace) if (found := survivors(text))}
    assert left == {}
    assert survivors(said) == []


def test_the_search_for_canaries_can_fail(canary_run: tuple[Path, str, int]) -> None:
    source = json.loads((canary_run[0] / "workspace.json").read_text())["config"]["source"]["path"]
    texts = [
        path.read_bytes().decode("latin-1") for path in Path(source).rglob("*") if path.is_file()
    ]
    assert sum(len(set(survivors(text))) for text in texts) > 0
    assert all(survivors(text) for text in texts)


def test_kept_text_is_in_a_vocabulary(canary_run: tuple[Path, str, int]) -> None:
    def words(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for keyword, value in facts.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    yield from words(one)
                elif isinstance(one, str):
                    yield keyword, one

    kept = [
        pair
        for image in Workspace.existing(canary_run[0]).read(Image)
        for pair in words(json.loads(image.rendering)["facts"])
    ]
    assert ("CodeValue", "51185008") in kept
    assert all(word in WORDS[keyword] for keyword, word in kept)


def test_the_key_is_in_no_file_of_the_workspace(canary_run: tuple[Path, str, int]) -> None:
    assert [where for where, text in everything(canary_run[0]) if KEY in text] == []
    assert KEY not in canary_run[1]


# De-identification


def test_a_number_that_may_be_an_id_is_not_kept() -> None:
    ds = Dataset()
    ds.RepetitionTime, ds.EchoTime = "4711023", "12.34567891"
    assert safe_facts(ds) == {"EchoTime": [12.3457]}


def test_a_cleaned_file_holds_the_list_and_nothing_else() -> None:
    canaries, stored = Canaries(), ramp()
    ds = grey(stored, Modality="MR", RescaleSlope="2", RescaleIntercept="-3", StudyDate="20240102")
    with anything_goes():
        canaries.fill(ds)
    ds.PatientID, ds.StudyInstanceUID = f"{LETTERS}1", "2.25.77"
    out = io.BytesIO()
    cleaned(ds).save_as(out, enforce_file_format=True)
    assert survivors(out.getvalue().decode("latin-1")) == []
    back = dcmread(io.BytesIO(out.getvalue()))
    assert (back.pixel_array == stored).all()
    assert (back.Modality, back.RescaleSlope, back.StudyDate) == ("MR", 2, "")
    assert back.PatientIdentityRemoved == "YES"
    assert back.LongitudinalTemporalInformationModified == "REMOVED"
    assert "DeidentificationMethodCodeSequence" not in back  # no profile of PS3.15 is claimed
    assert all(len(line) <= 64 for line in back.DeidentificationMethod)
    assert back.StudyInstanceUID == hidden_uid("2.25.77", KEY.encode())
    assert back.preamble == bytes(128)


def cleaned(ds: Dataset) -> Dataset:
    """A dataset as others read it after it was cleaned and written."""
    out = io.BytesIO()
    clean(ds, KEY.encode()).save_as(out, enforce_file_format=True)
    return dcmread(io.BytesIO(out.getvalue()))


def test_a_cleaned_files_pixels_are_decoded_as_ingest_decodes_them() -> None:
    stored = np.tile([1, 2, 300, 4000], (2, 4, 1))
    ds = grey(stored << 4 | 5, BitsStored=12, HighBit=15, WindowCenter="2048", WindowWidth="4096")
    back = cleaned(ds)
    assert (back.pixel_array == stored).all()
    assert (back.BitsStored, back.HighBit) == (12, 11)
    assert all((render(ds, frame)[0] == render(back, frame)[0]).all() for frame in (0, 1))


def test_a_body_part_is_kept_in_whatever_case_it_was_written() -> None:
    ds = grey(ramp(), Modality="ct ")
    with anything_goes():
        ds.BodyPartExamined = " Chest"
        assert safe_facts(ds)["BodyPartExamined"] == "CHEST"
        assert (cleaned(ds).BodyPartExamined, cleaned(ds).Modality) == ("CHEST", "CT")


def test_cleaned_files_of_one_study_stay_one_study(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        ds = grey(ramp() + number, SOPInstanceUID=f"2.25.{number + 5}")
        save(ds, tmp_path / "in" / f"{LETTERS}{number}")
    save(grey(ramp(), BurnedInAnnotation="YES"), tmp_path / "in" / "burned")
    done = command("deidentify", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    files = [dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert len(files) == 2
    assert len({f.StudyInstanceUID for f in files}) == len({f.PatientID for f in files}) == 1
    assert len({f.SOPInstanceUID for f in files}) == 2
    assert LETTERS not in (tmp_path / "out" / "report.csv").read_text()
    again = command("deidentify", tmp_path / "in", tmp_path / "out")
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_a_burned_in_file_is_not_cleaned(tmp_path: Path) -> None:
    path = save(grey(ramp(), BurnedInAnnotation="YES"), tmp_path / "one")
    with Decoder() as decoder, pytest.raises(ImagingError, match="burned-in"):
        decoder.clean(path, KEY.encode())


def test_uids_and_paths_are_the_same_for_one_key_and_say_nothing() -> None:
    one, other = b"k" * 16, b"l" * 16
    assert hidden_uid("1.2.3", one) == hidden_uid("1.2.3 ", one) != hidden_uid("1.2.3", other)
    assert re.fullmatch(r"2\.25\.\d{1,39}", hidden_uid("1.2.3", one))
    assert hidden_path("a/b", one).split("/")[1] == hidden_path("c/b", one).split("/")[1]
    assert hidden_path("a/b", one) != hidden_path("a/b", other)


def test_a_file_name_that_is_no_unicode_is_ingested_and_written_so_that_it_can_be_read(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    picture = PIL.Image.fromarray((ramp(80) % 211).astype(np.uint8))
    picture.save(folder / os.fsdecode(b"scan_M\xfcller.png"))
    for name, setting in (("hidden", "source.paths=hash"), ("kept", "source.paths=keep")):
        ingested(folder, tmp_path / name, setting)
        (row,) = report_of(tmp_path / name)
        found = (row["status"], row["path"] == "scan_M\\udcfcller.png")
        assert found == ("quarantined", name == "kept")


# The key


def test_real_images_without_a_key_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    save(grey(ramp()), folder / "one")
    assert "TRIPTYCH_KEY" in refused(folder, tmp_path / "run", key=None)
    assert "fewer than 16" in refused(folder, tmp_path / "run", key="short")
    inside = tmp_path / "run" / "my.key"
    inside.parent.mkdir()  # a refusal leaves no workspace behind
    inside.write_text(KEY)
    message = refused(folder, tmp_path / "run", f"source.key_file={inside}", key=None)
    assert "lies in the workspace" in message
    ingested(folder, tmp_path / "public", "source.public=true", key=None)


# Free text

NAMES = [
    "Garcia", "Nguyen", "O'Brien", "van der Berg", "Kowalski", "Brown", "White", "Bell", "Rose",
    "Hope", "May", "Young", "Müller", "Ng", "Smith-Jones", "D'Angelo", "Patel", "Long",
]  # fmt: skip
SENTENCES = [
    "The patient {} has a small pleural effusion on the left side and no pneumothorax is seen.",
    "Compared with the study of {} there is a new nodule in the right upper lobe.",
    "No acute findings in the chest. {} was seen for cough and fever in this department today.",
]  # fmt: skip
IDENTIFIERS = [
    "04/05/1961", "1961-04-05", "5 April 1961", "April 5", "12.3.20", "MRN 4711023", "A-47110",
    "555-1234", "555 1234 567", "jane.doe@mail.org", "14:35", "2019", "10.0.0.7",
    "NHS 485 777 3456",
]  # fmt: skip


@pytest.mark.parametrize("secret", NAMES + IDENTIFIERS)
@pytest.mark.parametrize("sentence", SENTENCES)
def test_names_dates_and_numbers_do_not_stay_in_a_report(sentence: str, secret: str) -> None:
    cleaned = clean_text(sentence.format(secret))
    whole = sentence.format("")
    for part in re.findall(r"\w+", secret):
        if cleaned.text is not None and part not in whole:
            assert not re.search(rf"\b{re.escape(part)}\b", cleaned.text), cleaned.text


def test_an_ordinary_report_stays_as_it_is() -> None:
    text = (
        "Mild cardiomegaly. No focal consolidation, pleural effusion or pneumothorax. There is a "
        "12 mm nodule in the right upper lobe, and a 3 x 4 cm mass in the left kidney."
    )
    assert clean_text(text).text == text


def test_a_text_in_capitals_or_mostly_unknown_is_refused() -> None:
    assert clean_text("NO ACUTE DISEASE. MR BROWN").text is None
    assert clean_text("Call Jane on 555 1234 567 or jane.doe@x.org").text is None
    assert clean_text("  ").text is None


def test_labels_are_short_numbers_or_known_words() -> None:
    assert all(map(harmless_label, ["0", "1.5", "-3", "pneumonia", "No Finding", "left lung"]))
    assert not any(
        map(harmless_label, ["Anna", "4711023", "1961-04-05", "Brown", "12/3", "a" * 40])
    )
