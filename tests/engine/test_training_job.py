"""A training's job: what it crosses to other processes as, and that nothing changes it there."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.config.reward import Reward
from engine.config.training import Grpo, Sft
from engine.training_job import TrainingJob
from pipelines.training.grpo import GrpoJob
from reward_model.settings import JudgeSettings
from reward_model.training import JudgeJob
from tests.training_jobs import job_in

FOLDER = Path("/run/stage")
SETTINGS = JudgeSettings(criteria={"factuality": 0.6}, prompts="compact", max_pixels=2**20)
JOBS = [
    job_in(FOLDER, Sft(lr=1e-4)),
    job_in(FOLDER, Grpo(steps=3), GrpoJob, judge="/run/judge"),
    job_in(FOLDER, Reward(), JudgeJob, holdout=FOLDER / "holdout", settings=SETTINGS),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.section_name)
def test_a_job_is_the_same_in_another_process(job: TrainingJob) -> None:
    again = pickle.loads(pickle.dumps(job))
    assert again == job
    assert type(again) is type(job)


def test_neither_a_job_nor_its_section_can_be_changed() -> None:
    job = JOBS[0]
    with pytest.raises(FrozenInstanceError):
        job.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        job.section.lr = 1.0  # type: ignore[misc]
    assert job.with_section(lr=1.0).section.lr == 1.0
    assert job.section.lr == 1e-4


def test_what_stands_beside_the_weights_has_their_name() -> None:
    assert JOBS[0].beside(".checkpoints") == FOLDER / "weights.checkpoints"
    assert [job.section_name for job in JOBS] == ["sft", "grpo", "reward"]
