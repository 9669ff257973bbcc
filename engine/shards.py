"""Files and Parquet shards on disk, whole or not there at all, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.lineage.files import shards_in

GROUP = 1 << 17  # bytes


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Make a file's bytes, or renames in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_whole(shard: Path) -> bool:
    """Whether a Parquet file can be read; a disk that was full or failed may have torn it."""
    try:
        pq.read_metadata(shard)
    except (pa.ArrowException, OSError):
        return False
    return True


def shard_paths(folder: Path, table: str) -> list[Path]:
    """A table's numbered shards in a folder, in order."""
    return sorted(folder.glob(f"{table}-[0-9]*.parquet"))


def whole_shards(folder: Path) -> set[str]:
    """Names of a folder's Parquet files, without their ending; a torn one is thrown away."""
    shards = shards_in(folder)
    for shard in shards:
        if not is_whole(shard):
            shard.unlink()
    return {path.stem for path in shards if path.exists()}


def write_shard(folder: Path, name: str, table: pa.Table) -> Path:
    """Write a Parquet file under a temporary name and rename it when whole.

    Where it holds pictures, row groups are of about GROUP bytes, so that one is read by itself.
    """
    sink = pa.BufferOutputStream()
    if any(pa.types.is_binary(kind) for kind in table.schema.types):  # PNG is compressed already
        rows = max(GROUP * len(table) // max(table.nbytes, 1), 1)
        pq.write_table(table, sink, compression="none", row_group_size=rows)
    else:
        pq.write_table(table, sink, compression="zstd")
    path = folder / f"{name}.parquet"
    replace_file(path, sink.getvalue().to_pybytes())
    return path
