"""The loop as a user runs it: from one command to a policy, a dataset and a report."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.config import build
from engine.records import Consumption, Decision, Image, Model, Preference, Triplet
from engine.workspace import Workspace
from pipelines.loop import ONCE, ROUND
from pipelines.training.launch import steps_of
from pipelines.training.preflight.sizes import works
from reward_model.patient_sets import is_frozen
from tests import forked
from tests.cleanly import clean
from tests.conftest import ASKED, SMALL, sets, small, triptych
from tests.ray_head import ray_head

INLINE = "cluster.address=inline"
WITHOUT_RAY = 0.3  # of a stage's time on Ray, about
VLLM = find_spec("vllm") is not None
STAGES = {*ONCE, *ROUND} - {"renew"}  # which no run here asks for

pytestmark = pytest.mark.loop


@dataclass(frozen=True)
class Run:
    """A run of which the first stages were commands and the others a job, and what that said."""

    workspace: Path
    latest: dict[str, Any]  # the configuration kept after the first command
    job: subprocess.CompletedProcess[str]
    beside: Path  # a run up to its judge


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished small run of one round on a Ray that stands, with every stage but `renew`.

    `ray start --head`, two stages by command, and `triptych submit` does the rest. The generator is
    tuned in one process, without the cluster; two workers train SFT and write checkpoints. In a run
    beside it, up to its judge, a vLLM engine generates, where vLLM is installed, and two workers
    train the judge.
    """
    folder = tmp_path_factory.mktemp("small")
    workspace, beside = folder / "run", folder / "beside"
    with ray_head() as (address, dashboard):
        ray = {"RAY_ADDRESS": address}
        for first in (("ingest", "configs/demo.yaml", *config()), ("seed",)):
            done = triptych(*first, "-w", workspace, env=ray)
            assert done.returncode == 0, done.stderr[-3000:]
        latest = Workspace.existing(workspace).latest
        stage("tune", workspace, INLINE)
        paired = ["reward.workers=2", "reward.batch=8", "reward.save_steps=1"]
        backend = ["generator.backend=vllm"] if VLLM else []
        stage("ingest", beside, INLINE, *SMALL, *ASKED, *paired, *backend)
        for name in ("seed", "tune"):
            stage(name, beside, INLINE)
        stage("compare", beside, **ray)
        for name in ("consult", "collect"):
            stage(name, beside, INLINE)
        stage("reward", beside, **ray)
        words = ["configs/demo.yaml", "--address", dashboard, "-w", str(workspace), *config()]
        job = triptych("submit", *words, env=ray, timeout=900)
    return Run(workspace, latest, job, beside)


@pytest.fixture(scope="module")
def small_run(run: Run) -> Path:
    """The run's workspace."""
    return run.workspace


def config(*more: str) -> list[str]:
    """`--set` arguments of the run."""
    return small("sft.workers=2", "sft.batch=16", "sft.save_steps=1", "reward.actors=2", *more)


def stage(name: str, workspace: Path, *values: str, **env: str) -> None:
    """Do a stage by its command, with values over the demo's configuration or the kept one."""
    first = ["configs/demo.yaml"] if name == "ingest" else []
    done = forked.triptych(name, *first, "-w", workspace, *sets(*values), env=env)
    assert done.returncode == 0, done.stderr[-3000:]


def test_stage_commands_and_a_submitted_job_share_a_cluster(run: Run) -> None:
    told = {name: value for name, value in run.latest["cluster"].items() if value is not None}
    assert told == {"threads": 1}
    assert run.job.returncode == 0, run.job.stdout[-3000:] + run.job.stderr[-3000:]
    assert run.job.stdout.count("skipped") == 3


@pytest.mark.skipif(not VLLM, reason="vLLM is not installed: pip install -e '.[cpu]'")
def test_a_real_vllm_engine_generates_on_a_worker_of_ray(run: Run) -> None:
    rows = Workspace.existing(run.beside).read(Triplet, "compare")
    assert len(rows) > 24
    assert sum(row.problem is None for row in rows) / len(rows) > 0.5


