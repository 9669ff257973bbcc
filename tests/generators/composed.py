"""Facts that are composed in tests, and composed questions of phantoms of every kind."""

from __future__ import annotations

from benchmarks.compose import Made
from benchmarks.compose import from_truth as composed_of
from engine.records import Image
from generators import phantoms
from generators.compose.program import (
    COUNT,
    DIAMETER,
    SIDE,
    SIZE,
    Fact,
)
from generators.phantoms import oracle

ONE = Fact(COUNT, "cyst", 1, "kept", "a")
LEFT = Fact(SIDE, "cyst", "left", "kept", "b", confidence=0.8)
SMALL = Fact(SIZE, "cyst", "small", "kept", "c", confidence=0.6)
WIDE = [
    Fact(DIAMETER, "cyst", value, "segmentation", "i", which)
    for value, which in ((12.0, "largest"), (7.5, "second largest"), (4.0, "smallest"))
]


def image_of(kind: str) -> Image:
    return oracle.image_of(phantoms.draw(kind, 1, 64).truth, "a" * 32)


def from_truth() -> tuple[Made, ...]:
    """Two questions each of phantoms of every kind, in two sets that are balanced apart."""
    return composed_of(20)
