"""A number that is not finite ends a training, rejects a row, and is never compared."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine.config.reward import Reward
from engine.config.select import Select
from engine.errors import TriptychError
from engine.records import Task
from engine.statistics import auc, auc_interval, cluster_bootstrap
from engine.trainer import arguments_of, resumable, watched
from engine.training_job import TrainingJob
from engine.vlm import tiny
from engine.vlm.protocol import Request, Sample, Sampling
from generators.proposer import ProposerSettings, propose
from pipelines.training.grpo import train_grpo
from pipelines.training.sft import train_sft
from reward_model.calibration import fit_platt
from reward_model.measure import scored
from reward_model.model import load_reward_model
from reward_model.scoring import Judge
from reward_model.threshold import KEPT, UNJUDGED, UNSURE, choose, decide
from reward_model.training import train_judge
from tests import judge_rows
from tests.pictures import PNG
from tests.pipelines.training import test_training as trainings
from tests.reward_model.test_select import judged, opinion, reasons, row
from tests.round_workspace import make_image
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop

NO_NUMBERS = [math.nan, math.inf, -math.inf]
no_number = pytest.mark.parametrize("value", NO_NUMBERS)


# Selection


@no_number
def test_a_judge_without_a_finite_score_keeps_nothing(value: float) -> None:
    rows = [row(question=q) for q in range(18)]
    decided = decide(rows, judged(*((t, value) for t in rows)), Select(keep=0.5), 1)
    assert reasons(decided) == {t.id: UNJUDGED for t in rows}
    assert not any(d.keep for d in decided)


@no_number
def test_a_probability_that_is_no_number_keeps_nothing(value: float) -> None:
    rows = [row(question=q) for q in range(4)]
    opinions = {t.id: opinion(t, 1.0, value) for t in rows}
    assert set(reasons(decide(rows, opinions, Select(keep=1), 1)).values()) == {UNJUDGED}


@no_number
def test_a_log_probability_that_is_no_number_rejects_its_row_alone(value: float) -> None:
    bad, good = row(0, logprob=value), row(1)
    decided = reasons(decide([bad, good], judged((bad, 9), (good, 0)), Select(keep=0.5), 1))
    assert decided == {bad.id: UNSURE, good.id: KEPT}


def test_of_one_question_the_rows_that_have_numbers_are_compared() -> None:
    bad, good = row(answer="left"), row(answer="right", sample=1)
    opinions = judged((bad, math.nan), (good, -3.0))
    choice = choose([bad, good], opinions, Select())
    assert choice is not None
    assert choice.triplet == good
    assert reasons(decide([bad, good], opinions, Select(keep=1), 1)) == {
        bad.id: UNJUDGED,
        good.id: KEPT,
    }


def test_a_row_without_a_judgement_is_rejected() -> None:
    assert reasons(decide([row()], {}, Select(), 1)) == {row().id: UNJUDGED}


@given(st.lists(st.sampled_from([*NO_NUMBERS, -1.0, 0.0, 2.0]), min_size=1, max_size=12))
def test_whatever_the_numbers_a_kept_row_has_finite_ones(scores: list[float]) -> None:
    rows = [row(question=n // 3, sample=n) for n in range(len(scores))]
    kept = {
        d.triplet_id for d in decide(rows, judged(*zip(rows, scores)), Select(keep=1), 1) if d.keep
    }
    assert {t.id for t, score in zip(rows, scores) if not math.isfinite(score)}.isdisjoint(kept)


# Generation


class Model:
    """Says one question and its answer, with a log-probability."""

    def __init__(self, logprob: float) -> None:
        self.logprob = logprob

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        text = "<question>Is it right?</question><options></options>"
        answer = "<answer>yes</answer>"
        said = text if sampling.n == 1 else answer
        return [[Sample(said, self.logprob, 3)] * sampling.n for _ in requests]


@no_number
def test_a_sample_whose_log_probability_is_no_number_is_a_row_with_a_problem(value: float) -> None:
    pair = make_image(0, "g", "train").id, Task.make("CT", "modality", "easy", "open", "direct")
    plan = ProposerSettings("g", "compact", 2, 1.0, 1.0, 10, 0, 1)
    assert [t.problem for t in propose(Model(-0.5), PNG, [pair], plan)] == [None, None]
    found = propose(Model(value), PNG, [pair], plan)
    assert [t.problem for t in found] == ["log-probability: not a finite number"] * 2
    assert all(math.isfinite(t.logprob) for t in found)


# Statistics


@no_number
def test_statistics_refuse_what_is_no_number(value: float) -> None:
    for work in (
        lambda: auc([1.0, value], [1, 0]),
        lambda: auc_interval([1.0, value], [1, 0], [0, 1], seed=0),
        lambda: cluster_bootstrap([1.0, value], [0, 1], seed=0),
        lambda: fit_platt(np.array([1.0, value]), np.array([True, False])),
    ):
        with pytest.raises(TriptychError, match=r"1 of 2 .* are not finite numbers"):
            work()


# The judge


@pytest.fixture(scope="module")
def blank_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of which one head gives NaN."""
    folder = tmp_path_factory.mktemp("judge")
    model, processor = load_reward_model(str(tiny.FOLDER))
    with torch.no_grad():
        model.heads.bias[1] = math.nan
    model.save(folder, trainings.SETTINGS)
    processor.save_pretrained(folder)
    return folder


