"""Row groups of bounded size, cut from rows whose pictures are read as they are needed.

A reader takes a row group as a whole: the Hub's viewer refuses one above 286 MiB, and `datasets`
writes none above 100 MB. While writing, memory holds one group and never all pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

ROWS = 100  # of images, as the Hub asks for
BYTES = 100_000_000  # before compression, which gains nothing on PNG


def row_groups(
    rows: Iterable[dict[str, Any]], pictures: Mapping[str, bytes], limit: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Rows with their `image` filled in from PNG bytes by id, in groups.

    A group has up to ROWS rows and `limit` (BYTES) bytes.
    A row that is larger by itself is a group of its own.
    """
    group: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        image_id = row["image_id"]
        picture = pictures[image_id]
        size = len(picture) + sum(len(str(value).encode()) for value in row.values())
        if group and (len(group) == ROWS or held + size > (BYTES if limit is None else limit)):
            yield group
            group, held = [], 0
        image = {"bytes": picture, "path": f"{image_id}.png"}
        group, held = [*group, row | {"image": image}], held + size
    if group:
        yield group
