"""Centred Bradley-Terry: -log sigmoid(r_chosen - r_rejected) + c (r_chosen + r_rejected)^2.

The second term (Eisenstein et al., arXiv 2312.09244) centres scores at zero, without which a score
could not be compared between questions.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

CENTRE = 0.02


def loss(scores: Tensor, tiers: Tensor) -> Tensor:
    """Of each pair; tiers do not count."""
    chosen, rejected = scores
    return -logsigmoid(chosen - rejected) + CENTRE * (chosen + rejected) ** 2
