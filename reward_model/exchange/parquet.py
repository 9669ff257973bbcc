"""Opinions as Parquet: our columns with types of their own, and lists as lists."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import TriptychError
from reward_model.exchange.given import COLUMNS, LISTS, Entry, Given, known_columns

_KINDS = {"seconds": pa.float64(), "repeat": pa.bool_(), "round": pa.int64()}
SCHEMA = pa.schema(
    [(n, pa.list_(pa.string()) if n in LISTS else _KINDS.get(n, pa.string())) for n in COLUMNS]
)


def write(rows: Iterable[dict[str, object]]) -> bytes:
    """Rows of COLUMNS as a file."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), out, compression="zstd")
    return out.getvalue()


def read(data: bytes) -> Given:
    """Entries of a file. Raises TriptychError where it is no Parquet, or not of opinions."""
    table = opened(data)
    names = [name for name in table.column_names if name in COLUMNS]
    if not names:
        raise TriptychError("it has no column of opinions: docs/verdicts.md lists them")
    entries = [
        Entry(f"row {number}", values)
        for number, values in enumerate(table.select(names).to_pylist(), 1)
    ]
    return Given(entries, notes=known_columns(table.column_names))


def opened(data: bytes) -> pa.Table:
    """A file as a table; raises TriptychError where it is none, or has a column twice."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError):
        raise TriptychError("it is no Parquet, or cut off: copy it again") from None
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise TriptychError(f"it has the column {twice[0]!r} more than once: keep one")
    return table
