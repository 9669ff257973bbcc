"""The dataset folder as forms are made of it: a row group at a time, pictures once each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.hub.forms.worded import COLUMNS, Worded, worded
from engine.hub.sharding import PICTURES


@dataclass(frozen=True, slots=True)
class Group:
    """Rows, and the column of their pictures, whose parts point to each picture once."""

    rows: list[Worded]
    images: pa.StructArray

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """File name and PNG bytes of each picture."""
        paths, pngs = (self.images.field(part).dictionary for part in ("path", "bytes"))
        for path, png in zip(paths, pngs, strict=True):
            yield path.as_py(), png.as_py()


@dataclass(frozen=True, slots=True)
class Exported:
    """A dataset folder with its name, id and licence; its prompts and its examinations' style."""

    folder: Path
    name: str
    id: str
    licence: str
    words: str
    style: str

    def files(self) -> Iterator[tuple[str, Path]]:
        """Each file with the split that it is of."""
        for path in sorted((self.folder / "data").glob("*.parquet")):
            yield path.name.partition("-")[0], path

    def groups(self, path: Path) -> Iterator[Group]:
        """A file's row groups, one after the other."""
        with pq.ParquetFile(path, read_dictionary=list(PICTURES)) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, columns=["image", *COLUMNS])
                rows = worded(table.select(COLUMNS).to_pylist(), self.words, self.style)
                yield Group(list(rows), table["image"].combine_chunks())
