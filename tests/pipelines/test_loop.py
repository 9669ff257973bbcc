"""The loop as a user runs it: from one command to a policy, a dataset and a report."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.config import load
from engine.records import Consumption, Decision, Evaluation, Image, Model, Preference, Triplet
from engine.workspace import Workspace
from pipelines.loop import ONCE, ROUND
from reward_model.preferences import in_holdout
from tests.conftest import ROOT, TRIPTYCH, small, triptych

INLINE = "cluster.address=inline"
PAIRED = ("workers=2", "save_steps=1")


def dataset_rows(workspace: Path) -> dict[str, list[dict[str, object]]]:
    """The exported rows by split."""
    files = sorted((workspace / "dataset" / "data").glob("*.parquet"))
    assert files
    return {path.name: pq.read_table(path).to_pylist() for path in files}


def test_a_run_ends_with_a_policy_a_dataset_and_a_report(small_run: Path) -> None:
    workspace = Workspace.existing(small_run)
    stages = {c["stage"] for c in workspace.commits()}
    assert stages == {*ONCE, *ROUND, "export"}
    roles = {m.role for m in workspace.read(Model)}
    assert {"generator", "judge", "sft", "policy"} <= roles
    assert (small_run / "report" / "index.html").stat().st_size > 10_000
    assert sum(len(rows) for rows in dataset_rows(small_run).values()) > 0
    verified = triptych("lineage", "verify", "-w", small_run)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_every_generated_row_has_a_decision_with_a_reason(small_run: Path) -> None:
    workspace = Workspace.existing(small_run)
    made = {t.id for t in workspace.read(Triplet, "generate")}
    decided = {d.triplet_id: d.reason for d in workspace.read(Decision)}
    assert made == set(decided)
    assert all(decided.values())


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
    config = load(ROOT / "configs" / "demo.yaml")
    new = Workspace.existing(small_run).read(Preference, "refine")
    assert new
    assert not any(in_holdout(p.image_id, config.expert.holdout) for p in new)


def test_a_generated_row_is_made_again_byte_for_byte(small_run: Path) -> None:
    """By the weights that wrote it, with its whole batch."""
    row = Workspace.existing(small_run).read(Triplet, "generate")[0]
    told = triptych("lineage", "reproduce", row.id, "-w", small_run, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["equal"], told.stdout


def test_no_patient_is_in_two_splits(small_run: Path) -> None:
    splits: dict[str, set[str]] = {}
    for image in Workspace.existing(small_run).read(Image):
        splits.setdefault(image.group, set()).add(image.split)
    assert max(len(s) for s in splits.values()) == 1
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_a_finished_run_is_skipped_and_says_so(small_run: Path) -> None:
    before = dataset_rows(small_run)
    done = triptych("run", "configs/demo.yaml", "-w", small_run, *small(INLINE))
    assert done.returncode == 0
    assert done.stdout.count("skipped") == len(ONCE) + len(ROUND)
    assert dataset_rows(small_run) == before


def test_status_trace_and_preview_work_on_a_finished_run(small_run: Path) -> None:
    assert "evaluate" in triptych("status", "-w", small_run).stdout
    workspace = Workspace.existing(small_run)
    row = next(d.triplet_id for d in workspace.read(Decision) if d.keep)
    told = triptych("lineage", "trace", row, "-w", small_run, "--json")
    assert json.loads(told.stdout)
    shown = triptych("preview", "-w", small_run, "--rows", "2", "--set", INLINE)
    assert "confidence" in shown.stdout or "not parsed" in shown.stdout, shown.stderr[-2000:]


def test_another_configuration_is_refused_in_one_line(small_run: Path) -> None:
    done = triptych("run", "configs/demo.yaml", "-w", small_run, *small(INLINE, "seed=5"))
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


def test_kill_9_in_every_stage_changes_no_row(tmp_path: Path) -> None:
    """The same command after each kill; the dataset equals that of an undisturbed run."""
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    arguments = ["run", "configs/demo.yaml", *small(INLINE)]
    done = triptych(*arguments, "-w", calm)
    assert done.returncode == 0, done.stderr[-3000:]
    seconds = [c["seconds"] for c in Workspace.existing(calm).commits()]
    rng = random.Random(0)
    kills = 0
    for number in range(len(ONCE) + len(ROUND)):
        command = [str(TRIPTYCH), *arguments, "-w", str(killed)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not _stage_in_progress(killed, number):
            time.sleep(0.02)
        # A moment in the stage, or, where the stage is quick, in one that follows it.
        time.sleep(rng.uniform(0, max(seconds[number], 0.3)))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 8
    done = triptych(*arguments, "-w", killed)
    assert done.returncode == 0, done.stderr[-3000:]
    assert dataset_rows(killed) == dataset_rows(calm)


@pytest.fixture
def ray_head() -> str:
    """A Ray cluster of this machine, started as an administrator would."""
    ray = str(TRIPTYCH.with_name("ray"))
    env = os.environ | {"OMP_WAIT_POLICY": "passive"}
    start = [ray, "start", "--head", "--port=6399", "--num-cpus=2", "--dashboard-port=8299"]
    subprocess.run([*start, "--disable-usage-stats"], check=True, capture_output=True, env=env)
    yield "127.0.0.1"
    subprocess.run([ray, "stop", "--force"], check=True, capture_output=True)


def test_stage_commands_and_a_submitted_job_share_a_cluster(ray_head: str, tmp_path: Path) -> None:
    """`ray start --head`, the first stages one by one, then `triptych submit` does the rest.

    Judge and SFT have two workers each and write checkpoints.
    """
    two = [f"{name}.{key}" for name in ("reward", "sft") for key in PAIRED]
    config = small(*two, "cluster.threads=1")
    env = {"RAY_ADDRESS": f"{ray_head}:6399"}
    workspace = tmp_path / "run"
    first = triptych("ingest", "configs/demo.yaml", "-w", workspace, *config, env=env)
    assert first.returncode == 0, first.stderr[-3000:]
    assert Workspace.existing(workspace).latest["cluster"] == {
        "address": None, "cpus": None, "threads": 1
    }  # fmt: skip
    for stage in ("seed", "tune"):
        done = triptych(stage, "-w", workspace, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
    url = f"http://{ray_head}:8299"
    job = triptych(
        "submit", "configs/demo.yaml", "--address", url, "-w", workspace, *config, env=env
    )
    assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
    assert job.stdout.count("skipped") == 3
    assert (workspace / "report" / "index.html").exists()


def test_generation_runs_on_a_real_vllm_engine(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed: pip install -e '.[cpu]'")
    workspace = tmp_path / "run"
    config = small("generator.backend=vllm", "grpo.steps=0", "reward.refine_pairs=0")
    done = triptych("run", "configs/demo.yaml", "-w", workspace, *config, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    rows = Workspace.existing(workspace).read(Triplet, "generate")
    assert len(rows) > 24
    assert sum(r.problem is None for r in rows) / len(rows) > 0.5
    roles = {m.role for m in Workspace.existing(workspace).read(Model)}
    assert "sft" in roles
    assert "policy" not in roles  # no steps, no GRPO


def test_grpo_that_loses_on_validation_is_rolled_back(tmp_path: Path) -> None:
    """A rate of 1 ruins the weights; the SFT model stays the policy, and the report says so."""
    ruin = small("grpo.lr=1", "grpo.tolerance=0", INLINE)
    done = triptych("run", "configs/demo.yaml", "-w", tmp_path / "run", *ruin)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SFT stays the policy" in done.stdout
    assert "as SFT" in done.stdout
    workspace = Workspace.existing(tmp_path / "run")
    metrics = next(c["metrics"] for c in workspace.commits() if c["stage"] == "grpo")
    assert metrics["validation"] < metrics["validation_before"]
    assert "policy" not in {m.role for m in workspace.read(Model)}
    answered = {e.model_id for e in workspace.read(Evaluation) if e.arm in ("sft", "policy")}
    assert answered == {m.id for m in workspace.read(Model) if m.role == "sft"}
    assert "rolled back" in (tmp_path / "run" / "report" / "index.html").read_text()
    verified = triptych("lineage", "verify", "-w", tmp_path / "run")
    assert verified.returncode == 0, verified.stdout + verified.stderr
