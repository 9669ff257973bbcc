"""What a person has to look at: printed text, regions, quarantine, the ingest report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
from pydicom import Dataset

from engine.config import build
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import hidden_path
from engine.imaging.ingest import Rules, ingest_file, pixels_id
from engine.imaging.regions import crop_to_regions
from engine.imaging.text import text_lines
from engine.lineage.opening import writing
from engine.records import Image, Refusal, Review
from engine.workspace import Workspace
from generators.phantoms import KINDS, draw, to_display
from generators.phantoms.dicom import write_cohort
from pipelines.context import Context
from tests.commands import KEY, command, ingested, report_of
from tests.conftest import ROOT
from tests.engine.imaging.datasets import grey, ramp, save

# Printed text


def printed(pixels: np.ndarray, size: int = 14) -> np.ndarray:
    picture = PIL.Image.fromarray(pixels)
    pen = PIL.ImageDraw.Draw(picture)
    pen.text((8, 8), "DOE^JANE 1961-04-05", fill=255, font=PIL.ImageFont.load_default(size))
    return np.asarray(picture)


@pytest.mark.parametrize("modality", sorted(KINDS))
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
    save(grey(ramp() * 7919 % 4096, PatientID="B", Modality="US"), folder / "us-b")
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


def test_review_hashes_a_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame against each refusal of its file would be frames squared: a minute for a clip."""
    folder, frames = tmp_path / "studies", 12
    folder.mkdir()
    clip = np.stack([np.roll(ramp(), 131 * k) for k in range(frames)])
    save(grey(clip, Modality="US"), folder / "clip")
    ingested(folder, tmp_path / "run", "source.frames=all")
    hashed: list[str] = []

    def counted(pixels: np.ndarray) -> str:
        hashed.append(pixels_id(pixels))
        return hashed[-1]

    monkeypatch.setattr("pipelines.commands.review.pixels_id", counted)
    shown = command("ingest", "--review", "-w", tmp_path / "run")
    assert f"{frames} to decide" in shown.stdout
    assert len(hashed) == len(set(hashed)) == frames


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
    with writing(waiting, "images", Workspace.existing(waiting).config) as place:
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


def test_pictures_without_a_header_are_released_together_but_those_with_print(
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        pixels = to_display(draw("MR", number, 256))
        PIL.Image.fromarray(printed(pixels) if not number else pixels).save(
            tmp_path / "in" / f"{number}.png"
        )
    save(grey(ramp(), Modality="US"), tmp_path / "in" / "us")
    ingested(tmp_path / "in", tmp_path / "run", "source.paths=keep")
    reasons = {r["path"]: r["reason"] for r in report_of(tmp_path / "run")}
    assert "printed text" in reasons["0.png"]
    assert "no header" in reasons["1.png"]
    shown = command("ingest", "--review", "-w", tmp_path / "run")
    assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "run" / "quarantine" / "index.html").read_text()
    assert page.index("0.png") < page.index("1.png")
    assert page.index("text not ruled out") < page.index("1.png")
    done = command("ingest", "-w", tmp_path / "run", "--release", "clear", "--by", "R")
    assert "2 released" in done.stdout, done.stderr
    decided = {r["path"]: r["status"] for r in report_of(tmp_path / "run")}
    assert decided == {
        "0.png": "quarantined", "1.png": "released", "2.png": "released", "us": "quarantined",
    }  # fmt: skip


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


def test_flagged_and_quarantined_frames_keep_no_pixels(tmp_path: Path) -> None:
    path = save(grey(ramp(), Modality="US", PatientID="P"), tmp_path / "one")
    with Decoder() as decoder:
        read = ingest_file(decoder, tmp_path, path, Rules(KEY.encode()))
    assert (read.images, read.pictures, read.looks) == ([], [], [])
    refusals = read.refusals
    assert isinstance(refusals[0], Refusal)
    assert all(not isinstance(value, bytes) for value in refusals[0].to_dict().values())
    assert refusals[0].path == hidden_path("one", KEY.encode())


def test_phantoms_keep_their_names(tmp_path: Path) -> None:
    list(write_cohort(tmp_path / "run" / "phantoms", {"MR": 2}, 64, 0, 0.3))
    done = command(
        "ingest", ROOT / "configs/demo.yaml", "-w", tmp_path / "run", "--set", "source.size=64",
        "--set", "source.phantoms={MR: 2}", "--set", "cluster.address=inline", key=None,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [r["path"] for r in report_of(tmp_path / "run")] == ["MR/0000.dcm", "MR/0001.dcm"]
