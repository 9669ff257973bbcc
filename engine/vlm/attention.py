"""One attention call for all images of a batch in Qwen2.5-VL's vision tower.

Without flash-attention, transformers loops over images and layers in Python, which on a CPU costs
more than the arithmetic. Images of one size (the tiny VLM's always are) fit one batched call.
"""

from __future__ import annotations

from typing import Any

NAME = "batched_flash_sdpa"


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """Attention within each chunk of (1, heads, total, d); returns (1, total, heads, d)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    bounds = kwargs["cu_seq_lens_q"]
    lengths = (bounds[1:] - bounds[:-1]).tolist()
    scale = kwargs.get("scaling")
    if len(set(lengths)) == 1:
        _, heads, total, width = query.shape
        n, length = len(lengths), lengths[0]
        q, k, v = (t.reshape(heads, n, length, width).transpose(0, 1) for t in (query, key, value))
        out = sdpa(q, k, v, scale=scale)  # (n, heads, length, width)
        return out.transpose(1, 2).reshape(1, total, heads, width), None
    chunks = (torch.split(t, lengths, dim=2) for t in (query, key, value))
    out = torch.cat([sdpa(q, k, v, scale=scale) for q, k, v in zip(*chunks)], dim=2)
    return out.transpose(1, 2), None


def batch_vision_attention(model: Any) -> Any:
    """Let `model`'s vision tower attend to all images of a batch at once, and return the model.

    Does nothing to models without a Qwen2.5-VL vision tower, or where flash-attention is in use.
    """
    from transformers import AttentionInterface

    visual = getattr(getattr(model, "model", None), "visual", None)
    config = getattr(visual, "config", None)
    if getattr(config, "model_type", "").startswith("qwen2_5_vl") and config is not None:
        if "flash" not in (config._attn_implementation or ""):
            AttentionInterface.register(NAME, _attend)
            config._attn_implementation = NAME
    return model
