"""A fresh run of every configuration in configs/ verifies clean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config import Config, deciding, load
from engine.lineage.opening import writing
from engine.lineage.verify import verify
from engine.records import Model, Task, Triplet, content_id
from engine.resume import Made, Worker
from engine.training_job import TrainingResult
from generators.phantoms.dicom import write_cohort
from generators.proposer import Proposing, prompt_of
from pipelines import compare, generate, ingest, plan, proposals, refine
from pipelines.context import Context, run_stage
from reward_model.measure import Gate
from reward_model.training import JudgeResult
from tests.cleanly import clean
from tests.conftest import ROOT
from tests.forked import triptych
from tests.judge_rows import measurement
from tests.lineage_workspace import commit, make_judgement, make_model

pytestmark = pytest.mark.loop

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
WITHOUT_GRPO = "grpo.steps=0"
# What a machine without GPUs and without seven billion weights has in their place.
ON_A_CPU = [
    "model=tiny",
    "generator.backend=transformers",
    "generator.model=null",
    "generator.prompts=compact",  # the tiny model's own: in the full ones a prompt is 2,000 tokens
    "reward.model=null",
    "evaluate.backend=transformers",
    *(f"{s}.actors=1" for s in ("generator", "reward", "evaluate")),  # each opens the model anew
    *(f"{s}.gpus=0" for s in ("reward", "sft", "grpo")),
    *(f"{s}.bf16=false" for s in ("reward", "sft", "grpo")),
    *(f"{s}.workers=1" for s in ("reward", "sft", "grpo")),
    *(f"{s}.accumulate=1" for s in ("reward", "sft", "grpo")),
    *(f"{s}.loaders=0" for s in ("reward", "sft", "grpo")),
]
# Questions with answers in the place of readers, for whom a run would wait.
ANSWERED = ["expert={kind: benchmark}", "source.paths=keep"]
ALIKE = ("medgr2-7b-lora", "medgr2-3b")  # the run of medgr2-7b in other places, or of another model


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DICOM files with questions about them in VQA-RAD's own format."""
    folder = tmp_path_factory.mktemp("studies")
    fields = {"image_organ": "HEAD", "question_type": "PRES"}
    rows = []
    for number, path in enumerate(write_cohort(folder / "images", {"MR": 16}, 96, 0, 0.3)):
        name = path.relative_to(folder / "images").as_posix()
        about = {"image_name": name, "image_case_url": f"case/{number}"}
        odd = number % 2  # what images answer differently makes pairs
        told = [
            ("Is there a lesion?", ("yes", "no")[odd]),
            ("Where is it?", ("left", "right")[odd]),
            ("Is it large?", "no"),
        ]
        rows += [fields | about | {"question": q, "answer": a} for q, a in told]
    (folder / "questions.json").write_text(json.dumps(rows))
    return folder


def test_every_configuration_is_run_here() -> None:
    """The demo in `test_loop.py`, with Ray."""
    assert {path.stem for path in (ROOT / "configs").glob("*.yaml")} == {
        "demo", "vqa-rad", "medgr2-7b", *ALIKE,
    }  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_not_run_differs_by_nothing_that_a_cpu_would_see(name: str) -> None:
    values = [*ANSWERED, *FEW, *ON_A_CPU]
    one, other = (
        deciding(load(ROOT / "configs" / f"{n}.yaml", values).recorded())
        for n in (name, "medgr2-7b")
    )
    assert one | {"name": other["name"]} == other


@pytest.mark.parametrize(
    ("name", "more"), [("vqa-rad", [WITHOUT_GRPO]), ("medgr2-7b", [*ANSWERED, *ON_A_CPU])]
)
def test_a_configuration_with_answers_verifies_clean(
    studies: Path, tmp_path: Path, name: str, more: list[str]
) -> None:
    first = [value for value in more if value in ANSWERED]
    values = [f"source.path={studies}", *first, *FEW, *(v for v in more if v not in first)]
    words = [word for value in values for word in ("--set", value)]
    done = triptych("run", f"configs/{name}.yaml", "-w", tmp_path / "w", *words, env=KEY)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    place = clean(tmp_path / "w")
    sources = {name for row in place.read(Triplet) for name in row.derived_from}
    assert sources  # a row made from another names it, and verify found what it names
    roles = {model.role for model in place.read(Model)}
    assert "sft" in roles
    assert ("policy" in roles) == (WITHOUT_GRPO not in more)  # else SFT's is the policy


def false_premise(job: Proposing) -> Worker:
    """In place of `make_proposer`: two answers to a question that has none on any phantom."""

    def work(shard: str, rows: list[dict[str, Any]]) -> Made:
        made = [
            Triplet(
                id=content_id(row["image_id"], row["task"]["id"], shard, sample),
                image_id=row["image_id"], task_id=row["task"]["id"], raw="", seed=job.settings.seed,
                generator_id=job.settings.generator_id, sample=sample, round=job.settings.round,
                prompt_hash=prompt_of("compact", Task.from_dict(row["task"])).id,
                question="Is the tail long?", options=("yes", "no"),
                answer=("yes", "no")[sample], rationale="", logprob=-1.0,
            )
            for row in rows
            for sample in range(2)
        ]  # fmt: skip
        return {Triplet: made}

    return work


def test_what_an_expert_writes_of_its_own_accord_has_its_task_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no sample can be right, the expert sets a true row of its own against it."""
    for module in (generate, proposals):
        monkeypatch.setattr(module, "make_proposer", false_premise)
    worse = JudgeResult(
        training=TrainingResult(loss=1.0, steps=1),
        before=measurement(0.9),
        after=measurement(0.5),
        gate=Gate(verdict="worse", on="pairs", sets=("gate",), n=9, gain=-0.4, low=-0.5, high=-0.3),
    )
    monkeypatch.setattr(refine, "fit_judge", lambda *_: worse)
    values = {
        "source": {"phantoms": {"MR": 8, "ultrasound": 6}, "size": 64, "split": {"train": 1.0}},
        "generator": {"tasks": 8, "batch": 8},
        "expert": {"images": 4, "preference_images": 4, "pairs": 8},
        "cluster": {"address": "inline"},
    }
    config = Config.model_validate(values)
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "compare", 0, compare.compare, [("ingest", 0)], {})
        own = [t for t in workspace.read(Triplet) if t.generator_id == "expert"]
        assert own
        run_stage(context, "plan", 1, plan.plan, [("ingest", 0)], {})
        run_stage(context, "generate", 1, generate.generate, [("plan", 1)], {})
        judge = make_model("judge", "judge", context.base().id, 1, 1)
        rows = workspace.read(Triplet, "generate", 1)
        commit(workspace, "judge", 1, [judge, *(make_judgement(row, judge) for row in rows)])
        run_stage(context, "refine", 1, refine.refine, [("generate", 1)], {})
        refined = workspace.read(Triplet, "refine", 1)
        assert [t for t in refined if t.generator_id == "expert" and not t.derived_from]
    assert verify(workspace).problems == []
