"""The attributes that hold for one frame, read without copying the dataset.

Enhanced objects keep what decides a frame's look in functional groups (PS3.3 C.7.6.16): a value of
the frame's own group holds over a shared one, and that over the top level.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# The functional groups that decide how a frame looks (PS3.3 C.7.6.16.2), and its anatomy.
FLATTENED = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameAnatomySequence",
    "PixelMeasuresSequence",
)


class FrameHeader:
    """A read-only view of layered datasets; the last layer that has an attribute gives it."""

    def __init__(self, *layers: Dataset) -> None:
        self._layers = {int(tag): (tag, layer) for layer in layers for tag in layer.keys()}  # noqa: SIM118
        self._values: dict[int, Any] = {}

    def get(self, keyword: str, default: Any = None, /) -> Any:
        """The value of an attribute, `default` where no layer has it."""
        number = _tag(keyword)
        if number not in self._values:
            if number not in self._layers:
                return default
            tag, layer = self._layers[number]
            self._values[number] = layer[tag].value
        return self._values[number]

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and _tag(keyword) in self._layers


@lru_cache(maxsize=512)
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)


def first_item(header: Dataset | FrameHeader, keyword: str) -> Dataset | None:
    """The first item of a sequence, None where it is absent or empty."""
    items = header.get(keyword)
    return items[0] if items else None


def flatten(dataset: Dataset, frame: int) -> FrameHeader:
    """The header of one frame: functional groups lifted over the top level."""
    layers = [dataset]
    for keyword, index in zip(GROUPS, (0, frame)):
        groups = dataset.get(keyword) or []
        for name in FLATTENED if index < len(groups) else ():
            item = first_item(groups[index], name)
            layers += [] if item is None else [item]
    return FrameHeader(*layers)
