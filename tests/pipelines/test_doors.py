"""Every door through which text enters: what is not known to be harmless is found nowhere after."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from engine.config import Config
from engine.errors import TriptychError
from engine.hub.export import export
from engine.lineage.opening import writing
from engine.records import Image, Triplet
from engine.workspace import Workspace
from generators.phantoms.base import GENERATOR
from generators.phantoms.dicom import write_cohort
from pipelines import ingest, seed, source
from pipelines.commands import review
from pipelines.context import Context, run_stage
from tests.commands import KEY, command, ingested, report_of
from tests.engine.imaging.datasets import grey, ramp, save
from tests.engine.imaging.test_deidentify import LETTERS, everything, survivors

pytestmark = pytest.mark.loop

GOOD = {"question": "Is the heart enlarged?", "answer": "no", "answer_type": "CLOSED"}
NAMED = [  # a canary, and what only a look at where it stands can tell
    GOOD | {"question": f"Does {LETTERS} have a cyst?"},
    GOOD | {"question": "Does Young have a cyst?"},
    GOOD | {"question": "Was a cyst seen by brown?"},
    GOOD | {"question": "Is the 94 year old patient intubated?"},
    GOOD | {"question": "Whose chest is it?", "answer": LETTERS},
    GOOD | {"question": "Who is it?", "answer": "Patient: Williams"},
    GOOD | {"question": "What number is it?", "answer": "4711023"},
    GOOD | {"question": "When was it taken?", "answer": "3 May 2024"},
]


def hospital(root: Path, number: int = 4) -> Path:
    """A hospital's own folder in VQA-RAD's form, with canaries wherever its JSON has text."""
    (root / "images").mkdir(parents=True)
    notes = PIL.PngImagePlugin.PngInfo()
    notes.add_text("Comment", f"{LETTERS} note")
    rows = []
    for n in range(number):
        pixels = np.roll(ramp() % 251, 700 * n).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(root / "images" / f"{n}.png", pnginfo=notes)
        fields = dict.fromkeys(("qid", "image_case_url", "image_organ", "question_type"), LETTERS)
        fields |= {"image_name": f"{n}.png", "evaluation": LETTERS, LETTERS: LETTERS}
        fields["image_case_url"] += str(n)
        rows += [fields | row for row in (GOOD, *NAMED)]
    (root / "cases.json").write_text(json.dumps(rows))  # `paths: keep` keeps names
    return root


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of unpublished images and questions, up to its exported dataset."""
    root = tmp_path_factory.mktemp("own")
    source = {
        "path": str(hospital(root / "cases")), "paths": "keep", "split": {"train": 1.0},
        "key_file": str(root / "key"),
    }  # fmt: skip
    (root / "key").write_text(KEY)
    (root / "key").chmod(0o600)
    expert = {"kind": "benchmark", "images": 9, "rows_per_image": 99}
    config = Config.model_validate({"name": "own", "source": source, "expert": expert})
    with writing(root / "run", config.name, config.recorded()) as place:
        run_stage(Context(place, config), "ingest", 0, ingest.ingest, [], {})
        with pytest.raises(TriptychError, match=r"all 4 images wait for review: .*--release"):
            run_stage(Context(place, config), "seed", 0, seed.seed, [("ingest", 0)], {})
        assert review.decide(config, place, ["all"], [], "R") == (4, 0)
        run_stage(Context(place, config), "seed", 0, seed.seed, [("ingest", 0)], {})
        export(place, root / "run" / "dataset", "own")
    return root / "run"


def test_no_text_of_a_hospitals_own_questions_leaks(own: Path) -> None:
    left = {where: found for where, text in everything(own) if (found := survivors(text))}
    assert left == {}
    rows = Workspace.existing(own).read(Triplet)
    assert {(row.question, row.answer) for row in rows} == {(GOOD["question"], "no")}
    assert len(rows) == 4


