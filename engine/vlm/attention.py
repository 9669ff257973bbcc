"""One attention call for all chunks of a batch in Qwen2.5-VL's vision tower.

A chunk is an image or a window of one. Without flash-attention, transformers loops over chunks and
layers in Python, which costs more than the arithmetic. Here one call takes all chunks: on a GPU
torch's attention over chunks of any lengths, else a batched one for each length that occurs. The
tiny VLM's images have one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

NAME = "batched_flash_sdpa"  # `flash` in it has transformers work out the longest chunk


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """Attention within each chunk of (1, heads, total, d); returns (1, total, heads, d)."""
    import torch

    bounds, scale = kwargs["cu_seq_lens_q"], kwargs.get("scaling")
    if _takes_any_lengths(query.device, query.dtype, query.shape[-1]):
        out = _at_once(query, key, value, bounds, int(kwargs["max_length_q"]), scale)
    else:
        out = torch.compiler.disable(_by_length)(query, key, value, bounds, scale)
    return out, None


def _takes_any_lengths(device: Any, dtype: Any, width: int) -> bool:
    """Whether `varlen_attn` takes heads of such a width: half precision, on Ampere and later."""
    import torch

    fits = dtype in (torch.bfloat16, torch.float16) and width % 8 == 0 and width <= 256
    return device.type == "cuda" and fits and torch.cuda.get_device_properties(device).major >= 8


def _at_once(query: Any, key: Any, value: Any, bounds: Any, longest: int, scale: Any) -> Any:
    """`_attend` of chunks whose (n + 1) `bounds` are on the GPU, the `longest` in tokens."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (t[0].transpose(0, 1).contiguous() for t in (query, key, value))  # (total, heads, d)
    out: Any = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scale)
    return out[None]


def _by_length(query: Any, key: Any, value: Any, bounds: Any, scale: Any) -> Any:
    """`_attend` on any device, chunks of equal length together; a graph would be of one batch."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    starts = bounds.tolist()
    lengths = [after - start for start, after in pairwise(starts)]
    outs, places = [], []
    for length in dict.fromkeys(lengths):
        begins = torch.tensor([s for s, n in zip(starts, lengths) if n == length])
        place = (begins[:, None] + torch.arange(length)).to(query.device)  # (n, length)
        alone = len(begins) == len(lengths)
        shape = (query.shape[1], *place.shape, query.shape[-1])
        q, k, v = (
            (t.reshape(shape) if alone else t[0, :, place]).transpose(0, 1)
            for t in (query, key, value)
        )
        out = sdpa(q, k, v, scale=scale).transpose(1, 2)  # (n, length, heads, d)
        outs.append(out.reshape(-1, *out.shape[2:]))
        places.append(place.reshape(-1))
    joined = torch.cat(outs)
    return (joined if len(outs) == 1 else joined[torch.cat(places).argsort()])[None]


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


def right_padded(model: Any) -> Any:
    """Let `model` attend without a mask where it is Qwen2.5-VL, and return it.

    For batches padded on the right alone, as SFT's are: no token sees what stands behind it, so the
    mask changes padding's own outputs only, and without one torch takes faster kernels.
    """
    if getattr(model.config, "model_type", "") == "qwen2_5_vl":
        model.register_forward_pre_hook(_without_mask, with_kwargs=True)
    return model


def _without_mask(module: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return given, named | {"attention_mask": None}


def steady_kernels() -> None:
    """Take no attention of cuDNN, which works out a plan for every new length: 0.14 s a batch."""
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)