def test_two_workers_train_a_judge(run: Run) -> None:
    (judge,) = Workspace.existing(run.beside).read(Model, "reward")
    assert judge.role == "judge"


def dataset_rows(workspace: Path) -> dict[str, list[dict[str, object]]]:
    """The exported rows by split."""
    files = sorted((workspace / "dataset" / "data").glob("*.parquet"))
    assert files
    return {path.name: pq.read_table(path).to_pylist() for path in files}


def test_a_run_ends_with_a_policy_a_dataset_and_a_report(small_run: Path) -> None:
    workspace = Workspace.existing(small_run)
    stages = {c["stage"] for c in workspace.commits()}
    assert stages == {*STAGES, "export"}
    roles = {m.role for m in workspace.read(Model)}
    assert {"generator", "judge", "sft", "policy"} <= roles
    assert (small_run / "report" / "index.html").stat().st_size > 10_000
    assert sum(len(rows) for rows in dataset_rows(small_run).values()) > 0
    verified = forked.triptych("lineage", "verify", "-w", small_run)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_every_generated_row_has_a_decision_with_a_reason(small_run: Path) -> None:
    workspace = Workspace.existing(small_run)
    made = {t.id for t in workspace.read(Triplet, "generate")}
    decided = {d.triplet_id: d.reason for d in workspace.read(Decision)}
    assert made == set(decided)
    assert all(decided.values())


def test_the_record_of_a_run_verifies_clean(small_run: Path) -> None:
    clean(small_run)


def test_sft_leaves_questions_to_grpo(small_run: Path) -> None:
    workspace = Workspace.existing(small_run)
    kept = {d.triplet_id for d in workspace.read(Decision) if d.keep}
    stage_of = {m.id: m.stage for m in workspace.read(Model)}
    seen: dict[str, set[str]] = {"sft": set(), "grpo": set()}
    for use in workspace.read(Consumption):
        if stage_of[use.model_id] in seen:
            seen[stage_of[use.model_id]].add(use.row_id)
    left = kept - seen["sft"]
    assert 0 < len(left) < len(kept)
    metrics = next(c["metrics"] for c in workspace.commits() if c["stage"] == "grpo")
    assert metrics["fresh"] == len(left)
    assert len(seen["grpo"] & left) >= min(metrics["rows"], len(left))


def test_refinement_keeps_off_frozen_images(small_run: Path) -> None:
    workspace = Workspace.existing(small_run)
    patients = {image.id: image.group for image in workspace.read(Image)}
    new = workspace.read(Preference, "refine")
    assert new
    assert not any(is_frozen(patients[p.image_id]) for p in new)


