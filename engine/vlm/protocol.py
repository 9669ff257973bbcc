"""One protocol for every model that looks at an image and writes text.

Batches of (image, chat) in; texts and log-probabilities out. Three implementations: transformers
(the embedded default), vLLM, and any OpenAI-compatible endpoint. `backends.open_vlm` picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One user turn about one image. `png` None asks without an image.

    `seed` tells its random stream from those of other requests in a sampling; None: its place does.
    `form` is a regular expression that the whole reply is held to as it is written; a backend that
    cannot (transformers) leaves the reply free, and one that can gives log-probabilities of what
    the form leaves.
    """

    png: bytes | None
    text: str
    seed: int | None = None
    form: str | None = None

    def messages(self, image: Any = None) -> list[dict[str, Any]]:
        """The chat in transformers' form; `image` fills the image part."""
        part: dict[str, Any] = {"type": "image"} | ({"image": image} if image is not None else {})
        parts = [part] if self.png is not None else []
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.text}]}]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. Temperature 0 is greedy; the same seeds give the same texts in any batch."""

    n: int = 1
    temperature: float = 1.0
    max_tokens: int = 48
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A sampled text, the mean log-probability of its tokens (at temperature 1), their number.

    `logprob` is None where it is not known. `problem` says why there is no text: one request that
    cannot be answered ends no batch.
    """

    text: str
    logprob: float | None
    tokens: int
    problem: str | None = None


class VLM(Protocol):
    """What a backend must do."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        """`sampling.n` samples for each request, in the order of the requests.

        A request that cannot be answered has one sample, with its problem.
        """
        ...
