"""Bad input is one clear line; one bad file never stops a run; real input runs end to end."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from engine.lineage.verify import verify
from engine.records import Decision, Evaluation, Image
from engine.workspace import Workspace
from generators.phantoms.dicom import write_cohort
from tests.conftest import SMALL, sets
from tests.forked import triptych

pytestmark = pytest.mark.loop

INLINE = "cluster.address=inline"
PUBLIC = ["--set", "source.public=true"]  # phantoms in a folder of their own
VQA_RAD = Path(__file__).parents[3] / "shared" / "data" / "vqa_rad"


def refused(*arguments: object) -> str:
    """The one line on stderr of a command that must fail."""
    done = triptych(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0, done.stderr
    return done.stderr


def test_a_missing_source_folder_is_one_line(tmp_path: Path) -> None:
    config = ["--set", f"source.path={tmp_path / 'nowhere'}", "--set", INLINE]
    line = refused("ingest", "configs/demo.yaml", "-w", tmp_path / "run", *config)
    assert "nowhere is not a folder" in line


def test_an_empty_source_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = ["--set", f"source.path={tmp_path / 'empty'}", "--set", INLINE, *PUBLIC]
    line = refused("ingest", "configs/demo.yaml", "-w", tmp_path / "run", *config)
    assert "holds no usable image" in line


def test_a_stage_without_a_workspace_is_one_line(tmp_path: Path) -> None:
    assert "no workspace at" in refused("generate", "-w", tmp_path / "nowhere")


def test_a_corrupt_file_is_counted_listed_and_stops_nothing(tmp_path: Path) -> None:
    source = tmp_path / "studies"
    files = list(write_cohort(source, {"MR": 4}, 96, 0, 0.3))
    damaged = files[0].read_bytes()
    files[0].write_bytes(damaged[: len(damaged) // 2])
    (source / "noise.dcm").write_bytes(b"not a DICOM file at all" * 50)
    config = ["--set", f"source.path={source}", "--set", INLINE, *PUBLIC]
    done = triptych("ingest", "configs/demo.yaml", "-w", tmp_path / "run", *config)
    assert done.returncode == 0, done.stderr
    assert len(Workspace.existing(tmp_path / "run").read(Image)) == 3
    report = csv.DictReader((tmp_path / "run" / "ingest-report.csv").open())
    bad = {row["path"]: row["reason"] for row in report if row["status"] == "refused"}
    assert len(bad) == 2
    assert all(bad.values())


def test_a_stage_out_of_order_says_what_is_missing(tmp_path: Path) -> None:
    source = tmp_path / "studies"
    list(write_cohort(source, {"MR": 3}, 96, 0, 0.3))
    config = ["--set", f"source.path={source}", "--set", INLINE, *PUBLIC]
    workspace = tmp_path / "run"
    triptych("ingest", "configs/demo.yaml", "-w", workspace, *config)
    assert "first: run `triptych" in refused("generate", "-w", workspace, "--set", INLINE)


@pytest.mark.skipif(not VQA_RAD.is_dir(), reason="shared/data/vqa_rad is not on this machine")
def test_vqa_rad_runs_end_to_end_split_by_patient(tmp_path: Path) -> None:
    config = sets(*SMALL, "source.limit=45", "expert.images=20", "expert.pairs=60", INLINE)
    config += ["--set", f"source.path={VQA_RAD}"]
    workspace = tmp_path / "run"
    done = triptych("run", "configs/vqa-rad.yaml", "-w", workspace, *config)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    place = Workspace.existing(workspace)
    images = place.read(Image)
    assert len(images) == 45
    splits: dict[str, set[str]] = {}
    for image in images:
        splits.setdefault(image.group, set()).add(image.split)
    assert all(len(found) == 1 for found in splits.values())
    assert place.read(Decision)
    assert {e.split for e in place.read(Evaluation)} <= {"val", "test"}
    assert (workspace / "report" / "index.html").exists()
    assert verify(place).problems == []
