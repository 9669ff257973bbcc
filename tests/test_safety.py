"""Safe ingest: what may leave a file, what a person has to look at, and who shares a split."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pyarrow.parquet as pq
import pytest
from pydicom import Dataset, config, dcmread
from pydicom.datadict import DicomDictionary, dictionary_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from engine.config import build
from engine.errors import TriptychError
from engine.hub.export import export
from engine.imaging.clean import clean
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import WORDS, hidden_path, hidden_uid, safe_facts
from engine.imaging.duplicates import near_pairs, signature
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import Rules, ingest_file, settle
from engine.imaging.regions import crop_to_regions
from engine.imaging.reports import MASK, clean_text, harmless_label
from engine.imaging.table import read_table
from engine.imaging.text import text_lines
from engine.records import ROW_TYPES, Image, Refusal, Review, Task, Triplet, content_id
from engine.workspace import Workspace
from generators.phantoms import MODULES, draw, to_display
from generators.phantoms.dicom import write_cohort
from pipelines.cli import main
from pipelines.context import Context
from tests.test_imaging import grey, ramp, save

DEMO = Path(__file__).parents[1] / "configs/demo.yaml"
KEY = "a key that only the tests have"
LETTERS = "QXKANARIE"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
SPLIT = {"train": 0.6, "val": 0.1, "test": 0.3}


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def command(*words: object, key: str | None = KEY) -> Done:
    """The real command with all that it prints, without Ray."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["triptych", *map(str, words)])
        patch.delenv("TRIPTYCH_KEY", raising=False)
        if key is not None:
            patch.setenv("TRIPTYCH_KEY", key)
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def ingested(folder: Path, workspace: Path, *settings: str, key: str | None = KEY) -> str:
    """Ingest a folder; returns all that was printed."""
    overrides = [w for s in ("cluster.address=inline", *settings) for w in ("--set", s)]
    done = command("ingest", folder, "-w", workspace, *overrides, key=key)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def refused(folder: Path, workspace: Path, *settings: str, key: str | None = KEY) -> str:
    """The one line with which ingest refuses."""
    overrides = [w for s in ("cluster.address=inline", *settings) for w in ("--set", s)]
    done = command("ingest", folder, "-w", workspace, *overrides, key=key)
    assert done.returncode == 2, done.stdout
    assert done.stderr.strip().count("\n") == 0, done.stderr
    return done.stderr


def report_of(workspace: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((workspace / "ingest-report.csv").open()))


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
    "PixelDataProviderURL",
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
        study(canaries, folder / f"{LETTERS} used")
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
    assert {row["status"] for row in report_of(workspace)} == {"used", "released", "refused"}
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
    with Workspace.writing(workspace, "images", made_by) as place:
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
    clean(ds, KEY.encode()).save_as(out, enforce_file_format=True)
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


# Printed text


def printed(pixels: np.ndarray, size: int = 14) -> np.ndarray:
    picture = PIL.Image.fromarray(pixels)
    pen = PIL.ImageDraw.Draw(picture)
    pen.text((8, 8), "DOE^JANE 1961-04-05", fill=255, font=PIL.ImageFont.load_default(size))
    return np.asarray(picture)


@pytest.mark.parametrize("modality", sorted(MODULES))
def test_printed_text_is_found_and_an_image_without_it_is_let_through(modality: str) -> None:
    plain = [to_display(draw(modality, seed, 256)) for seed in range(6)]
    assert sum(text_lines(p) > 0 for p in plain) <= 1
    found = [text_lines(printed(p)) > 0 for p in plain]
    assert sum(found) >= {"ultrasound": 2, "histology": 4}.get(modality, 6)


def test_text_is_found_on_a_large_colour_image_and_in_black_on_white() -> None:
    rng = np.random.default_rng(0)
    large = rng.integers(90, 110, (1800, 2400, 3)).astype(np.uint8)
    assert text_lines(large) == 0
    assert text_lines(printed(large, 40)) > 0
    assert text_lines(255 - printed(np.zeros((200, 300), np.uint8))) > 0