def test_a_generated_row_is_made_again_byte_for_byte(small_run: Path) -> None:
    """By the weights that wrote it, with its whole batch."""
    row = Workspace.existing(small_run).read(Triplet, "generate")[0]
    told = forked.triptych("lineage", "reproduce", row.id, "-w", small_run, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["equal"], told.stdout


def test_no_patient_is_in_two_splits(small_run: Path) -> None:
    splits: dict[str, set[str]] = {}
    for image in Workspace.existing(small_run).read(Image):
        splits.setdefault(image.group, set()).add(image.split)
    assert max(len(s) for s in splits.values()) == 1
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_preflight_counts_what_the_run_then_made(small_run: Path) -> None:
    workspace = Workspace.existing(small_run)
    made_by = build(workspace.config, [], "the record")
    told = {(work.stage, work.round): work for work in works(made_by)}
    done = {(c["stage"], c["round"]): c for c in workspace.commits()}
    for place, section in ((("tune", 0), made_by.sft), (("sft", 1), made_by.sft)):
        metrics = done[place]["metrics"]
        assert metrics["steps"] == steps_of(metrics["turns"], section)
        assert metrics["turns"] <= 1.1 * told[place].number  # who asks is drawn by lot
    for place in (("reward", 0), ("refine", 1)):
        if "by_set" in (metrics := done[place]["metrics"]):
            learned = metrics["by_set"]["train"]["rows"] + metrics["by_set"]["train"]["pairs"]
            assert learned > 0
            epochs = made_by.reward.epochs if place[1] == 0 else made_by.reward.refine_epochs
            section = made_by.reward.model_copy(update={"epochs": epochs})
            assert metrics.get("steps", steps_of(learned, section)) == steps_of(learned, section)
    assert done["grpo", 1]["metrics"]["steps"] == told["grpo", 1].steps
    assert done["generate", 1]["rows"]["triplets"] <= told["generate", 1].number
    assert done["judge", 1]["rows"]["judgements"] <= told["judge", 1].number
    assert done["evaluate", 1]["rows"]["evaluations"] <= told["evaluate", 1].number


def test_a_finished_run_is_skipped_and_says_so(small_run: Path) -> None:
    before = dataset_rows(small_run)
    done = forked.triptych("run", "configs/demo.yaml", "-w", small_run, *config(INLINE))
    assert done.returncode == 0
    assert done.stdout.count("skipped") == len(ONCE) + len(ROUND) - 1  # without renew
    assert dataset_rows(small_run) == before


def test_status_trace_and_preview_work_on_a_finished_run(small_run: Path) -> None:
    assert "evaluate" in forked.triptych("status", "-w", small_run).stdout
    workspace = Workspace.existing(small_run)
    row = next(d.triplet_id for d in workspace.read(Decision) if d.keep)
    told = forked.triptych("lineage", "trace", row, "-w", small_run, "--json")
    assert json.loads(told.stdout)
    shown = forked.triptych("preview", "-w", small_run, "--rows", "2", "--set", INLINE)
    assert "confidence" in shown.stdout or "not parsed" in shown.stdout, shown.stderr[-2000:]


def test_another_configuration_is_refused_in_one_line(small_run: Path) -> None:
    done = forked.triptych("run", "configs/demo.yaml", "-w", small_run, *config(INLINE, "seed=5"))
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "another configuration" in done.stderr


def test_the_dataset_loads_without_our_code(small_run: Path, tmp_path: Path) -> None:
    code = (
        "import datasets, sys\n"
        f"d = datasets.load_dataset({str(small_run / 'dataset')!r})\n"
        "row = d['train'][0]\n"
        "assert row['image'].size and row['question'] and row['answer'], row\n"
        "assert not any(m in sys.modules for m in ('engine', 'pipelines'))\n"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _stage_in_progress(workspace: Path, committed: int) -> bool:
    """Whether `committed` stages are done and the next one is at work."""
    if len(list(workspace.glob("events/*/commit.json"))) > committed:
        return True
    return any(workspace.glob("work/*"))


def test_kill_9_in_every_stage_changes_no_row(small_run: Path, tmp_path: Path) -> None:
    """The same command after each kill, without Ray; the rows are those of a calm run on Ray."""
    killed = tmp_path / "killed"
    arguments = ["run", "configs/demo.yaml", *config(INLINE), "-w", str(killed)]
    seconds = [c["seconds"] for c in Workspace.existing(small_run).commits()]
    rng = random.Random(0)
    kills = 0
    for number in range(len(ONCE) + len(ROUND) - 1):
        process = forked.start(tmp_path / "told", *arguments)
        while process.exitcode is None and not _stage_in_progress(killed, number):
            time.sleep(0.02)
        # A moment in the stage, or, where the stage is quick, in one that follows it.
        time.sleep(rng.uniform(0, max(seconds[number] * WITHOUT_RAY, 0.3)))
        if process.exitcode is None:
            process.kill()
            kills += 1
        process.join()
    assert kills >= 8
    done = forked.triptych(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert dataset_rows(killed) == dataset_rows(small_run)
