"""From init to a run: with readers until they are needed, with labels to the end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from engine.errors import PEOPLE
from engine.records import Evaluation, Image, Item, Model, Triplet
from engine.workspace import Workspace
from generators.phantoms.dicom import write_cohort
from pipelines.commands import init
from reward_model.experts.expert import EXPERT
from tests.commands import Done, command
from tests.conftest import SMALL

pytestmark = pytest.mark.loop

FEW = [s for s in SMALL if not s.startswith("source.")]
HERE = "cluster.address=inline"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without GPUs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init, "gpu_memory", lambda: [])
    return tmp_path


@pytest.fixture
def studies(place: Path) -> Path:
    """DICOM files as a stranger has them: nobody knows what is in them."""
    folder = place / "studies"
    list(write_cohort(folder, {"MR": 24}, 64, 0, 0.3))
    for truth in folder.rglob("*.truth.json"):
        truth.rename(place / truth.name)
    return folder


def done(*words: object, code: int = 0) -> Done:
    told = command(*words)
    assert told.returncode == code, told.stdout[-1500:] + told.stderr[-3000:]
    return told


def settings(*values: str) -> list[str]:
    return [word for value in (HERE, *values) for word in ("--set", value)]


def test_a_bare_folder_runs_until_readers_are_needed(studies: Path) -> None:
    asked = "expert.verdicts={first: 6, random: 5, informative: 2, test: 4}"
    done("init", "ours", "--images", studies)
    few = settings(*(s for s in FEW if not s.startswith("expert.")), asked)
    done("ingest", "ours.yaml", *few)
    shown = done("preview", "-w", "runs/ours", "--rows", "2")
    assert "there is no judge yet" in shown.stdout
    told = done("run", "ours.yaml", *few, code=PEOPLE)
    assert "triptych annotate -w runs/ours" in told.stderr
    workspace = Workspace.existing(Path("runs/ours"))
    assert all(image.truth is None for image in workspace.read(Image))
    items = workspace.read(Item)
    assert {item.stream for item in items} >= {"test"}
    assert len(items) == 10
    assert not [m for m in workspace.read(Model) if m.role != "base"]  # nothing to tune on


def test_a_folder_with_labels_runs_to_the_end(studies: Path, place: Path) -> None:
    with (studies / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "finding", "size"])
        for path in sorted(studies.rglob("*.dcm")):
            truth = json.loads((place / f"{path.name}.truth.json").read_text())
            table.writerow([path.relative_to(studies), truth["finding"], truth["size"] or ""])
    done("init", "ours", "--images", studies)
    questions = Path("ours-questions.yaml").read_text()
    assert "Is there any {value}?" in questions
    few = settings(*FEW)
    done("run", "ours.yaml", *few)
    workspace = Workspace.existing(Path("runs/ours"))
    gold = [row for row in workspace.read(Triplet) if row.generator_id == EXPERT]
    assert {row.question for row in gold} >= {"What is the finding?"}
    assert {m.role for m in workspace.read(Model)} >= {"generator", "judge", "sft"}
    assert len(workspace.read(Evaluation)) > 0
    assert Path("runs/ours/dataset").is_dir()
