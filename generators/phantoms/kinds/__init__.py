"""The kinds of phantoms, a file each: what stands here is found by its place.

A module declares a `KIND`. Kinds are in the order of their modalities' names in DICOM's vocabulary,
then of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from engine.imaging.anatomy import MODALITIES
from generators.phantoms.kind import Kind


def _found() -> Iterator[Kind]:
    for module in iter_modules(__path__):
        yield import_module(f"{__name__}.{module.name}").KIND


_ORDER = [*dict.fromkeys(MODALITIES.values())]
KINDS: dict[str, Kind] = {
    kind.name: kind for kind in sorted(_found(), key=lambda k: (_ORDER.index(k.modality), k.name))
}
