"""What preflight works out, beside what was measured on one H200 with random weights (docs/gpu.md).

    python -m benchmarks.preflight          # a second, without torch

The pictures there had 324, 729, 1,280 and 1,296 tokens in turn, and a row about 1,055 of which 86 %
were the picture's: 148 of words. A batch is as wide as its longest row. Prints the table of
docs/preflight.md and ends with one line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from engine.config.training import Grpo, Sft
from engine.vlm.known import known_models
from pipelines.training.preflight.cost import training_seconds
from pipelines.training.preflight.memory import (
    GIB,
    Batch,
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
COMPILED = LORA.model_copy(update={"compile": True})
WIDE = COMPILED.model_copy(update={"batch": 8})
ALL = Sft(batch=8, accumulate=1, bf16=True, checkpointing=True, compile=True, gpus=1)
FULL = Sft(batch=2, accumulate=4, bf16=True, checkpointing=False, gpus=1)
GRPO = Grpo(
    lora_rank=64, lora_targets="all", batch=8, accumulate=4, group=8, max_tokens=128, bf16=True,
    kl=0.02, checkpointing=True, gpus=1,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """What was measured, in GiB or seconds, and how the same is worked out."""

    what: str
    measured: float
    unit: str
    worked_out: Callable[[], float]


def seven() -> Shape:
    """Qwen2.5-VL-7B."""
    return shape_of(known_models()["Qwen/Qwen2.5-VL-7B-Instruct"]["config"])


def rows(number: int, patches: float = MEAN) -> Batch:
    """A batch of so many rows, with pictures of so many patches."""
    return Batch(rows=number, tokens=WIDEST, patches=patches, scored=SCORED)


def trained(section: Sft, patches: float = 4 * 1296) -> float:
    """GiB of SFT; of rows of like length those that were counted have the largest pictures."""
    return training(seven(), section, rows(section.batch, patches), True, True).total / GIB


def all_in_bf16() -> float:
    """As the measured run had it: weights, gradients and moments in bf16, 8 bytes a weight.

    Of the pairs that came up, the widest are two pictures of 1,280 tokens and more.
    """
    shape = seven()
    held = training(shape, FULL, rows(2, 4 * 1296), True, True)
    return (held.total - sum(states(shape, FULL, True).values()) + 8 * shape.weights) / GIB


def written(samples: int, tokens: int) -> float:
    """GiB of transformers' generation, 16 requests."""
    return writing(seven(), rows(16), samples, tokens, True, None).total / GIB


def grpo() -> float:
    """GiB of GRPO with a judge of the same shape."""
    asked = Batch(rows=1, tokens=WIDEST, patches=MEAN)
    answered = Batch(rows=1, tokens=WIDEST + GRPO.max_tokens, patches=MEAN)
    return rollout(seven(), seven(), GRPO, asked, answered, True, None).total / GIB


def learned(section: Sft) -> float:
    """Seconds of a step of SFT, of rows with the largest pictures, 1,348 tokens each."""
    row = (1296 + 52, 4 * 1296, SCORED)
    return section.batch * section.accumulate * training_seconds(seven(), section, row, 1)


CASES = (
    Case("SFT, LoRA of rank 64, batch 4", 52.5, "GiB", lambda: trained(LORA)),
    Case("the same, compiled", 44.9, "GiB", lambda: trained(COMPILED)),
    Case("the same, compiled, batch 8", 71.3, "GiB", lambda: trained(WIDE)),
    Case(
        "SFT, LoRA in all layers, batch 4, checkpointed", 22.5, "GiB",
        lambda: trained(EVERYWHERE, MEAN),
    ),
    Case(
        "SFT of all weights, batch 8, compiled and checkpointed", 125.3, "GiB",
        lambda: trained(ALL),
    ),
    Case(
        "the same in bf16 with moments in bf16, batch 2, neither (at `5ca20e2`)", 102.8, "GiB",
        all_in_bf16,
    ),
    Case(
        "judge, 32 rows at once", 25.5, "GiB",
        lambda: judging(seven(), rows(32), True, None).total / GIB,
    ),
    Case("generate, 16 requests, one sample, one token", 20.3, "GiB", lambda: written(1, 1)),
    Case("generate, 16 requests × 8 samples × 256 tokens", 50.4, "GiB", lambda: written(8, 256)),
    Case(
        "GRPO, 8 × 4 completions of 128 tokens, LoRA in all layers, judge of 7B, KL", 48.8, "GiB",
        grpo,
    ),
    Case(
        "a step of SFT of all weights, 8 rows, by the rate of LoRA", 1.81, "s",
        lambda: learned(ALL),
    ),
)  # fmt: skip


def main() -> None:
    """Print the table and the line of JSON."""
    print("| | measured | worked out | |\n| --- | ---: | ---: | ---: |")
    told = []
    for case in CASES:
        found, digits = case.worked_out(), 1 if case.unit == "GiB" else 2
        apart = found / case.measured - 1
        cells = (f"{n:.{digits}f} {case.unit}" for n in (case.measured, found))
        print(f"| {case.what} | {' | '.join(cells)} | {f'{apart:+.0%}'.replace('%', ' %')} |")
        told.append(
            {"what": case.what, "measured": case.measured, "worked_out": round(found, digits)}
        )
    print(json.dumps({"benchmark": "preflight", "cases": told}))


if __name__ == "__main__":
    main()
