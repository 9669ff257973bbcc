"""GRPO stops where the judge likes completions ever better and they are right no more often."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.hacking import series, share
from engine.config import build
from engine.config.training import Grpo, Hacking
from engine.workspace import Stage
from pipelines import grpo
from pipelines.training.grpo import GrpoResult
from pipelines.training.hacking import hacked, hacking_watch, rise

SETTINGS = Hacking()


def stopped_at(judge: list[float], right: list[float]) -> int | None:
    """The step after which a training with this log stops."""
    watch, state = hacking_watch(SETTINGS), SimpleNamespace(log_history=[])
    control = SimpleNamespace(should_training_stop=False)
    for step, (liked, true) in enumerate(zip(judge, right), start=1):
        state.log_history.append({"parts/judge": liked, "parts/correct": true})
        watch.on_log(None, state, control)
        if control.should_training_stop:
            assert watch.reason
            return step
    assert watch.reason is None
    return None


def test_the_judge_rising_alone_stops_a_training() -> None:
    assert share(0.002, 0.0) > 0.9
    assert share(0.002, -0.001) > 0.98


def test_it_stops_at_the_end_of_a_window_and_says_why() -> None:
    judge, right = series(0.004, 0), series(-0.0005, 1)
    assert stopped_at(judge, right) == 50
    told = hacked(judge[:50], right[:50], SETTINGS)
    assert told is not None
    assert told.startswith("over 50 steps the judge's part rose by 0.")


def test_both_rising_go_on() -> None:
    assert share(0.0015, 0.0015) < 0.03


@pytest.mark.parametrize("follow", [0.0, 0.5])
def test_noise_goes_on_also_where_steps_resemble_the_one_before(follow: float) -> None:
    assert share(0.0, 0.0, follow=follow) < 0.05


def test_a_jump_between_two_steps_is_no_slope() -> None:
    judge = [0.4] * 49 + [0.9]
    assert hacked(judge, [0.4] * 50, SETTINGS) is None


def test_answers_that_are_all_right_already_stop_nothing() -> None:
    assert share(0.002, 0.0, start=1.0) == 0.0


def test_a_rise_too_small_to_matter_goes_on() -> None:
    judge = [0.4 + 0.0005 * n for n in range(50)]
    assert rise(judge) == pytest.approx((0.0245, 0.0), abs=1e-9)
    assert hacked(judge, [0.4] * 50, SETTINGS) is None


def test_a_window_of_nothing_and_a_reward_without_judge_stop_nothing() -> None:
    judge, right = series(0.004, 0), series(0.0, 1)
    off = Hacking(window=0)
    assert not any(hacked(judge[:n], right[:n], off) for n in range(1, 300))
    watch, control = hacking_watch(SETTINGS), SimpleNamespace(should_training_stop=False)
    log = [{"parts/correct": value} for value in right]
    watch.on_log(None, SimpleNamespace(log_history=log), control)
    assert not control.should_training_stop


def test_the_error_is_that_of_least_squares_and_larger_where_steps_follow_each_other() -> None:
    rng = np.random.default_rng(0)
    white = np.linspace(0, 1, 50) + rng.normal(0, 0.1, 50)
    (slope, _), covariance = np.polyfit(np.arange(50), white, 1, cov=True)
    assert rise(white)[0] == pytest.approx(49 * slope)
    assert rise(white)[1] == pytest.approx(49 * np.sqrt(covariance[0, 0]), rel=0.3)
    walk = np.cumsum(rng.normal(0, 0.1, 50))
    _, covariance = np.polyfit(np.arange(50), walk, 1, cov=True)
    assert rise(walk)[1] > 1.5 * 49 * np.sqrt(covariance[0, 0])


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({"stopped": None}, None),
        ({"stopped": None, "validation_before": 0.5, "validation": 0.4}, "lost 10.0 points"),
        ({"stopped": "judge", "validation_before": 0.5, "validation": 0.4}, "lost 10.0 points"),
        ({"stopped": "judge", "validation_before": 0.5, "validation": 0.5}, None),
        ({"stopped": "judge"}, "no validation questions to decide"),
    ],
)
def test_validation_decides_of_a_training_that_was_stopped(
    metrics: dict[str, Any], why: str | None
) -> None:
    found = grpo.refused(Grpo(), metrics)
    assert found is None if why is None else why in str(found)


def test_a_stage_says_why_grpo_stopped_and_keeps_what_was_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training alone is a stand-in; there are no validation questions, so SFT stays."""
    rows = [object()] * 3
    result = GrpoResult(
        steps=50, reward_first=0.5, reward=0.7, rewards=(0.5, 0.7), teaching=0.5,
        by_step={"judge": [0.4, 0.8]}, stopped="the judge's part rose",
    )  # fmt: skip
    for name, value in {
        "questions_for_grpo": rows, "fit_policy": result, "validation_accuracy": {},
        "precision": None,
    }.items():  # fmt: skip
        monkeypatch.setattr(grpo, name, lambda *_, value=value: value)
    said: list[str] = []
    display = SimpleNamespace(say=said.append)
    context: Any = SimpleNamespace(
        config=build({}, [], "x"), model=lambda role: role, display=display
    )
    stage = Stage("grpo", 1, "made", tmp_path)
    grpo.grpo(context, stage)
    assert said == [
        "GRPO stopped at step 50: the judge's part rose",
        "GRPO was stopped, and there are no validation questions to decide: SFT stays the policy",
    ]
    assert stage.metrics["stopped"] == "the judge's part rose"
    assert stage.metrics["by_step"] == {"judge": [0.4, 0.8]}
    assert stage.metrics["accepted"] is False
