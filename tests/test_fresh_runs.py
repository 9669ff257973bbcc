"""A fresh run of every configuration in configs/ verifies clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.lineage.verify import verify
from engine.records import Triplet
from engine.workspace import Workspace
from generators.phantoms.dicom import write_cohort
from tests.conftest import ROOT, triptych

KEY = {"TRIPTYCH_KEY": "a key that only the tests have"}
# A round of everything, with values so small that it takes seconds.
FEW = [
    "cluster.address=inline",
    "rounds=1",
    "cluster.threads=1",
    "source.split={train: 0.5, val: 0.2, test: 0.3}",
    "expert.images=3",
    "expert.preference_images=6",
    "expert.pairs=16",
    "generator.tasks=6",
    "generator.samples=2",
    "generator.batch=6",
    "generator.max_tokens=24",
    "reward.epochs=1",
    "reward.batch=8",
    "reward.refine_pairs=4",
    "sft.epochs=1",
    "sft.batch=8",
    "grpo.steps=1",
    "grpo.batch=4",
    "grpo.group=4",
    "grpo.tolerance=1",
    "grpo.max_tokens=8",
    "evaluate.questions=4",
    "evaluate.max_tokens=8",
]
# What a machine without GPUs and without seven billion weights has in their place.
ON_A_CPU = [
    "model=tiny",
    "generator.backend=transformers",
    "generator.model=null",
    "reward.model=null",
    "evaluate.backend=transformers",
    *(f"{s}.gpus=0" for s in ("generator", "reward", "sft", "grpo", "evaluate")),
    *(f"{s}.bf16=false" for s in ("reward", "sft", "grpo")),
    *(f"{s}.workers=1" for s in ("reward", "sft", "grpo")),
    *(f"{s}.accumulate=1" for s in ("reward", "sft", "grpo")),
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DICOM files with questions about them in VQA-RAD's own format."""
    folder = tmp_path_factory.mktemp("studies")
    fields = {"image_organ": "HEAD", "question_type": "PRES"}
    rows = []
    for number, path in enumerate(write_cohort(folder / "images", {"MR": 16}, 96, 0, 0.3)):
        about = {"image_name": path.name, "image_case_url": f"case/{number}"}
        told = [("Is there a lesion?", "yes"), ("Where is it?", "left"), ("Is it large?", "no")]
        rows += [fields | about | {"question": q, "answer": a} for q, a in told]
    (folder / "questions.json").write_text(json.dumps(rows))
    return folder


def clean(workspace: Path) -> Workspace:
    """The workspace, of which `lineage verify` reports nothing."""
    place = Workspace.existing(workspace)
    report = verify(place)
    assert report.problems == []
    assert report.rows > 100
    assert {c["stage"] for c in place.commits()} >= {"seed", "prefer", "refine", "grpo", "export"}
    return place


def test_every_configuration_is_run_here() -> None:
    assert {path.stem for path in (ROOT / "configs").glob("*.yaml")} == {
        "demo", "vqa-rad", "medgr2-7b",
    }  # fmt: skip


def test_demo_verifies_clean(small_run: Path) -> None:
    clean(small_run)


@pytest.mark.parametrize(("name", "more"), [("vqa-rad", []), ("medgr2-7b", ON_A_CPU)])
def test_a_benchmarks_configuration_verifies_clean(
    studies: Path, tmp_path: Path, name: str, more: list[str]
) -> None:
    values = [f"source.path={studies}", *FEW, *more]
    words = [word for value in values for word in ("--set", value)]
    done = triptych("run", f"configs/{name}.yaml", "-w", tmp_path / "w", *words, env=KEY)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    place = clean(tmp_path / "w")
    sources = {name for row in place.read(Triplet) for name in row.derived_from}
    assert sources  # a row made from another names it, and verify found what it names