def test_questions_that_are_left_out_are_counted_and_named_without_their_text(own: Path) -> None:
    with (own / "ingest-report.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["status"] == "gold"]
    assert len(rows) == 4 * len(NAMED)
    assert all("not known to be harmless" in row["reason"] for row in rows)
    (commit,) = [c for c in Workspace.existing(own).commits() if c["stage"] == "ingest"]
    assert commit["metrics"]["gold"] == {"used": 4, "refused": len(rows)}


def test_published_questions_are_used_as_they_are(tmp_path: Path) -> None:
    folder = hospital(tmp_path / "cases", 1)
    source = {"path": str(folder), "public": True, "split": {"train": 1.0}}
    config = Config.model_validate({"source": source, "expert": {"kind": "benchmark"}})
    with writing(tmp_path / "run", config.name, config.recorded()) as place:
        run_stage(Context(place, config), "ingest", 0, ingest.ingest, [], {})
        run_stage(Context(place, config), "seed", 0, seed.seed, [("ingest", 0)], {})
        asked = {row.question for row in place.read(Triplet)}
    assert NAMED[0]["question"] in asked


def test_a_file_that_calls_itself_synthetic_exports_no_name(tmp_path: Path) -> None:
    said = {"SyntheticData": "YES", "Manufacturer": GENERATOR}
    (tmp_path / "in").mkdir()
    save(grey(ramp(), **said), tmp_path / "in" / f"{LETTERS}.dcm")
    truth = {"finding": LETTERS, "modality": "CT"}
    (tmp_path / "in" / f"{LETTERS}.dcm.truth.json").write_text(json.dumps(truth))
    ingested(tmp_path / "in", tmp_path / "run", "source.paths=keep", "expert.kind=none")
    (image,) = Workspace.existing(tmp_path / "run").read(Image)
    assert (image.is_synthetic, image.truth) == (False, None)
    assert image.source == f"{LETTERS}.dcm"  # kept because `paths: keep` says so; never exported


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "NIfTI"])
def test_what_a_picture_says_beside_its_pixels_is_not_read(kind: str, tmp_path: Path) -> None:
    picture = PIL.Image.fromarray((ramp() % 251).astype(np.uint8))
    folder = tmp_path / "in"
    folder.mkdir()
    if kind == "NIfTI":
        nibabel = pytest.importorskip("nibabel")
        volume = nibabel.Nifti1Image(np.asarray(picture)[..., None], np.eye(4))
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            volume.header[field] = f"{LETTERS}"
        (folder / f"{LETTERS}.nii").write_bytes(volume.to_bytes())
    elif kind == "TIFF":
        tags = {270: f"{LETTERS} 1", 315: f"{LETTERS} 2", 305: f"{LETTERS} 3"}
        picture.save(folder / f"{LETTERS}.tif", tiffinfo=tags)
    else:
        notes = PIL.PngImagePlugin.PngInfo()
        notes.add_itxt("Author", f"{LETTERS} note", zip=True)
        picture.save(folder / f"{LETTERS}.png", pnginfo=notes)
    said = ingested(folder, tmp_path / "run", "expert.kind=none")
    done = command("ingest", "-w", tmp_path / "run", "--release", "all", "--by", "R")
    assert "1 released" in done.stdout, done.stderr
    left = {w: f for w, text in everything(tmp_path / "run") if (f := survivors(text))}
    assert left == {}
    assert survivors(done.stdout + said) == []


def drawing(root: Path) -> list[Image]:
    """Ingest two phantoms into `root`; returns the images."""
    source = {"phantoms": {"MR": 2}, "size": 64}
    config = Config.model_validate({"source": source})
    with writing(root, config.name, config.recorded()) as place:
        run_stage(Context(place, config), "ingest", 0, ingest.ingest, [], {})
        return place.read(Image)


def test_only_what_was_drawn_here_is_a_phantom(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "phantoms"
    list(write_cohort(folder, {"MR": 1}, 64, 0, 0.3))
    drawn = (folder / "MR" / "0000.dcm").read_bytes()
    said = {"SyntheticData": "YES", "Manufacturer": GENERATOR}
    save(grey(ramp(), **said), folder / "MR" / "0000.dcm")  # in the place of a phantom
    save(grey(ramp().T, **said), folder / "MR" / "patient.dcm")  # beside the phantoms
    images = drawing(tmp_path / "run")
    assert [(i.source, i.is_synthetic) for i in images] == [
        ("MR/0000.dcm", True), ("MR/0001.dcm", True),
    ]  # fmt: skip
    assert (folder / "MR" / "0000.dcm").read_bytes() == drawn
    assert [row["path"] for row in report_of(tmp_path / "run")] == ["MR/0000.dcm", "MR/0001.dcm"]


def test_what_was_drawn_before_a_crash_is_not_drawn_again(tmp_path: Path) -> None:
    config = Config.model_validate({"source": {"phantoms": {"MR": 2}, "size": 64}})
    folder = tmp_path / "run" / "phantoms"
    with writing(tmp_path / "run", config.name, config.recorded()) as place:
        context = Context(place, config)
        first = source.draw_phantoms(context.config, folder, context.display)
        (folder / "MR" / "0001.dcm").unlink()  # as if it had not come so far
        before = (folder / "MR" / "0000.dcm").stat()
        assert source.draw_phantoms(context.config, folder, context.display) == first
        assert (folder / "MR" / "0000.dcm").stat() == before
        assert set(first) == {"MR/0000.dcm", "MR/0001.dcm"}