def test_a_row_that_the_judge_gives_no_number_has_no_judgement(blank_judge: Path) -> None:
    image = make_image(0, "g", "train")
    asked = replace(row(), image_id=image.id)
    assert Judge(str(blank_judge), "judge", 1).judge([asked], {image.id: PNG[image.id]}) == []


def test_a_judge_that_gives_no_numbers_is_not_measured(blank_judge: Path, tmp_path: Path) -> None:
    image = make_image(0, "g", "train")
    judge_rows.write(tmp_path, [judge_rows.example("a", "b", image_id=image.id)])
    with pytest.raises(TriptychError, match="no finite score for any of 1 frozen examples"):
        scored(Judge(str(blank_judge), "judge", 1), tmp_path, PNG)


# Trainings


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a NaN among its weights."""
    folder = tmp_path_factory.mktemp("poisoned") / "model"
    shutil.copytree(tiny.FOLDER, folder)
    weights = load_file(folder / "model.safetensors")
    norm = next(
        name
        for name in weights
        if name.endswith("language_model.norm.weight") or name == "model.norm.weight"
    )
    weights[norm][0] = math.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("train", "given", "stage", "what"),
    [
        (train_judge, trainings.judge, "refine", "loss"),
        (train_sft, trainings.sft, "tune", "loss"),
        (train_grpo, trainings.grpo, "grpo", "probabilities"),
    ],
)
def test_a_loss_that_is_no_number_ends_the_training_by_stage_and_step(
    train: Callable[[Any], Any],
    given: Callable[[Path], TrainingJob],
    stage: str,
    what: str,
    poisoned: Path,
    tmp_path: Path,
) -> None:
    job = replace(given(tmp_path), model=str(poisoned), stage=stage)
    with pytest.raises(
        TriptychError, match=rf"{stage}: not a finite number at step 1 \({what}"
    ) as e:
        train(job)
    assert f"lower {job.section_name}.lr, which is 0.0005" in str(e.value)
    assert not (tmp_path / "weights").exists()


def test_a_rate_that_ruins_the_weights_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(TriptychError, match=r"sft: not a finite number at step 1 \(weights"):
        train_sft(replace(trainings.sft(tmp_path).with_section(lr=1e39), stage="sft"))


class Root(torch.nn.Module):
    """Its loss is 0 and the gradient of it infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.weight.sqrt().sum()}


def test_a_gradient_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    from transformers import Trainer

    job = job_in(tmp_path, Reward(batch=1, epochs=1), stage="reward")
    rows = [{"x": torch.zeros(1)}] * 2
    trainer = resumable(Trainer)(model=Root(), args=arguments_of(job), train_dataset=rows)
    with pytest.raises(TriptychError, match=r"reward: not a finite number at step 1 \(gradient"):
        watched(trainer, job).train()
