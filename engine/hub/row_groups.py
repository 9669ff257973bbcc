"""Row groups of bounded size, cut from rows whose pictures wait on disk.

A reader takes a row group as a whole: the Hub's viewer refuses one above 286 MiB, and `datasets`
writes none above 100 MB. While writing, memory holds one group and never all pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import IO, Any

from engine.lineage.files import read_hashed
from engine.records import Picture
from engine.workspace import Workspace

ROWS = 100  # of images, as the Hub asks for
BYTES = 100_000_000  # before compression, which gains nothing on PNG


class Pictures:
    """PNG bytes by image id, kept in an open file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, image_id: str, png: bytes) -> None:
        """Keep a picture; a second one of the same id replaces it, as its bytes mean the same."""
        self._places[image_id] = self._file.seek(0, 2), len(png)
        self._file.write(png)

    def __getitem__(self, image_id: str) -> bytes:
        place, size = self._places[image_id]
        self._file.seek(place)
        return self._file.read(size)

    def size(self, image_id: str) -> int:
        """Bytes of a picture."""
        return self._places[image_id][1]


def pictures_of(workspace: Workspace, wanted: Collection[str], file: IO[bytes]) -> Pictures:
    """The wanted images' pictures, read a shard at a time into an open file.

    Raises TriptychError where a shard is not the one that was committed.
    """
    pictures = Pictures(file)
    for _, shard, digest in workspace.shards(Picture.table):
        table = read_hashed(shard, digest, ["id", "png"])
        for image_id, png in zip(table["id"], table["png"]):
            if image_id.as_py() in wanted:
                pictures.add(image_id.as_py(), png.as_py())
    return pictures


def row_groups(
    rows: Iterable[dict[str, Any]], pictures: Pictures, limit: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Rows with their `image` filled in, in groups of up to ROWS rows and `limit` (BYTES) bytes.

    A row that is larger by itself is a group of its own.
    """
    group: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        image_id = row["image_id"]
        size = pictures.size(image_id) + sum(len(str(value).encode()) for value in row.values())
        if group and (len(group) == ROWS or held + size > (BYTES if limit is None else limit)):
            yield group
            group, held = [], 0
        image = {"bytes": pictures[image_id], "path": f"{image_id}.png"}
        group, held = [*group, row | {"image": image}], held + size
    if group:
        yield group
