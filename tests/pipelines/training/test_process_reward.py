"""The part of GRPO's reward that is the worst step of a completion's reasoning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.parsing import render_completion
from engine.errors import TriptychError
from pipelines.training.advantages import tempered
from pipelines.training.composite_reward import Reward
from tests.reward_model.test_process import Told

SIDES = ("left", "right")


def said(judge: Any, texts: list[str]) -> list[float]:
    columns = {
        "image_id": ["i"] * len(texts), "question": ["On which side is the cyst?"] * len(texts),
        "options": [list(SIDES)] * len(texts), "gold": ["left"] * len(texts),
    }  # fmt: skip
    return Reward("process", judge, {"i": b"png"})(texts, **columns)


def test_it_is_the_lowest_of_the_prefixes_and_nothing_where_a_step_contradicts() -> None:
    judge: Any = Told([2.0, -1.0, 9.0, 9.0, 9.0], (1.0, 0.0))
    texts = [
        render_completion("It is dark. It is round.", "left"),
        render_completion("It is dark. The cyst is on the right.", "left"),
        render_completion("", "left"),
        "It is dark. No form",
        render_completion("It is dark.", "perhaps"),
    ]
    assert said(judge, texts) == pytest.approx([1 / (1 + np.exp(1)), 0.0, 0.0, 0.0, 0.0])


def test_a_wrong_answer_may_be_well_reasoned() -> None:
    judge: Any = Told([1.0], (1.0, 0.0))
    assert said(judge, [render_completion("The cyst is on the right.", "right")]) == pytest.approx(
        [1 / (1 + np.exp(-1))]
    )


def test_a_score_that_is_not_finite_ends_the_training() -> None:
    judge: Any = Told([1.0, float("nan")], (1.0, 0.0))
    with pytest.raises(TriptychError, match=r"grpo\.reward={judge: 0, process: 0}"):
        said(judge, [render_completion("It is dark. It is round.", "left")])


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_reasoning_makes_no_advantage_where_the_answers_do_not_differ(
    group: list[tuple[bool, float, float]],
) -> None:
    parts = torch.tensor([[float(r), j, p] for r, j, p in group], dtype=torch.float64)
    total = tempered(parts, len(group)) @ torch.tensor([1.0, 0.3, 0.5], dtype=torch.float64)
    advantage, right = total - total.mean(), parts[:, 0] == 1
    if right.all() or not right.any():
        assert not advantage.any()
    else:
        assert (advantage[right] > 0).all()
        assert (advantage[~right] < 0).all()
