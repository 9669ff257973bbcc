"""What the benchmark on a GPU divides by: the operations of a forward pass."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.measures import counted, forward_operations
from benchmarks.gpu.model import build_processor, model_config


def test_operations_are_those_of_the_weights_and_of_attention() -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration

    config = model_config(False, build_processor().tokenizer)
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    assert sum(p.numel() for p in model.parameters()) == 8_292_166_656

    def weights(part: torch.nn.Module) -> int:
        return sum(p.numel() for p in part.parameters() if p.ndim > 1)

    tower = model.model.visual
    tokens, patches, scored = 1000, 3600, 17
    products = weights(model.model.language_model.layers) * tokens
    products += weights(model.lm_head) * scored
    products += (weights(tower.blocks) + weights(tower.patch_embed)) * patches
    products += weights(tower.merger) * patches // 4
    causal = 2 * 28 * 3584 * tokens**2
    windows = 4 * 1280 * patches * (4 * patches + 28 * 64)
    found = forward_operations(config, [(tokens, patches, scored)])
    assert found == pytest.approx(2 * products + causal + windows, rel=1e-9)


def test_padding_and_what_is_not_scored_do_not_count() -> None:
    inputs = {
        "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]),
        "image_grid_thw": torch.tensor([[1, 2, 4], [1, 4, 4]]),
        "labels": torch.tensor([[-100, -100, -100, 7], [-100, -100, 8, 9]]),
    }
    assert counted(inputs) == [(3, 8, 1), (4, 16, 2)]
    del inputs["labels"]
    assert counted(inputs) == [(3, 8, 0), (4, 16, 0)]
