"""`triptych preflight`: what it prints, what it refuses, and which setting it names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.commands.preflight
from engine.config import load
from engine.pixels import to_png
from generators.phantoms.dicom import write_cohort
from pipelines.commands.inspection import picture_sizes
from tests.commands import Done, command
from tests.test_imports import ROOT, after

CONFIGS = ROOT / "configs"
SEVEN = CONFIGS / "medgr2-7b.yaml"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder without a run in it, on a wide terminal, without GPUs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(pipelines.commands.preflight, "gpus_here", lambda: [])


def preflight(config: Path, *settings: str, options: tuple[str, ...] = ()) -> Done:
    words = [word for setting in settings for word in ("--set", setting)]
    return command("preflight", config, *words, *options)


def told(config: Path, *settings: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    done = preflight(config, *settings, options=(*options, "--json"))
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(found["problems"])
    return found


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_ours_passes_without_the_hub(path: Path) -> None:
    done = preflight(path)
    assert done.returncode == 0, done.stdout
    assert "nothing was found that cannot fit" in done.stdout
    assert "never reached" not in done.stdout


def test_what_a_run_takes_is_printed() -> None:
    done = preflight(SEVEN, options=("--rate", "2.5"))
    for part in (
        "8,292,166,656", "cc594898", "1,432 tokens at most", "Adam's moments", "keys and values",
        "gradients that workers exchange", "50,000", "GPU-hours", "money: ", "disk: ", "not known:",
    ):  # fmt: skip
        assert part in done.stdout, part


def test_training_all_of_a_7b_does_not_fit_80_gb_and_the_setting_is_named() -> None:
    found = told(SEVEN, "sft.lora_rank=0")
    (line,) = found["problems"]
    assert re.fullmatch(
        r"sft: \d{3}\.\d GiB, \d+\.\d more than the 72\.7 that can be had: set "
        r"sft\.lora_rank=64 \(\d\d\.\d GiB\)",
        line,
    )


def test_a_refusal_is_one_line_on_a_narrow_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = preflight(SEVEN, "sft.lora_rank=0")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "✗" in line]
    assert "set sft.lora_rank=64" in line


def test_grpo_keeps_its_batches_as_large_as_fit() -> None:
    """It draws a step's completions at once, so that a smaller batch alone saves nothing."""
    problems = told(SEVEN, options=("--gpu-memory", "40"))["problems"]
    (line,) = [problem for problem in problems if problem.startswith("grpo: ")]
    assert "set grpo.batch=4 and grpo.accumulate=4 (" in line


def test_a_remedy_suffices() -> None:
    small = ("--gpu-memory", "24")
    for section in ("sft", "reward"):
        found = told(SEVEN, options=small)
        line = next((p for p in found["problems"] if p.startswith(f"{section}: ")), None)
        if line:
            changed = re.findall(rf"({section}\.\w+=\w+)", line)
            assert changed
            again = told(SEVEN, *changed, options=small)
            assert not any(p.startswith(f"{section}: ") for p in again["problems"])


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    found = told(
        SEVEN,
        "sft.lora_rank=0",
        "generator.backend={kind: vllm, gpus: 1, max_model_len: 2048}",
        "generator.model=Qwen/Qwen2.5-VL-72B-Instruct",
        "generator.actors=16",
        "evaluate.backend.gpus=8",
        "evaluate.actors=1",
        "cluster.host_memory=8",
        options=("-w", str(tmp_path / "run")),
    )
    problems = "\n".join(found["problems"])
    for part in (
        "set generator.backend.max_model_len=",
        "set sft.lora_rank=64",
        "set generator.backend.gpus=2",
        "generate: 16 processes of 1 GPUs are 16, and there are 8: set generator.actors=8",
        "28 heads are not spread evenly over 8 GPUs: set evaluate.backend.gpus=1",
        "of the host's memory",
    ):
        assert part in problems, part
    assert all("\n" not in line for line in found["problems"])


def test_a_prompt_that_the_backend_does_not_hold_is_refused() -> None:
    (line,) = told(CONFIGS / "demo.yaml", "generator.backend.max_model_len=64")["problems"]
    assert line.startswith("answering: ")
    assert line.endswith("set generator.backend.max_model_len=256")


def test_a_disk_that_is_full_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pipelines.commands.preflight, "_left", lambda folder: 10 * 2**30)
    (line,) = told(SEVEN, options=("-w", str(tmp_path / "run")))["problems"]
    assert re.match(r"disk: \d+ GiB, \d+ more than the workspace's place has left", line)


