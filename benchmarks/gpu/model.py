"""The model that is measured: Qwen2.5-VL-7B's shape, or a small one, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from benchmarks.gpu.measures import (
    Figures,
    Options,
    copy_tbs,
    matmul_tflops,
    on_gpu,
    timed,
)
from benchmarks.gpu.rows import PROMPTS
from engine.config import MAX_PIXELS
from engine.config.reward import Reward
from engine.vlm import tiny
from reward_model.settings import SETTINGS, JudgeSettings

VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
}  # fmt: skip
TEXT = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4,
}  # fmt: skip
SMALL_VISION = VISION | {
    "depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2,
    "fullatt_block_indexes": [1],
}  # fmt: skip
SMALL_TEXT = {
    "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip


def model_config(small: bool, tokenizer: Any) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL's configuration with `tokenizer`'s special tokens."""
    text, vision = (SMALL_TEXT, SMALL_VISION) if small else (TEXT, VISION)
    sections = [4, 6, 6] if small else [16, 24, 24]
    token = tokenizer.convert_tokens_to_ids
    rest = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
        "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
        "tie_word_embeddings": False,
    }
    return Qwen2_5_VLConfig(
        text_config=text | rest,
        vision_config=vision | {"out_hidden_size": text["hidden_size"]},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=False,
    )


def build_processor() -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor: true patches and pixel limits, the tiny model's tokenizer."""
    shape: dict[str, Any] = {
        "size": {"shortest_edge": 56 * 56, "longest_edge": MAX_PIXELS},
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape),
        tokenizer=AutoTokenizer.from_pretrained(tiny.FOLDER),
        video_processor=Qwen2VLVideoProcessor(**shape),
        chat_template=tiny.CHAT_TEMPLATE,
    )


def make(options: Options) -> list[Figures]:
    """Random weights, drawn on the device and saved in bfloat16: of the policy and of the judge."""
    row: Figures = {}
    if on_gpu():
        row |= {"matmul_tflops": matmul_tflops(), "copy_tbs": copy_tbs()}
    if (options.model / SETTINGS).exists():
        return [row]
    processor = build_processor()
    config = model_config(options.small, processor.tokenizer)
    torch.manual_seed(0)
    with torch.device("cuda" if on_gpu() else "cpu"):
        draw_s, model = timed(
            lambda: Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
        )
    save_s, _ = timed(lambda: model.save_pretrained(options.model))
    processor.save_pretrained(options.model)
    # A judge's folder is a model's too; its heads start from the weights.
    criteria = {str(name): share for name, share in Reward().criteria.items()}
    settings = JudgeSettings(criteria=criteria, prompts=PROMPTS, max_pixels=MAX_PIXELS)
    settings.save(options.model)
    weights = sum(p.numel() for p in model.parameters())
    return [row | {"weights": weights, "draw_s": round(draw_s, 1), "save_s": round(save_s, 1)}]
