"""A random stream a request, so that what is sampled for it does not depend on its batch.

One generator for a whole batch gives a row other numbers as soon as the batch is cut otherwise, as
it is where memory runs out; and one seed for all requests gives them all the same numbers.
Up to rounding: a batch's size decides how a device orders its sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.vlm.protocol import Request, Sampling

# Below 1 by more than float32 rounds, so that a number never falls behind the last token.
_BELOW_ONE = 1 - 1e-6


def stream_seed(request: Request, place: int, sampling: Sampling) -> int:
    """The seed of a request's stream, 32 bits: of its own number, else of its place."""
    own = place if request.seed is None else request.seed
    parts = [sampling.seed % 2**64, own % 2**64]
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def uniforms(requests: Sequence[Request], sampling: Sampling) -> list[np.ndarray]:
    """For each request (n, max_tokens) numbers in [0, 1): one a sample and token, in float32."""
    shape = (sampling.n, sampling.max_tokens)
    seeds = (stream_seed(request, place, sampling) for place, request in enumerate(requests))
    return [(np.random.default_rng(s).random(shape) * _BELOW_ONE).astype("float32") for s in seeds]


def inverse_transform(numbers: Any, temperature: float, prompt_length: int) -> Any:
    """A logits processor that leaves the one token that each row's number picks.

    Inverse transform sampling: the first token at which the summed probabilities, at `temperature`,
    exceed the number. `numbers` is a tensor (rows, max_tokens).
    """
    import torch
    from transformers import LogitsProcessor

    class Inverse(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            summed = (scores.float() / temperature).softmax(-1).cumsum(-1)
            wanted = numbers[:, input_ids.shape[1] - prompt_length, None] * summed[:, -1:]
            token = torch.searchsorted(summed, wanted, right=True)
            token = token.clamp(max=scores.shape[-1] - 1)  # where the probabilities are NaN
            return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)

    return Inverse()
