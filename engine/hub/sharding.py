"""A split as Parquet files of bounded size, in row groups that hold each picture once.

    data/train-00000-of-00003.parquet   named as the Hub names shards, when their number is known

Rows come ordered by image. An image's rows are in one row group, so in one file, where its picture
is an entry of the column's dictionary that the rows point to. A reader has a copy of it in each
row: so row groups are cut by what they are when read, as `datasets` cuts them, and files by what
they are on disk. While writing, memory holds one row group and never all rows or pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BYTES = 100_000_000  # of a row group when read, every row with its picture; one image may take more
LARGEST = 1 << 30  # of one image's rows in a row group when read: Arrow reads no 2 GiB in one piece
FOOTER = 1 << 13  # more than a row group, or a file without any, takes in a file's footer
TEXT = ("question", "options.list.element", "answer", "rationale")
PICTURES = ("image.bytes", "image.path")
UNLIKE = {"id", "rationale", "reward", "probability"}  # columns of hardly two equal values


@dataclass
class Group:
    """A row group in the making: its rows, and each of their pictures once."""

    rows: list[pa.RecordBatch] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # rows by picture
    read: int = 0  # bytes of it when read
    size: int = 0  # bytes that it takes on disk at most

    def takes(self, rows: int, text: int, picture: int, limit: int) -> bool:
        """Whether an image's rows fit, of so many bytes of text and of its picture."""
        read = self.read + text + rows * picture
        return not self.counts or (read <= BYTES and self.size + text + picture + FOOTER <= limit)

    def add(self, image_id: str, picture: bytes, rows: int, text: int) -> None:
        self.images.append(image_id)
        self.pictures.append(picture)
        self.counts.append(rows)
        self.read += text + rows * len(picture)
        self.size += text + len(picture)

    def table(self, schema: pa.Schema) -> pa.Table:
        """The rows with their pictures; `schema` is `written`'s."""
        rows = pa.Table.from_batches(self.rows).combine_chunks()
        places = pa.array(np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts))
        paths = [f"{image_id}.png" for image_id in self.images]
        parts = [
            pa.DictionaryArray.from_arrays(places, values)
            for values in (pa.array(self.pictures, pa.binary()), pa.array(paths))
        ]
        image = pa.StructArray.from_arrays(parts, fields=list(schema.field("image").type))
        columns = [
            image if name == "image" else rows[name].cast(schema.field(name).type)
            for name in schema.names
        ]
        return pa.Table.from_arrays(columns, schema=schema)


def row_groups(
    batches: Iterable[pa.RecordBatch], pictures: Mapping[str, bytes], limit: int
) -> Iterator[Group]:
    """Rows ordered by `image_id`, with PNG bytes by id, in groups of BYTES and `limit` bytes.

    An image whose rows are larger by themselves is a group of its own, or several beyond LARGEST.
    """
    group = Group()
    for block in by_image(batches):
        ends = np.concatenate([[0], np.cumsum(sizes(block))])
        begun = 0  # where the group's part of the block begins
        for image_id, low, high in _runs(block["image_id"]):
            picture = pictures[image_id]
            step = max(LARGEST // (len(picture) + int(ends[high] - ends[low]) // (high - low)), 1)
            for start in range(low, high, step):
                stop = min(start + step, high)
                text = int(ends[stop] - ends[start])
                if not group.takes(stop - start, text, len(picture), limit):
                    group.rows.append(block.slice(begun, start - begun))
                    yield group
                    group, begun = Group(), start
                group.add(image_id, picture, stop - start, text)
        group.rows.append(block.slice(begun))
    if group.counts:
        yield group


def by_image(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches cut so that no image's rows are in two of them."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        ids = batch["image_id"]
        if held and held[0]["image_id"][0].equals(ids[-1]):
            held.append(batch)
            continue
        last = pc.index(ids, ids[-1]).as_py()
        if held or last:
            yield pa.concat_batches([*held, batch.slice(0, last)])
        held = [batch.slice(last)]
    if held:
        yield pa.concat_batches(held)


def _runs(ids: pa.Array) -> Iterator[tuple[str, int, int]]:
    """Each value with the first row that has it and the one after its last."""
    runs = pc.run_end_encode(ids)
    low = 0
    for value, high in zip(runs.values.to_pylist(), runs.run_ends.to_pylist()):
        yield value, low, high
        low = high


def sizes(batch: pa.RecordBatch) -> np.ndarray:
    """Bytes of each row (int64): text, with four for its length, or eight a number."""
    return sum((_sizes(column) for column in batch.columns), np.zeros(len(batch), np.int64))


def _sizes(column: pa.Array) -> np.ndarray[Any, Any]:
    if pa.types.is_list(column.type):
        ends = np.concatenate([[0], np.cumsum(_sizes(column.values))])
        return np.diff(ends[np.asarray(column.offsets)]) + 4
    if pa.types.is_string(column.type):
        return np.asarray(pc.fill_null(pc.binary_length(column), 0)) + 4
    return np.full(len(column), 8)


def written(schema: pa.Schema) -> pa.Schema:
    """A schema with the image's parts as entries of dictionaries, as Parquet takes them."""
    place = schema.get_field_index("image")
    parts = [pa.field(p.name, pa.dictionary(pa.int32(), p.type)) for p in schema.field(place).type]
    return schema.set(place, pa.field("image", pa.struct(parts)))


class Shard:
    """A Parquet file that is being written."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """`schema` is `written`'s; Arrow's own words for it, dictionaries among them, stay out."""
        self.path, self.schema, self.groups = path, schema, 0
        leaves = [name for name in schema.names if name not in ("image", "options")]
        leaves += [*PICTURES, "options.list.element"]
        self._sink = path.open("wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            store_schema=False,
            compression={name: "none" if name == "image.bytes" else "zstd" for name in leaves},
            use_dictionary=[name for name in leaves if name not in UNLIKE],
            write_statistics=[name for name in leaves if name not in (*TEXT, *PICTURES)],
            dictionary_pagesize_limit=LARGEST,
        )
        self._writer.add_key_value_metadata(schema.metadata or {})

    def has_room(self, group: Group, limit: int) -> bool:
        """Whether a row group fits; into an empty file any does."""
        footer = FOOTER * (self.groups + 2)
        return not self.groups or self._sink.tell() + group.size + footer <= limit

    def write(self, group: Group) -> int:
        """Write a row group; returns its rows."""
        table = group.table(self.schema)
        self._writer.write_table(table, row_group_size=len(table))
        self.groups += 1
        return len(table)

    def close(self) -> None:
        self._writer.close()
        self._sink.close()


def write_split(
    batches: Iterable[pa.RecordBatch],
    pictures: Mapping[str, bytes],
    schema: pa.Schema,
    folder: Path,
    name: str,
    limit: int,
) -> int:
    """Write `name`-0000n-of-0000N.parquet of up to `limit` bytes each; returns the number of rows.

    The batches have the columns of `schema` but for `image`, and are ordered by `image_id`. Without
    rows there is no file. A file is larger only where one image's rows are.
    """
    shards: list[Shard] = []
    rows = 0
    for group in row_groups(batches, pictures, limit):
        if not shards or not shards[-1].has_room(group, limit):
            if shards:
                shards[-1].close()
            shards.append(Shard(folder / f".{name}-{len(shards):05d}", written(schema)))
        rows += shards[-1].write(group)
    if shards:
        shards[-1].close()
    for number, shard in enumerate(shards):
        shard.path.rename(folder / f"{name}-{number:05d}-of-{len(shards):05d}.parquet")
    return rows
