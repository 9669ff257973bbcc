"""What is drawn: an image as the workspace has it, and small ones of the patient's others."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from threading import Lock

import PIL.Image

from engine.pixels import Pixels

SIDE = 112  # pixels on a thumbnail's longer side
HELD = 4 << 20  # bytes of thumbnails kept at hand


class Pictures:
    """PNG bytes by image id, for several threads. Raises TriptychError where there are none."""

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, Lock()
        self._pixels = Pixels(root)
        self._small: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def renew(self) -> None:
        """Look at the record again: pictures came or went."""
        with self._lock:
            self._pixels = Pixels(self._root)
            self._small.clear()
            self._size = 0

    def png(self, image_id: str) -> bytes:
        """A picture at full resolution."""
        with self._lock:
            return self._pixels[image_id]

    def thumbnail(self, image_id: str) -> bytes:
        """A picture of at most SIDE pixels a side."""
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
