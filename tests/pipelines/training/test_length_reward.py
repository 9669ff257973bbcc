"""The part of GRPO's reward that a completion loses as it nears `grpo.max_tokens`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.training import RewardWeights
from pipelines.training.composite_reward import Length, reward_parts


def told(lengths: list[int], max_tokens: int = 100, buffer: float = 0.2) -> list[float]:
    ids = [[7] * n for n in lengths]
    return Length(max_tokens, buffer)([""] * len(ids), completion_ids=ids, options=[])


def test_it_falls_in_the_buffer_alone() -> None:
    """A buffer of 20 of 100 tokens: 1 to the eightieth, 0 at the last."""
    assert told([1, 80, 85, 90, 99, 100]) == pytest.approx([1, 1, 0.75, 0.5, 0.05, 0])


@given(st.integers(1, 512), st.integers(1, 512), st.floats(0.01, 1))
def test_it_is_dapos_punishment_plus_one(n: int, most: int, buffer: float) -> None:
    """Equation 13 of arXiv 2503.14476, L_max = max_tokens, L_cache = buffer."""
    cache = buffer * most
    punished = 0.0 if n <= most - cache else (most - cache - n) / cache if n <= most else -1.0
    assert told([n], most, buffer) == pytest.approx([punished + 1], abs=1e-9)


def test_it_is_off_unless_it_has_a_weight() -> None:
    names = [p.__name__ for p in reward_parts(RewardWeights(judge=0), "", {}, 1, 40)]
    assert names == ["correct", "format"]
    weighted = RewardWeights(judge=0, length=0.2, buffer=0.5)
    *_, part = reward_parts(weighted, "", {}, 1, 40)
    assert isinstance(part, Length)
    assert part([""] * 2, completion_ids=[[1] * 20, [1] * 30]) == [1.0, 0.5]