def test_ultrasound_is_cut_to_its_regions() -> None:
    pixels = np.full((100, 200), 7, np.uint8)
    ds, regions = Dataset(), []
    for box in ((20, 10, 59, 89), (100, 30, 149, 79), (300, 0, 400, 9), (5, 5, 2, 2)):
        item = Dataset()
        item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2:]
        regions.append(item)
    ds.SequenceOfUltrasoundRegions = regions
    cut, box = crop_to_regions(pixels, ds)
    assert box == (20, 10, 150, 90)
    assert cut.shape == (80, 130)
    assert cut[:, :40].all()  # the first region
    assert not cut[:, 40:80].any()  # between the regions
    assert int(cut[:, 80:].astype(bool).sum()) == 50 * 50
    assert crop_to_regions(pixels, Dataset())[1] is None
    del regions[1:]
    regions[0].RegionLocationMaxX1 = 200  # one past the end, as some scanners write it
    assert crop_to_regions(pixels, ds)[1] == (20, 10, 200, 90)


# Review


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A workspace with two quarantined ultrasound images and an X-ray of one of these patients."""
    folder = tmp_path / "studies"
    folder.mkdir()
    save(grey(ramp(), PatientID="A"), folder / "xray")
    save(grey(ramp().T, PatientID="A", Modality="US"), folder / "us-a")
    save(grey(ramp()[::-1], PatientID="B", Modality="US"), folder / "us-b")
    ingested(folder, tmp_path / "run")
    return tmp_path / "run"


def ids_in_quarantine(workspace: Path) -> list[str]:
    return [row["image_id"] for row in report_of(workspace) if row["status"] == "quarantined"]


def test_review_shows_what_waits_and_decisions_are_recorded(waiting: Path) -> None:
    assert not (waiting / "quarantine").exists()  # ingest writes no pixels of these
    shown = command("ingest", "--review", "-w", waiting)
    assert shown.returncode == 0, shown.stderr
    one, other = ids_in_quarantine(waiting)
    assert one[:12] in shown.stdout
    pictures = {path.stem for path in (waiting / "quarantine").glob("*.png")}
    assert pictures == {one, other}
    assert (waiting / "quarantine").stat().st_mode & 0o077 == 0
    page = (waiting / "quarantine" / "index.html").read_text()
    assert one[:12] in page
    done = command(
        "ingest", "-w", waiting, "--release", one[:8], "--drop", other[:8], "--by", "reader-1"
    )
    assert done.returncode == 0, done.stderr
    assert "nothing waits" in done.stdout
    assert not list((waiting / "quarantine").glob("*.png"))
    place = Workspace.existing(waiting)
    verdicts = {r.image_id: (r.verdict, r.reviewer) for r in place.read(Review)}
    assert verdicts == {one: ("released", "reader-1"), other: ("dropped", "reader-1")}
    assert {i.id for i in place.read(Image, "review")} == {one}
    assert {r["status"] for r in report_of(waiting)} == {"used", "released", "dropped"}
    recorded = place.ledger().sql("SELECT verdict, decided FROM reviews ORDER BY verdict")
    assert [r["verdict"] for r in recorded] == ["dropped", "released"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00", r["decided"]) for r in recorded)
    released = next(i for i in place.read(Image) if i.id == one)
    assert "released by a reviewer" in released.deidentification


def test_a_released_image_stays_with_its_patient(waiting: Path) -> None:
    done = command("ingest", "-w", waiting, "--release", "all", "--by", "R")
    assert done.returncode == 0, done.stderr
    place = Workspace.existing(waiting)
    images = place.read(Image)
    assert len(images) == 3
    assert len({i.patient for i in images}) == len({i.group for i in images}) == 2
    for group in {i.group for i in images}:
        assert len({i.split for i in images if i.group == group}) == 1
    # What builds on ingest builds on what was released too.
    context = Context(place, build(place.config, [], "x"))
    assert len(context._inputs([("ingest", 0)])) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--release", "all"], "--by"),
        (["--release", "ffffffffffff", "--by", "R"], "no image in quarantine"),
        (["--drop", "all", "--release", "all", "--by", "R"], "both released and dropped"),
    ],
)
def test_a_decision_that_cannot_be_is_one_line(waiting: Path, words: list[str], said: str) -> None:
    done = command("ingest", "-w", waiting, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert Workspace.existing(waiting).read(Review) == []


def test_nothing_joins_once_the_loop_has_begun(waiting: Path) -> None:
    with Workspace.writing(waiting, "images", Workspace.existing(waiting).config) as place:
        place.commit(place.begin("seed", 0, "fingerprint"))
    done = command("ingest", "-w", waiting, "--release", "all", "--by", "R")
    assert "the loop has begun" in done.stderr
    done = command("ingest", "-w", waiting, "--drop", "all", "--by", "R")
    assert "0 released, 2 dropped" in done.stdout


def test_another_key_or_a_changed_file_cannot_be_released(waiting: Path) -> None:
    done = command("ingest", "--review", "-w", waiting, key="another key of the tests")
    assert "not the key" in done.stderr
    save(grey(ramp() // 2, PatientID="B", Modality="US"), waiting.parent / "studies" / "us-b")
    done = command("ingest", "-w", waiting, "--release", "all", "--by", "R")
    assert "has changed" in done.stderr
    assert Workspace.existing(waiting).read(Review) == []


# The report and flags


def test_every_file_has_a_row_in_the_report_and_no_name_of_one(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "SMITH^JOHN"
    folder.mkdir(parents=True)
    save(grey(ramp()), folder / "used")
    save(grey(ramp()), folder / "copy")
    save(grey(np.zeros((64, 64))), folder / "black")
    save(grey(ramp(8)), folder / "tiny")
    save(grey(ramp(), Modality="US"), folder / "waits")
    (folder / "broken").write_bytes(b"no image" * 99)
    said = ingested(tmp_path / "studies", tmp_path / "run")
    rows = report_of(tmp_path / "run")
    assert list(rows[0]) == ["path", "frame", "status", "reason", "image_id"]
    assert sorted(r["status"] for r in rows) == [
        "duplicate", "flagged", "flagged", "quarantined", "refused", "used",
    ]  # fmt: skip
    by_status = {r["status"]: r for r in rows}
    assert by_status["duplicate"]["image_id"] == by_status["used"]["image_id"] != ""
    assert all(r["reason"] for r in rows if r["status"] != "used")
    assert "SMITH" not in (tmp_path / "run" / "ingest-report.csv").read_text() + said
    ingested(tmp_path / "studies", tmp_path / "kept", "source.paths=keep",
             "source.include=[black, tiny]")  # fmt: skip
    kept = {r["path"]: r["status"] for r in report_of(tmp_path / "kept")}
    assert kept["SMITH^JOHN/black"] == kept["SMITH^JOHN/tiny"] == "used"


# The table beside the images


def table(tmp_path: Path, text: str, name: str = "labels.csv") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_a_table_gives_labels_reports_patients_and_splits(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(4):
        pixels = np.roll(ramp() % 251, 900 * number, axis=number % 2).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "deep" / f"{number}.png")
    table(
        tmp_path,
        "path,patient,split,modality,report,finding,reader\n"
        'deep/0.png,P1,test,MR,"Mild cardiomegaly. No effusion.",cardiomegaly,Anna\n'
        "deep/1.png,P1,,MR,SEEN BY SMITH,Anna Smith,Anna\n"
        "deep/2.png,P2,validation,CT,,3,Anna\n"
        "deep/9.png,P3,,,,,\n",
    )
    said = ingested(tmp_path, tmp_path / "run", "source.labels=[finding]")
    assert "1 without file, 1 reports refused, 1 labels refused" in " ".join(said.split())
    images = Workspace.existing(tmp_path / "run").read(Image)
    found = {i.labels: i for i in images}
    first = found['{"finding":"cardiomegaly"}']
    assert (first.report, first.split, first.modality) == (
        "Mild cardiomegaly. No effusion.", "test", "MR",
    )  # fmt: skip
    assert [i.split for i in images if i.group == first.group] == ["test", "test"]
    assert found['{"finding":"3"}'].split == "val"
    assert all("Anna" not in str(i.to_dict()) for i in images)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,split\na,train\n", "line 2 has no 'path'"),
        ("path,split\na,training\n", "line 2: split is none of"),
        ("path\na\n./a\n", "lines 2 and 3 are about one file"),
        ("path\n\xff", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(TriptychError, match=re.escape(said)):
        read_table(tmp_path / "labels.csv", [])


def test_json_lines_and_tabs_are_read_too(tmp_path: Path) -> None:
    lines = table(tmp_path, '{"path": "a", "patient": 7, "grade": 2}\n', "t.jsonl")
    tabs = table(tmp_path, "path\tpatient\tgrade\na\t7\t2\n", "t.tsv")
    expected = {"patient": "7", "labels": '{"grade":"2"}'}
    for path in (lines, tabs):
        entry = read_table(path, ["grade"])["a"]
        assert {k: getattr(entry, k) for k in expected} == expected


def test_a_split_that_would_part_a_patient_is_refused_by_line(tmp_path: Path) -> None:
    for number in range(2):
        pixels = ((ramp() * (number + 3)) % 251).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    table(tmp_path, "path,patient,split\n0.png,P1,train\n1.png,P1,test\n")
    message = refused(tmp_path, tmp_path / "run")
    assert "line 2" in message
    assert "line 3" in message
    assert "P1" not in message


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


# Duplicates and groups


def row(pixels: np.ndarray, patient: str, source: str, split: str = "") -> Image:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "PNG")
    return Image(
        id=content_id(pixels.tobytes().hex()), png=out.getvalue(), width=1, height=1, modality="CT",
        anatomy="head", group="", split=split, source=source, rendering='{"frame":0}',
        deidentification="", is_synthetic=True, patient=patient,
    )  # fmt: skip


def compressed(pixels: np.ndarray, quality: int = 60) -> np.ndarray:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(out))


@pytest.mark.parametrize("modality", sorted(MODULES))
def test_altered_copies_are_near_and_other_phantoms_are_not(modality: str) -> None:
    plain = [to_display(draw(modality, seed, 128)) for seed in range(25)]
    signatures = [signature(PIL.Image.fromarray(p)) for p in plain]
    assert list(near_pairs(signatures)) == []
    brighter = np.clip(plain[0] * 0.8 + 20, 0, 255).astype(np.uint8)
    for copy in (compressed(plain[0]), brighter):
        near = signature(PIL.Image.fromarray(copy))
        assert list(near_pairs([*signatures, near])) == [(0, 25)]


def test_patients_who_share_a_picture_are_one_group_and_copies_leave() -> None:
    one, two, three = (to_display(draw("MR", seed, 128)) for seed in range(3))
    images, copies = settle(
        [
            row(one, "a", "1"),
            row(compressed(one), "b", "2"),
            row(two, "b", "3"),
            row(two, "c", "4"),
            row(three, "d", "5"),
        ],
        SPLIT,
    )
    assert [i.source for i in images] == ["1", "2", "3", "5"]
    assert [(c.path, c.status, c.image_id) for c in copies] == [("4", "duplicate", images[2].id)]
    assert len({(i.group, i.split) for i in images[:3]}) == 1
    assert images[3].group == "d" != images[0].group


def test_the_order_in_which_files_were_read_changes_nothing() -> None:
    rows = [row(to_display(draw("MR", s % 3, 96)), f"p{s}", f"{s}") for s in range(6)]
    assert settle(rows, SPLIT) == settle(rows[::-1], SPLIT)


def test_near_copies_given_to_two_splits_are_refused() -> None:
    one = to_display(draw("CT", 1, 128))
    rows = [row(one, "a", "1", "train"), row(compressed(one), "b", "2", "test")]
    with pytest.raises(
        TriptychError, match="line 7 and 2 are one patient or show the same picture"
    ):
        settle(rows, SPLIT, lines={"1": 7})


def test_later_images_keep_to_the_groups_that_are_there() -> None:
    one = to_display(draw("CT", 1, 128))
    earlier, _ = settle([row(one, "b", "1")], {"test": 1.0})
    later, _ = settle([row(compressed(one), "a", "2")], {"train": 1.0}, earlier)
    assert (later[0].split, later[0].id == earlier[0].id) == ("test", False)


def test_flagged_and_quarantined_frames_keep_no_pixels(tmp_path: Path) -> None:
    path = save(grey(ramp(), Modality="US", PatientID="P"), tmp_path / "one")
    with Decoder() as decoder:
        images, refusals = ingest_file(decoder, tmp_path, path, Rules(KEY.encode()))
    assert images == []
    assert isinstance(refusals[0], Refusal)
    assert all(not isinstance(value, bytes) for value in refusals[0].to_dict().values())
    assert refusals[0].path == hidden_path("one", KEY.encode())


# Configuration


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("source.include=[dark]", "source.include"),
        ("source.paths=secret", "source.paths"),
        ("source.table=/labels.csv", "inside the folder"),
        ("source.labels=[report]", "is no label"),
        ("expert.kind=vqa-rad", "source.paths=keep"),
    ],
)
def test_settings_of_the_source_are_checked(setting: str, said: str) -> None:
    with pytest.raises(TriptychError, match=re.escape(said)):
        build({"source": {"path": "x"}}, [setting], "run.yaml")


def test_phantoms_keep_their_names(tmp_path: Path) -> None:
    list(write_cohort(tmp_path / "run" / "phantoms", {"MR": 2}, 64, 0, 0.3))
    done = command(
        "ingest", DEMO, "-w", tmp_path / "run", "--set", "source.phantoms={MR: 2}",
        "--set", "source.size=64", "--set", "cluster.address=inline", key=None,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [r["path"] for r in report_of(tmp_path / "run")] == ["MR/0000.dcm", "MR/0001.dcm"]