def test_a_checkpoint_that_is_never_reached_is_told() -> None:
    found = told(SEVEN, "sft.save_steps=500", "grpo.save_steps=0")
    assert found["problems"] == []
    never, lost = sorted(found["warnings"], reverse=True)
    assert never.startswith("sft.save_steps 500 is never reached, and no checkpoint written: ")
    assert re.search(r"sft of round 3 \(\d+ steps\): set sft\.save_steps=\d+$", never)
    assert lost.startswith("grpo.save_steps is 0, and an interruption costs more than an hour")


def test_a_model_that_is_nowhere_is_told_and_the_rest_is_printed() -> None:
    found = told(SEVEN, "reward.model=nobody/nothing")
    assert any(line.startswith("nobody/nothing is no folder") for line in found["unknown"])
    stages = {stage["name"] for stage in found["memory"]}
    assert {"sft", "generate", "grpo"} <= stages
    assert "reward" not in stages
    nothing = told(SEVEN, "model=nobody/nothing", "reward.model=null")
    assert nothing["memory"] == []
    assert any(stage["steps"] for stage in nothing["stages"])


def test_without_a_known_gpu_nothing_is_held_to_one() -> None:
    found = told(SEVEN, "sft.lora_rank=0", "cluster.gpu_memory=null", "cluster.gpus=null")
    assert found["problems"] == []
    assert any("give --gpu-memory" in line for line in found["unknown"])
    here = told(SEVEN, "sft.lora_rank=0", "cluster.gpu_memory=null", options=("--gpu-memory", "40"))
    assert "set sft.lora_rank=64" in here["problems"][0]


def test_this_machines_gpus_count_where_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.commands.preflight, "gpus_here", lambda: [81559, 40960])
    found = told(SEVEN, "cluster.gpu_memory=null", "cluster.gpus=null")
    machine = found["machine"]
    assert (machine["gpu_memory"], machine["gpus"]) == (40.0, 2)
    assert (
        "sft: 8 processes of 1 GPUs are 8, and there are 2: set sft.workers=2" in found["problems"]
    )


def test_on_a_cpu_no_time_is_told() -> None:
    found = told(CONFIGS / "demo.yaml")
    assert (found["hours"], found["money"]) == (None, None)
    assert "time: no rate was measured without a GPU" in found["unknown"]


def test_judges_without_a_gpu_share_the_host() -> None:
    def rows(actors: int) -> int:
        values = ("reward.gpus=0", f"reward.actors={actors}")
        found = told(SEVEN, *values, options=("--host-memory", "64"))
        (judge,) = [one for one in found["memory"] if one["name"] == "judge"]
        assert judge["processes"] == actors
        return int(judge["held"]["rows"])

    assert rows(3) < rows(1)


def test_money_is_for_all_gpus_while_any_works() -> None:
    found = told(SEVEN, "reward.actors=1", options=("--rate", "3"))
    assert found["money"] == pytest.approx(3 * 8 * found["hours"])
    assert found["gpu_hours"] < 8 * found["hours"]  # one process judges


def test_pictures_of_the_folder_are_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    assert len([*write_cohort(folder / "dicom", {"MR": 3}, 96, 0, 0.3)]) == 3
    rng = np.random.default_rng(0)
    (folder / "one.png").write_bytes(to_png(rng.integers(0, 255, (300, 700), np.uint8)))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "notes.txt").write_text("no picture")
    sizes, number = picture_sizes(folder)
    assert sorted(sizes) == [(96, 96)] * 3 + [(700, 300)]
    assert number == 5
    found = told(SEVEN, f"source.path={folder}")
    assert found["picture_tokens"]["most"] == 25 * 11
    assert found["picture_tokens"]["seen"] == 4
    assert found["disk"]["pictures"] == pytest.approx(5 * (3 * 96**2 + 700 * 300) / 4)


def test_nobody_to_ask_is_an_error_of_a_line() -> None:
    done = preflight(CONFIGS / "vqa-rad.yaml", "expert=none")
    assert done.returncode == 2
    assert "there is nobody to ask" in done.stderr


def test_nothing_that_computes_is_loaded() -> None:
    code = (
        "import sys; from pipelines.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'ray', 'trl') if m in sys.modules])"
    )
    ran = after(code, "preflight", str(SEVEN))
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_a_configuration_says_for_which_gpus_it_is() -> None:
    for name in ("medgr2-7b", "medgr2-7b-lora", "medgr2-3b"):
        cluster = load(CONFIGS / f"{name}.yaml").cluster
        assert cluster.gpus
        assert cluster.gpu_memory
        assert cluster.host_memory
