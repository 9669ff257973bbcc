"""Attention within chunks of a packed sequence: each call for many chunks equals a loop."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention as sdpa

from engine.vlm.attention import _attend, _takes_any_lengths

HEADS, WIDTH = 2, 8


def packed(lengths: list[int]) -> list[torch.Tensor]:
    """Random query, key and value of (1, HEADS, total, WIDTH)."""
    draw = torch.Generator().manual_seed(0)
    shape = (1, HEADS, sum(lengths), WIDTH)
    return [torch.randn(shape, generator=draw).requires_grad_() for _ in range(3)]


def attend(tensors: list[torch.Tensor], lengths: list[int]) -> torch.Tensor:
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    given: dict[str, Any] = {"cu_seq_lens_q": bounds, "max_length_q": max(lengths)}
    return _attend(None, *tensors, None, scaling=0.3, **given)[0]


def looped(tensors: list[torch.Tensor], lengths: list[int]) -> torch.Tensor:
    chunks = zip(*(torch.split(t, lengths, dim=2) for t in tensors))
    return torch.cat([sdpa(q, k, v, scale=0.3) for q, k, v in chunks], 2).transpose(1, 2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_chunks_of_any_lengths_in_any_order_are_attended_as_one_by_one(lengths: list[int]) -> None:
    tensors = packed(lengths)
    found, expected = attend(tensors, lengths), looped(tensors, lengths)
    assert found.shape == (1, sum(lengths), HEADS, WIDTH)
    assert torch.allclose(found, expected, atol=1e-6)
    weight = torch.randn_like(expected)
    got, wanted = (torch.autograd.grad((o * weight).sum(), tensors) for o in (found, expected))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, wanted))


def test_equal_lengths_take_one_call_and_others_one_a_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[torch.Size] = []

    def counting(q: torch.Tensor, *more: Any, **options: Any) -> torch.Tensor:
        calls.append(q.shape)
        return sdpa(q, *more, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    attend(packed([4] * 5), [4] * 5)
    attend(packed([4, 2, 4, 4, 2]), [4, 2, 4, 4, 2])
    assert [(shape[0], shape[2]) for shape in calls] == [(5, 4), (3, 4), (2, 2)]


def test_half_precision_on_ampere_takes_any_lengths_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def takes(kind: str, dtype: torch.dtype, width: int, major: int) -> bool:
        found = type("Properties", (), {"major": major})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
        return _takes_any_lengths(torch.device(kind), dtype, width)

    assert takes("cuda", torch.bfloat16, 80, 9)
    assert takes("cuda", torch.float16, 80, 8)
    assert not takes("cpu", torch.bfloat16, 80, 9)
    assert not takes("cuda", torch.float32, 80, 9)
    assert not takes("cuda", torch.bfloat16, 20, 9)
    assert not takes("cuda", torch.bfloat16, 80, 7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "apart"), [(torch.bfloat16, 1e-2), (torch.float32, 1e-5)])
def test_on_a_gpu_attention_is_that_of_a_cpu(dtype: torch.dtype, apart: float) -> None:
    lengths = [64, 64, 48, 16, 64, 12]
    tensors = packed(lengths)
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device="cuda")
    given: dict[str, Any] = {"cu_seq_lens_q": bounds, "max_length_q": max(lengths)}
    there = [t.to("cuda", dtype) for t in tensors]
    found = _attend(None, *there, None, scaling=0.3, **given)[0].cpu().float()
    expected = looped(tensors, lengths)
    assert float((found - expected).norm() / expected.norm()) < apart
