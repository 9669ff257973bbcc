"""Memory and time beside what was measured on one H200 with random weights (docs/gpu.md).

The pictures there had 324, 729, 1,280 and 1,296 tokens in turn, and a row about 1,055 of which 86 %
were the picture's: 148 of words. A batch is as wide as its longest row.
"""

from __future__ import annotations

import pytest

from engine.config.training import Grpo, Optimiser, Sft
from engine.vlm.known import known_models
from pipelines.training.preflight.cost import (
    reading_seconds,
    training_seconds,
    writing_seconds,
)
from pipelines.training.preflight.memory import (
    GIB,
    Batch,
    engine,
    judging,
    rollout,
    states,
    training,
    writing,
)
from pipelines.training.preflight.shapes import Shape, shape_of

IMAGES, WORDS, SCORED = (324, 729, 1280, 1296), 148, 17
WIDEST, MEAN = max(IMAGES) + WORDS, 4 * sum(IMAGES) / 4
EVERYWHERE = Sft(
    lora_rank=64, lora_targets="all", batch=4, accumulate=4, bf16=True, checkpointing=True, gpus=1
)
LORA = Sft(lora_rank=64, batch=4, accumulate=4, bf16=True, checkpointing=False, gpus=1)
GRPO = Grpo(
    lora_rank=64, lora_targets="all", batch=8, accumulate=4, group=8, max_tokens=128, bf16=True,
    kl=0.02, checkpointing=True, gpus=1,
)  # fmt: skip
FULL = Sft(batch=2, accumulate=4, bf16=True, checkpointing=False, gpus=1)
ALL = Sft(batch=8, accumulate=1, bf16=True, checkpointing=True, compile=True, gpus=1)


def seven() -> Shape:
    return shape_of(known_models()["Qwen/Qwen2.5-VL-7B-Instruct"]["config"])


def compiled(section: Sft, **changed: int) -> Sft:
    return section.model_copy(update={"compile": True, **changed})


def rows(number: int, patches: float = MEAN) -> Batch:
    return Batch(rows=number, tokens=WIDEST, patches=patches, scored=SCORED)


def trained(section: Sft, *, alike: bool = True) -> float:
    """Rows of like length together: those that count have the largest pictures."""
    batch = rows(section.batch, 4 * 1296 if alike else MEAN)
    return training(seven(), section, batch, True, True).total


def all_in_bf16() -> float:
    """As the measured run had it: weights, gradients and moments in bf16, 8 bytes a weight.

    Of the pairs that came up, the widest are two pictures of 1,280 tokens and more.
    """
    shape = seven()
    held = training(shape, FULL, rows(2, 4 * 1296), True, True)
    return held.total - sum(states(shape, FULL, True).values()) + 8 * shape.weights


def judged() -> float:
    return judging(seven(), rows(32), True, None).total


def written(samples: int, tokens: int) -> float:
    return writing(seven(), rows(16), samples, tokens, True, None).total


def grpo() -> float:
    asked = Batch(rows=1, tokens=WIDEST, patches=MEAN)
    answered = Batch(rows=1, tokens=WIDEST + GRPO.max_tokens, patches=MEAN)
    return rollout(seven(), seven(), GRPO, asked, answered, True, None).total


@pytest.mark.parametrize(
    ("estimate", "measured"),
    [
        pytest.param(lambda: trained(LORA), 52.5, id="LoRA"),
        pytest.param(lambda: trained(compiled(LORA)), 44.9, id="LoRA, compiled"),
        pytest.param(lambda: trained(compiled(LORA, batch=8)), 71.3, id="LoRA, compiled, wide"),
        pytest.param(lambda: trained(EVERYWHERE, alike=False), 22.5, id="LoRA in all layers"),
        pytest.param(lambda: trained(ALL), 125.3, id="all weights"),
        pytest.param(all_in_bf16, 102.8, id="all weights in bf16"),
        pytest.param(judged, 25.5, id="judge"),
        pytest.param(lambda: written(1, 1), 20.3, id="generate, one sample"),
        pytest.param(lambda: written(8, 256), 50.4, id="generate, eight samples"),
        pytest.param(grpo, 48.8, id="GRPO"),
    ],
)
def test_memory_is_within_15_per_cent_of_what_was_measured(estimate, measured: float) -> None:  # type: ignore[no-untyped-def]
    assert estimate() / GIB == pytest.approx(measured, rel=0.15)


