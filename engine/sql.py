"""Committed Parquet asked in SQL by DuckDB, which spills to disk: what needs many rows at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from engine.records import Row, from_arrow, schema_of

MEMORY = "1GB"
FEW = 10_000  # rows that are looked at together
WRITTEN = "filename, file_row_number"  # the order in which a table's rows were written
_PLACE = (pa.field("filename", pa.string()), pa.field("file_row_number", pa.int64()))


class Scan:
    """A context manager around a DuckDB of its own, on one thread and within MEMORY."""

    def __enter__(self) -> Scan:
        self._spill = tempfile.TemporaryDirectory(prefix="triptych-scan-")
        self._db = duckdb.connect(
            ":memory:",
            config={"threads": 1, "memory_limit": MEMORY, "temp_directory": self._spill.name},
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._spill.cleanup()

    def table(self, name: str, row_type: type[Row], shards: Sequence[Path]) -> None:
        """Make a table's shards known by a name; without any it is empty."""
        if shards:
            paths = ", ".join("'" + str(path).replace("'", "''") + "'" for path in shards)
            self._db.execute(
                f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{paths}], "
                "union_by_name = true, filename = true, file_row_number = true)"
            )
        else:
            columns = [*schema_of(row_type), *_PLACE]
            self._db.register(name, pa.schema(columns).empty_table())

    def register(self, name: str, table: pa.Table) -> None:
        """Make an Arrow table known by a name."""
        self._db.register(name, table)

    def rows(self, row_type: type[Row], query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """The rows that a query gives of a type's columns."""
        found: pa.Table = self._db.sql(query, params=list(parameters)).to_arrow_table()
        columns = schema_of(row_type)
        return from_arrow(row_type, found.select(columns.names).cast(columns))

    def stream(
        self, row_type: type[Row], query: str, parameters: Sequence[Any] = ()
    ) -> Iterator[Any]:
        """As `rows`, a few thousand at a time."""
        columns = schema_of(row_type)
        batches = self._db.sql(query, params=list(parameters)).to_arrow_reader(FEW)
        for batch in batches:
            table = pa.Table.from_batches([batch]).select(columns.names).cast(columns)
            yield from from_arrow(row_type, table)

    def write(self, path: Path, row_type: type[Row], query: str) -> int:
        """Write the rows that a query gives of a type's columns to a Parquet file.

        Row groups are of FEW rows, so that of a sorted file a part is read by itself. Returns how
        many rows there are; without any there is no file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        target = str(path).replace("'", "''")
        columns = ", ".join(f'"{name}"' for name in schema_of(row_type).names)
        self._db.execute(
            f"COPY (SELECT {columns} FROM ({query})) TO '{target}' "
            f"(FORMAT parquet, ROW_GROUP_SIZE {FEW})"
        )
        ((rows,),) = self.values(f"SELECT count(*) FROM read_parquet('{target}')")
        if not rows:
            path.unlink()
        return int(rows)

    def values(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """A query's rows as tuples, a few at a time."""
        done = self._db.execute(query, list(parameters))
        while some := done.fetchmany(FEW):
            yield from some
