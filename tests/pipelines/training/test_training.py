"""Trainings that are interrupted go on from their last checkpoint to the same weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.config import MAX_PIXELS
from engine.config.reward import Reward
from engine.config.training import Grpo, RewardWeights, Sft
from engine.prompts import answer_prompt, judge_prompt
from engine.trainer import last_checkpoint, rate, write_training_set
from engine.training_job import TrainingJob
from engine.vlm import tiny
from generators import phantoms
from pipelines.training.grpo import GrpoJob, grpo_classes, train_grpo
from pipelines.training.sft import SftJob, train_sft
from reward_model.model import load_reward_model
from reward_model.settings import JudgeSettings
from reward_model.training import JudgeJob, train_judge
from tests.judge_rows import example
from tests.pictures import shown, workspace_of
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

IMAGES = [shown(phantoms.to_display(phantoms.draw("MR", n, 64))) for n in range(16)]
QUESTION, OPTIONS = "Is there a cyst?", ("yes", "no")
PROMPT = answer_prompt("compact", QUESTION, OPTIONS, "direct")
SETTINGS = JudgeSettings(
    criteria={"factuality": 1.0}, prompts="compact", max_pixels=MAX_PIXELS, calibration=(1.0, 0.0)
)
Train = Callable[[Any], Any]  # of a kind of job, to its kind of result


def said(answer: str) -> str:
    return judge_prompt("compact", QUESTION, OPTIONS, "", answer)


def write_rows(folder: Path, row: dict[str, Any]) -> None:
    """A training set of sixteen rows that differ in their pictures."""
    workspace_of(folder / "workspace", IMAGES)
    write_training_set(folder / "data", [{"image_id": i, **row} for i in IMAGES])


def judge(folder: Path) -> JudgeJob:
    row = example(said("no"), said("yes"))
    del row["image_id"]
    write_rows(folder, row)
    section = Reward(batch=4, epochs=1, save_steps=2)
    return job_in(folder, section, JudgeJob, holdout=folder / "holdout", settings=SETTINGS)


def judge_lora(folder: Path) -> JudgeJob:
    return judge(folder).with_section(lora_rank=4)


def sft(folder: Path) -> SftJob:
    write_rows(folder, {"prompt": PROMPT, "completion": "<answer>no</answer>"})
    return job_in(folder, Sft(batch=4, epochs=1, save_steps=2), SftJob)


def sft_loaded(folder: Path) -> SftJob:
    return sft(folder).with_section(loaders=1)


def sft_lora(folder: Path) -> SftJob:
    return sft(folder).with_section(lora_rank=4)


def sft_in_order(folder: Path) -> SftJob:
    """Three steps an epoch and one of the next: an order that is lost anywhere is seen."""
    job = sft(folder)
    rows = [
        {"image_id": i, "prompt": PROMPT, "completion": "<answer>no</answer>" + " no" * (n % 5)}
        | {"width": 64, "height": 64, "level": float(n % 3)}
        for n, i in enumerate(IMAGES)
    ]
    write_training_set(job.data, rows)
    return job.with_section(batch=6, epochs=4 / 3, order="curriculum", group_by_length=True)


def grpo(folder: Path) -> GrpoJob:
    row = {"prompt": PROMPT, "question": QUESTION, "options": list(OPTIONS), "gold": "no"}
    write_rows(folder, row)
    section = Grpo(
        batch=8, group=4, steps=4, max_tokens=12, temperature=2, save_steps=2,
        reward=RewardWeights(judge=0.0),
    )  # fmt: skip
    judge, processor = load_reward_model(str(tiny.FOLDER))
    judge.save(folder / "judge", SETTINGS)
    processor.save_pretrained(folder / "judge")
    return job_in(folder, section, GrpoJob, judge=str(folder / "judge"))


class Stopped(Exception):
    """In place of a `kill -9`."""


@pytest.mark.parametrize(
    ("train", "given"),
    [
        (train_judge, judge),
        (train_judge, judge_lora),
        (train_sft, sft),
        (train_sft, sft_loaded),
        (train_sft, sft_lora),
        (train_sft, sft_in_order),
        (train_grpo, grpo),
    ],
)
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    train: Train,
    given: Callable[[Path], TrainingJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = given(tmp_path)
    train(found)
    weights, checkpoints = tmp_path / "weights", tmp_path / "weights.checkpoints"
    calm = load_file(weights / "model.safetensors")
    untrained = load_file(tiny.FOLDER / "model.safetensors")
    assert not all(torch.equal(calm[name], untrained[name].float()) for name in untrained)
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-4"]
    shutil.rmtree(weights)
    shutil.rmtree(checkpoints)

    write = Path.write_text

    def stop_at_three(path: Path, text: str, **options: Any) -> int:
        if path.suffix == ".progress" and text.startswith("3 "):
            raise Stopped
        return write(path, text, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", stop_at_three)
        with pytest.raises(Stopped):
            train(found)
    whole, half = checkpoints / "checkpoint-2", checkpoints / "checkpoint-3"
    shutil.copytree(whole, half)
    (half / "trainer_state.json").unlink()
    assert last_checkpoint(found) == str(whole)

    assert train(found).steps == 4
    again = load_file(weights / "model.safetensors")
    assert calm.keys() == again.keys()
    for name, tensor in calm.items():
        assert torch.equal(tensor, again[name]), name


@pytest.mark.parametrize("steps", [1, 2, 6, 10, 11, 300])
def test_no_step_of_a_training_is_at_a_learning_rate_of_nothing(steps: int) -> None:
    warmup = -(-steps // 10)
    rates = [rate(step, warmup, steps) for step in range(steps)]
    assert min(rates) > 0
    assert max(rates) == rates[warmup - 1] == 1
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup - 1 :] == sorted(rates[warmup - 1 :], reverse=True)


def test_a_training_of_one_step_changes_weights(tmp_path: Path) -> None:
    assert train_sft(sft(tmp_path).with_section(batch=16, save_steps=0)).steps == 1
    trained = load_file(tmp_path / "weights" / "model.safetensors")
    untrained = load_file(tiny.FOLDER / "model.safetensors")
    assert not all(torch.equal(trained[name], untrained[name].float()) for name in untrained)


def test_grpo_on_transformers_does_not_load_vllm() -> None:
    """TRL does wherever it is installed: four seconds of each training, and logging set up anew."""
    grpo_classes()
    from trl.generation import vllm_generation

    assert not hasattr(vllm_generation, "LLM")
