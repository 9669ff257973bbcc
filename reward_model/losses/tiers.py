"""MedGR2's regression on quality tiers: squared error of the score against the row's tier.

Tiers of [-6, 10] are scaled to [-1, 1].
"""

from __future__ import annotations

from torch import Tensor


def loss(scores: Tensor, tiers: Tensor) -> Tensor:
    """Of each pair: the mean of its two rows."""
    return ((scores - (tiers - 2) / 8) ** 2).mean(0)
