"""A VLM that says what a function of the request says, and rows about made images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.records import Triplet
from engine.vlm.protocol import Request, Sample, Sampling
from tests.drawn_workspace import answered
from tests.lineage_workspace import make_image

IMAGES = [make_image(n, f"g{n}") for n in range(4)]
SIDE, SIDES = "On which side is the cyst?", ("left", "right")


class Answers:
    """`says(request, number of the sample)` for each sample; a text, or a whole sample."""

    def __init__(self, says: Callable[[Request, int], str | Sample]) -> None:
        self.says = says
        self.asked: list[Request] = []
        self.sampling: list[Sampling] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        self.asked += requests
        self.sampling.append(sampling)
        return [[self._one(r, n) for n in range(sampling.n)] for r in requests]

    def _one(self, request: Request, number: int) -> Sample:
        said = self.says(request, number)
        return said if isinstance(said, Sample) else Sample(said, -0.1, 2)


def rows_of(*answers: str, image: int = 0, question: str = SIDE, **more: object) -> list[Triplet]:
    """A question's samples, one an answer, the first the surest."""
    return [
        answered(
            IMAGES[image],
            question,
            said,
            SIDES,
            sample=n,
            logprob=-0.5 - n / 10,
            round=1,
            **more,  # type: ignore[arg-type]
        )
        for n, said in enumerate(answers)
    ]
