"""A model's replies, read; one that cannot be read is asked for once more, told what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from engine.prompts import retry_prompt
from engine.vlm.protocol import VLM, Request, Sample, Sampling

AGAIN = 1 << 16  # between the seeds of a sampling and of its second tries


class Read(Protocol):
    """What a text was read as; `problem` says why it could not be."""

    @property
    def problem(self) -> str | None: ...


T = TypeVar("T", bound=Read)


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """A sample as it was read, and the try that it is, 1 or 2. Of two tries it is the second."""

    sample: Sample
    read: T
    tries: int = 1

    @property
    def problem(self) -> str | None:
        """Why there is no text, or why it cannot be read."""
        return self.sample.problem or self.read.problem


def replies(
    vlm: VLM,
    requests: Sequence[Request],
    sampling: Sampling,
    read: Callable[[int, str], T],
    words: str | None = None,
) -> list[list[Reply[T]]]:
    """`sampling.n` replies for each request, in the order of the requests.

    `read` is given a request's place and a text. With `words`, a reply that it cannot read is asked
    for once more in these, with a stream of its own: the same seeds give the same rows. What a
    backend refuses is refused again, and is not asked for.
    """
    found = [
        [Reply(sample, read(place, sample.text)) for sample in samples]
        for place, samples in enumerate(vlm.generate(requests, sampling))
    ]
    unread = [
        (place, number)
        for place, some in enumerate(found)
        for number, reply in enumerate(some)
        if reply.read.problem and not reply.sample.problem
    ]
    if words is None or not unread:
        return found
    again = [_complaint(words, requests[p], p, found[p][n], sampling.n, n) for p, n in unread]
    second = replace(sampling, n=1, seed=sampling.seed + AGAIN)
    for (place, number), (sample,) in zip(unread, vlm.generate(again, second)):
        found[place][number] = Reply(sample, read(place, sample.text), tries=2)
    return found


def _complaint(
    words: str, request: Request, place: int, reply: Reply[T], samples: int, number: int
) -> Request:
    own = place if request.seed is None else request.seed
    text = retry_prompt(words, request.text, reply.sample.text, str(reply.read.problem))
    return replace(request, text=text, seed=own * samples + number)
