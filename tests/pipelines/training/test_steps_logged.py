"""What is kept of every step of a real GRPO, to its end or to where it was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.config.training import Hacking, RewardWeights
from engine.vlm import tiny
from pipelines.training import grpo as training
from tests.pipelines.training.test_advantages import WEIGHTS, Fed
from tests.pipelines.training.test_training import grpo

pytestmark = pytest.mark.loop


def test_every_part_of_the_reward_is_kept_by_step(tmp_path: Path) -> None:
    """The real parts; an answer has four tokens, so most lose the one for their length."""
    reward = RewardWeights(judge=0.3, process=0.2, length=0.2, buffer=1.0)
    job = grpo(tmp_path).with_section(reward=reward, steps=2, save_steps=0, max_tokens=4)
    kept = training.train_grpo(job).by_step
    parts = ("correct", "judge", "process", "format", "length")
    assert set(kept) >= {*parts, *training.LOGGED}
    assert kept["step"] == [1, 2]
    assert all(0 <= value <= 1 for name in parts for value in kept[name] if value is not None)
    for step in range(2):
        values = {name: kept[name][step] or 0.0 for name in (*parts, "composite", "tokens")}
        expected = sum(weight * values[name] for name, weight in reward.weights.items())
        assert values["composite"] == pytest.approx(expected, abs=2e-3)
        assert values["length"] == pytest.approx(1 - values["tokens"] / 4, abs=2e-3)


def test_a_training_stops_where_its_judge_is_fooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the answers are right at every step, and the judge's part rises; two tokens are few."""
    rising = np.linspace(0.1, 0.9, 12).repeat(4).tolist()
    parts = [Fed("correct", [1.0, 1.0, 0.0, 0.0] * 12), Fed("judge", rising)]
    monkeypatch.setattr(training, "reward_parts", lambda *_: parts)
    job = grpo(tmp_path).with_section(
        batch=4, steps=12, save_steps=0, max_tokens=2, reward=WEIGHTS, hacking=Hacking(window=8)
    )
    done = training.train_grpo(job)
    assert done.steps == len(done.rewards) == 8
    assert str(done.stopped).startswith("over 8 steps the judge's part rose by 0.51")
    assert done.by_step["judge"] == pytest.approx(np.linspace(0.1, 0.9, 12)[:8], abs=1e-3)
    assert min(done.by_step["truncated"]) > 0.5  # type: ignore[type-var]
    trained = load_file(tmp_path / "weights" / "model.safetensors")
    untrained = load_file(tiny.FOLDER / "model.safetensors")
    assert not all(torch.equal(trained[name], untrained[name].float()) for name in untrained)