def mixed(seconds) -> float:  # type: ignore[no-untyped-def]
    """Mean of what a function gives of a row with each of the pictures."""
    each = [seconds((image + WORDS, 4 * image, SCORED)) for image in IMAGES]
    return sum(each) / len(each)


def learned(section: Sft) -> float:
    """Seconds of a step, of rows with the largest pictures."""
    row = (1296 + 52, 4 * 1296, SCORED)
    return section.batch * section.accumulate * training_seconds(seven(), section, row, 1)


@pytest.mark.parametrize(
    ("estimate", "measured"),
    [
        pytest.param(lambda: learned(LORA), 2.41, id="LoRA"),
        pytest.param(lambda: learned(compiled(LORA)), 1.68, id="LoRA, compiled"),
        pytest.param(lambda: learned(ALL), 1.81, id="all weights"),
        pytest.param(
            lambda: 32 * mixed(lambda row: reading_seconds(seven(), row, 1)), 4.37, id="judge"
        ),
        pytest.param(lambda: writing_seconds(seven(), 16 * 8 * 256), 47.3, id="generate"),
    ],
)
def test_rates_give_back_the_seconds_that_were_measured(estimate, measured: float) -> None:  # type: ignore[no-untyped-def]
    """That of all weights was not taken: it is LoRA's, of more operations."""
    assert estimate() == pytest.approx(measured, rel=0.15)


def test_all_weights_take_sixteen_bytes_each_and_autocasts_two() -> None:
    shape = seven()
    parts = states(shape, FULL, True)
    assert sum(parts.values()) == 18 * shape.weights
    assert parts["weights"] / GIB == pytest.approx(30.9, abs=0.1)


def test_workers_hold_a_second_copy_of_the_gradients() -> None:
    alone, many = (
        sum(states(seven(), EVERYWHERE.model_copy(update={"workers": n}), True).values())
        for n in (1, 8)
    )
    assert many - alone == 4 * seven().adapters(64, True)


def test_four_bits_leave_the_tower_and_the_embeddings_as_they_are() -> None:
    shape, section = seven(), Sft(lora_rank=64, bf16=True, lora_bits=4, gpus=1)
    weights = states(shape, section, True)["weights"]
    assert weights == pytest.approx(
        2 * (shape.weights - shape.quantised) + 0.515875 * shape.quantised
    )


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"checkpointing": True}, {"checkpointing": False}),
        ({"batch": 2}, {"batch": 4}),
        ({"lora_targets": "language"}, {"lora_targets": "all"}),
        ({"lora_bits": 4}, {}),
        ({"lora_rank": 64}, {"lora_rank": 0}),
        ({"lora_rank": 0, "freeze_vision": True}, {"lora_rank": 0}),
    ],
)
def test_what_is_meant_to_save_memory_does(
    less: dict[str, object], more: dict[str, object]
) -> None:
    def total(values: dict[str, object]) -> float:
        section: Optimiser = LORA.model_copy(update=values)
        return training(seven(), section, rows(section.batch), True, True).total

    assert total(less) < total(more)


def test_a_reference_model_is_held_only_where_all_weights_learn() -> None:
    asked = Batch(rows=1, tokens=WIDEST, patches=MEAN)

    def parts(**values: object) -> dict[str, float]:
        section = GRPO.model_copy(update=values)
        return rollout(seven(), None, section, asked, asked, True, None).parts

    assert "reference model" not in parts()
    assert "reference model" in parts(lora_rank=0)
    assert "reference model" not in parts(lora_rank=0, kl=0)


def test_rows_are_halved_until_they_fit_as_the_judge_does() -> None:
    shape = seven()
    held = judging(shape, rows(64), True, 20 * GIB)
    assert held.rows == 32 // 2
    assert held.total <= 20 * GIB
    assert judging(shape, rows(64), True, 1 * GIB).rows == 1


def test_an_engine_has_for_its_cache_what_is_left() -> None:
    shape = seven()
    held = engine(shape, 1, 0.92, 4096, 80 * GIB)
    assert held.total == pytest.approx(0.92 * 80 * GIB)
    assert held.rows == held.parts["keys and values"] // (4096 * 4 * 512 * 28)
    assert engine(shape, 1, 0.92, 4096, 16 * GIB).rows == 0
