"""Tokens of a picture are those of transformers' own processor."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import MAX_PIXELS
from engine.vlm import tiny
from engine.vlm.inputs import shown_size
from engine.vlm.known import known_models
from pipelines.training.preflight.images import Processor, pictures, processor_of
from pipelines.training.preflight.models import describe

QWEN = processor_of(known_models()["Qwen/Qwen2.5-VL-7B-Instruct"]["processor"])
SIDES = st.integers(1, 4000)


@given(SIDES, SIDES, st.sampled_from([28 * 28, 56 * 56, 200_000, MAX_PIXELS, 12_845_056]))
def test_a_picture_has_the_tokens_that_qwens_processor_gives_it(
    width: int, height: int, budget: int
) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    across, down = shown_size((width, height), budget)
    rows, columns = smart_resize(
        down, across, QWEN.side, min_pixels=QWEN.min_pixels, max_pixels=QWEN.max_pixels
    )
    assert QWEN.tokens((width, height), budget) == rows * columns // QWEN.side**2


@given(SIDES, SIDES, st.integers(16 * 16, 10**6), st.integers(16 * 16, 10**6))
def test_other_limits_are_kept_too(width: int, height: int, low: int, high: int) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    least, most = min(low, high), max(low, high)
    processor = Processor(patch=8, merge=2, min_pixels=least, max_pixels=most)
    width, height = shown_size((width, height), 10**6)  # of at most 100 to 1
    rows, columns = smart_resize(height, width, 16, min_pixels=least, max_pixels=most)
    assert processor.grid(width, height) == (columns // 16, rows // 16)


@given(SIDES, SIDES, st.sampled_from([28 * 28, 100_000, MAX_PIXELS]))
def test_no_picture_has_more_than_the_most(width: int, height: int, budget: int) -> None:
    assert QWEN.tokens((width, height), budget) <= QWEN.most(budget)


def test_the_most_is_more_than_the_budget_over_a_tokens_pixels() -> None:
    """A strip's short side is rounded up, so that a budget of 1,280 tokens is passed."""
    assert QWEN.tokens((1001, 1001), MAX_PIXELS) == 1296
    assert QWEN.most(MAX_PIXELS) == 1432
    assert math.isclose(MAX_PIXELS / QWEN.side**2, 1280)


def test_the_tiny_models_squares_are_sixteen_tokens() -> None:
    assert describe(str(tiny.FOLDER)).processor.tokens((128, 128), MAX_PIXELS) == 16


def test_sizes_that_were_seen_take_the_place_of_the_worst() -> None:
    seen = pictures(QWEN, MAX_PIXELS, [(512, 512), (768, 768)])
    assert (seen.most, seen.mean, seen.seen) == (729, (324 + 729) / 2, 2)
    assert pictures(QWEN, MAX_PIXELS, []).seen == 0


@pytest.mark.parametrize("name", known_models())
def test_known_processors_are_qwens(name: str) -> None:
    assert processor_of(known_models()[name]["processor"]) == QWEN
