"""The vision tower's attention: how long a forward pass takes, how far it is from float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AutoConfig, AutoProcessor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel as Tower,
)

from benchmarks.gpu.measures import Figures, Options, forward, on_gpu, one_line
from benchmarks.gpu.rows import PROMPTS, STYLE, rows_about
from engine.config import MAX_PIXELS
from engine.vlm import attention
from engine.vlm.inputs import encode
from engine.vlm.protocol import Request
from pipelines.training.grpo import questions_of


def _looped(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """`engine.vlm.attention._attend`, one call a chunk."""
    bounds, scale = kwargs["cu_seq_lens_q"], kwargs.get("scaling")
    lengths = (bounds[1:] - bounds[:-1]).tolist()
    chunks = zip(*(torch.split(t, lengths, dim=2) for t in (query, key, value)))
    return torch.cat([sdpa(q, k, v, scale=scale) for q, k, v in chunks], 2).transpose(1, 2), None


def _exact(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """The same in float32, whatever the tower is in."""
    q, k, v = (t.float() for t in (query, key, value))
    out, _ = _looped(module, q, k, v, attention_mask, **kwargs)
    return out.to(query.dtype), None


def _by_length(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """What `_attend` does where torch takes no chunks of unequal lengths."""
    bounds, scale = kwargs["cu_seq_lens_q"], kwargs.get("scaling")
    return attention._by_length(query, key, value, bounds, scale), None


@contextmanager
def attending(how: Any) -> Iterator[None]:
    """The vision tower attends by `how` in the place of `engine.vlm.attention._attend`."""
    with patch.object(attention, "_attend", how):
        yield


def looped() -> Any:
    """A context in which the vision tower attends by one call a chunk."""
    return attending(_looped)


def vision(options: Options) -> list[Figures]:
    """Forward passes of the tower alone, and how far in norm they are from float32."""
    rows, _, pngs = rows_about(4, options.small)
    asked = questions_of(rows, PROMPTS, STYLE)
    requests = [Request(pngs[row["image_id"]], row["prompt"]) for row in asked]
    device = "cuda" if on_gpu() else "cpu"
    inputs = encode(AutoProcessor.from_pretrained(options.model), requests, MAX_PIXELS).to(device)
    torch.manual_seed(0)
    with torch.device(device):
        config = AutoConfig.from_pretrained(options.model).vision_config
        tower: Any = Tower._from_config(config, dtype=torch.bfloat16).eval()
    model = torch.nn.Module()
    model.model = torch.nn.Module()
    model.model.visual = tower
    half = [
        ("ours", attention._attend),
        ("one call a length", _by_length),
        ("one call a chunk", _looped),
        ("float32 attention in a bf16 tower", _exact),
    ]
    found = [_passed(model, inputs, name, how) for name, how in half]
    tower.float()
    whole = [("ours in float32", attention._attend), ("one call a chunk in float32", _looped)]
    found += [_passed(model, inputs, name, how) for name, how in whole]
    return [_told(row, result, found) for row, result in found]


def _passed(model: Any, inputs: Any, name: str, how: Any) -> tuple[Figures, Any]:
    """(figures of the tower's forward pass, its result in float32; None where it failed)."""
    tower = model.model.visual
    tower.config._attn_implementation = "sdpa"
    pixels, grid = inputs["pixel_values"].to(tower.dtype), inputs["image_grid_thw"]
    row: Figures = {"note": name, "batch": f"{len(grid)}", "patches": len(pixels)}
    try:
        with attending(how):
            attention.batch_vision_attention(model)
            median, result = forward(lambda: tower(pixels, grid))
    except Exception as error:
        return row | {"error": one_line(error)}, None
    return row | {"step_s": round(median, 4)}, result.last_hidden_state.float()


def _told(row: Figures, result: Any, found: list[tuple[Figures, Any]]) -> Figures:
    """A row with its distance in norm from a float32 tower, and from float32 attention alone."""
    exact, whole = found[3][1], found[-1][1]
    apart = {}
    for name, other in (("from_float32", whole), ("from_float32_attention", exact)):
        if result is not None and other is not None:
            apart[name] = round(float((result - other).norm() / other.norm()), 7)
    return row | apart
