"""What is drawn: an image as the workspace has it, small ones, and the levels of its source.

Another window than the one that an image was ingested with is drawn from the file that it came
from, where that is at hand and gives the very pixels that the workspace has.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import PIL.Image

from engine.errors import TriptychError
from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError
from engine.imaging.grey import Grey
from engine.pixels import Pixels, pixels_id
from engine.records import Image

SIDE = 112  # pixels on a thumbnail's longer side
HELD = 4 << 20  # bytes of thumbnails kept at hand
LEVELS = 64 << 20  # bytes of levels kept at hand
PRESETS = {  # (centre, width) in HU
    "brain": (40.0, 80.0),
    "soft tissue": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (300.0, 1500.0),
}
Source = Callable[[Image], tuple[Path, int] | None]  # an image's file and frame


class NoWindow(Exception):
    """There is no window to choose; the message says why."""


class Pictures:
    """PNG bytes and levels by image, for several threads."""

    def __init__(self, root: Path, source: Source | None = None) -> None:
        self._root, self._source = root, source
        self._lock, self._decoding = Lock(), Lock()
        self._decoder = Decoder()
        self._pixels = Pixels(root)
        self._small: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._grey: OrderedDict[str, Grey] = OrderedDict()

    def renew(self) -> None:
        """Look at the record again: pictures came or went."""
        with self._lock:
            self._pixels = Pixels(self._root)
            self._small.clear()
            self._size = 0
        with self._decoding:
            self._grey.clear()

    def close(self) -> None:
        """End the process that decodes."""
        with self._decoding:
            self._decoder.close()

    def png(self, image_id: str) -> bytes:
        """A picture at full resolution. Raises TriptychError where there is none."""
        with self._lock:
            return self._pixels[image_id]

    def thumbnail(self, image_id: str) -> bytes:
        """A picture of at most SIDE pixels a side. Raises TriptychError where there is none."""
        with self._lock:
            if image_id in self._small:
                self._small.move_to_end(image_id)
                return self._small[image_id]
        out = io.BytesIO()
        with PIL.Image.open(io.BytesIO(self.png(image_id))) as picture:
            picture.thumbnail((SIDE, SIDE), PIL.Image.Resampling.LANCZOS)
            picture.save(out, "PNG")
        with self._lock:
            self._small[image_id] = out.getvalue()
            self._size += len(out.getvalue())
            while self._size > HELD:
                self._size -= len(self._small.popitem(last=False)[1])
        return out.getvalue()

    def grey(self, image: Image) -> Grey:
        """An image's levels, from its source. Raises NoWindow where there are none."""
        if self._source is None:
            raise NoWindow("the source is not at hand")
        with self._decoding:
            if image.id in self._grey:
                self._grey.move_to_end(image.id)
                return self._grey[image.id]
            found = self._source(image)
            if found is None:
                raise NoWindow("the source is not at hand")
            try:
                grey = self._decoder.grey(*found)
            except ImagingError as error:
                raise NoWindow(error.detail or str(error.reason)) from None
            if pixels_id(grey.pixels) != image.id:
                raise NoWindow("the source has changed since")
            self._grey[image.id] = grey
            while sum(g.index.nbytes for g in self._grey.values()) > LEVELS and len(self._grey) > 1:
                self._grey.popitem(last=False)
            return grey


def levels_sent(image: Image, grey: Grey) -> bytes:
    """A frame's levels for the page: the size of a JSON, it, then (H, W) little-endian uint16.

    The JSON is padded so that the levels begin at an even byte.
    """
    low, high = grey.scale.limits
    in_hu = image.modality == "CT"
    about: dict[str, Any] = {
        "low": low,
        "high": high,
        "centre": grey.window[0] if grey.window else (low + high) / 2,
        "width": grey.window[1] if grey.window else high - low,
        "unit": "HU" if in_hu else "",
        "presets": {name: w for name, w in PRESETS.items() if in_hu and low <= w[0] <= high},
    }
    text = json.dumps(about).encode()
    text += b" " * (len(text) % 2)
    return len(text).to_bytes(4, "little") + text + grey.index.astype("<u2").tobytes()


def table_of(grey: Grey, centre: str | None, width: str | None) -> bytes:
    """What levels are drawn as through a window, by the words of a request; without, their own.

    Raises TriptychError for words that are no finite numbers.
    """
    if centre is None or width is None:
        return grey.table.tobytes()
    try:
        asked = float(centre), float(width)
    except ValueError:
        asked = np.nan, np.nan
    if not np.isfinite(asked).all():
        raise TriptychError("a window has a centre and a width, which are numbers")
    return grey.windowed(*asked).tobytes()
