"""The attributes that hold for one frame, read without copying the dataset.

Enhanced objects keep what decides a frame's look in functional groups (PS3.3 C.7.6.16): a value of
the frame's own group holds over a shared one, and that over the top level.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydicom import Dataset, Sequence
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement

from engine.imaging.errors import ImagingError, Reason
from engine.imaging.values import unreadable

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# The functional groups that decide how a frame looks (PS3.3 C.7.6.16.2), and its anatomy.
FLATTENED = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameAnatomySequence",
    "PixelMeasuresSequence",
)
# Value representations that stand in the file as plain text (PS3.5 6.2).
TEXTS: dict[str, Callable[[str], str | int | float]] = {
    "CS": str, "UI": str, "DS": float, "IS": int,
}  # fmt: skip


class FrameHeader:
    """A read-only view of layered datasets; the last layer that has an attribute gives it.

    `top` is the header of the first layer alone.
    """

    def __init__(self, *layers: Dataset) -> None:
        self.top = self
        self._layers = layers
        # By number, because a lookup by pydicom's tag compares tags in Python.
        self._where = {int(tag): (tag, layer) for layer in layers for tag in layer.keys()}  # noqa: SIM118
        self._values: dict[int, Any] = {}

    def under(self, *layers: Dataset) -> FrameHeader:
        """This header with layers over it; itself, with what it has read, where there are none."""
        if not layers:
            return self
        header = FrameHeader(*self._layers, *layers)
        header.top = self.top
        return header

    def get(self, keyword: str, default: Any = None, /) -> Any:
        """The value of an attribute, `default` where no layer has it.

        What its value representation cannot hold is its text, or its bytes; `values` reads these.
        """
        number = _tag(keyword)
        if number not in self._values:
            if number not in self._where:
                return default
            tag, layer = self._where[number]
            element = layer.get_item(tag)
            value = _plain(element)
            self._values[number] = _converted(layer, element) if value is None else value
        return self._values[number]

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and _tag(keyword) in self._where


def _plain(element: DataElement | RawDataElement) -> Any:
    """Numbers, codes and UIDs as they stand in the file; None for all else, which pydicom reads.

    Headers are mostly these, and pydicom takes several times as long for each.
    """
    if not isinstance(element, RawDataElement) or not element.value:
        return None
    kind, data = element.VR, element.value
    if kind == "US" and len(data) == 2:
        return int.from_bytes(data, "little" if element.is_little_endian else "big")
    if kind not in TEXTS:
        return None
    texts = data.decode("latin-1").rstrip(" \0").split("\\")
    try:
        values = texts if b"_" in data else [TEXTS[kind](part) for part in texts]
    except ValueError:  # Python reads 1_000 as a number too, and pydicom gives up on others
        values = texts
    return values[0] if len(values) == 1 else values


def _converted(layer: Dataset, element: Any) -> Any:
    """What pydicom makes of an element, its bytes where it can make nothing of it."""
    try:
        return layer[element.tag].value
    except Exception:
        return element.value


@lru_cache(maxsize=512)
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)


def first_item(header: Dataset | FrameHeader, keyword: str) -> Dataset | None:
    """The first item of a sequence, None where it is absent or empty. Raises ImagingError."""
    found = items(header, keyword)
    return found[0] if found else None


def items(header: Dataset | FrameHeader, keyword: str) -> Sequence | list[Dataset]:
    """The items of a sequence, none where it is absent. Raises ImagingError where it is no such."""
    found = header.get(keyword)
    if found is not None and not isinstance(found, Sequence | list):
        raise unreadable(keyword)
    return found or []


def flatten(top: FrameHeader, frame: int) -> FrameHeader:
    """The header of one frame: functional groups lifted over the top level.

    Raises ImagingError for a frame that other frames have a group of their own beside.
    """
    layers = []
    for keyword, index in zip(GROUPS, (0, frame)):
        groups = items(top, keyword)
        if groups and index >= len(groups):
            raise ImagingError(Reason.CONTRADICTION, "fewer functional groups than frames")
        for name in FLATTENED if groups else ():
            item = first_item(groups[index], name)
            layers += [] if item is None else [item]
    return top.under(*layers)
