"""Seconds of a GPU, from measured rates.

The rates are of one card and one model with random weights (`docs/gpu.md`), scaled to another model
by its operations. A training's count the forward pass three times where weights learn, twice where
adapters do, once where nothing is asked backward, and once more where checkpointing computes it
again. Writing goes by tokens, as transformers wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from engine.config.training import Grpo, Optimiser, Sft
from engine.vlm.known import known_models
from pipelines.training.preflight.shapes import Seen, Shape, shape_of

Rates = Mapping[str, Any]


@cache
def rates() -> Rates:
    """What was measured, from `rates.json`."""
    told = resources.files(__package__).joinpath("rates.json").read_text("utf-8")
    return dict(json.loads(told))


def passes(section: Optimiser) -> tuple[int, int]:
    """Forward passes that a step counts as, of the language model and of the vision tower.

    One backward pass is two: for the weights, which LoRA leaves out, and for what went in.
    """
    language = 2 if section.lora_rank else 3
    still = section.freeze_vision or (section.lora_rank > 0 and section.lora_targets == "language")
    return language, 1 if still else language


def training_seconds(shape: Shape, section: Optimiser, row: Seen, rows: float) -> float:
    """GPU-seconds in which rows are learned from, each once."""
    said, seen = shape.operations([row])
    language, tower = passes(section)
    again = section.checkpointing is not False
    work = (language + again) * said + (tower + (again and tower > 1)) * seen
    compiled = isinstance(section, Sft) and section.compile
    return rows * work / (rates()["compiled" if compiled else "trained"]["tflops"] * 1e12)


def reading_seconds(shape: Shape, row: Seen, rows: float) -> float:
    """GPU-seconds in which rows are read."""
    return rows * sum(shape.operations([row])) / (rates()["reading"]["tflops"] * 1e12)


def writing_seconds(shape: Shape, tokens: float, how: str = "writing") -> float:
    """GPU-seconds in which tokens are written, their prompts read among it."""
    return tokens / rates()[how]["tokens_per_s"] * _of_a_token(shape) / _of_a_token(_measured())


def step_seconds(
    policy: Shape, judge: Shape | None, section: Grpo, asked: Seen, judged: Seen
) -> float:
    """GPU-seconds of a step of GRPO for each of a worker's completions."""
    tokens, patches, _ = asked
    learned = (tokens + section.max_tokens, patches, section.max_tokens)
    seconds = writing_seconds(policy, section.max_tokens, "rollout") / section.iterations
    if judge:
        seconds += reading_seconds(judge, judged, 1) / section.iterations
    seconds += training_seconds(policy, section, learned, 1)
    return seconds / (1 - rates()["rest_of_rollout"])


@cache
def _measured() -> Shape:
    return shape_of(known_models()[rates()["model"]]["config"])


def _of_a_token(shape: Shape) -> float:
    return shape.operations([(1, 0, 1)])[0]
