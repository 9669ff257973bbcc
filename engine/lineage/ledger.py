"""The DuckDB view of a workspace's record: one table a row type, one transaction a stage.

The file is built from the Parquet shards under events/ and can be made again from them at any
time. Only the driver writes it; readers open it read-only. Image bytes stay in the shards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from engine.errors import TriptychError
from engine.records import ROW_TYPES, Row, schema_of

_SQL_TYPE = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "list<item: string>": "VARCHAR[]",
    "list<element: string>": "VARCHAR[]",
}


def columns_of(row_type: type[Row]) -> dict[str, str]:
    """Column names and SQL types of a row type's table; bytes are not in the ledger."""
    return {f.name: _SQL_TYPE[str(f.type)] for f in schema_of(row_type) if str(f.type) != "binary"}


class Ledger:
    """Reads and builds one `ledger.duckdb`; connections are short."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sync(self, events: Path) -> int:
        """Add every committed stage that the file does not have; returns how many it added."""
        with duckdb.connect(str(self.path)) as db:
            self._create(db)
            have = {row[0] for row in db.execute("SELECT folder FROM commits").fetchall()}
            missing = [p.parent for p in sorted(events.glob("*/commit.json"))]
            missing = [folder for folder in missing if folder.name not in have]
            for folder in missing:
                self._load(db, folder)
        return len(missing)

    def rebuild(self, events: Path) -> int:
        """Make the file again from nothing; returns the number of stages in it."""
        fresh = Ledger(self.path.with_suffix(".rebuilding"))
        fresh.path.unlink(missing_ok=True)
        count = fresh.sync(events)
        fresh.path.replace(self.path)
        return count

    def sql(
        self, query: str, parameters: list[Any] | dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a read-only query, as dictionaries.

        Raises TriptychError where the file was made by a version that had fewer tables.
        """
        with duckdb.connect(str(self.path), read_only=True) as db:
            try:
                cursor = db.execute(query, parameters or [])
            except duckdb.CatalogException as error:
                what = str(error).splitlines()[0]
                raise TriptychError(f"{self.path}: {what} Try `triptych lineage rebuild`") from None
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row)) for row in cursor.fetchall()]

    @staticmethod
    def _create(db: duckdb.DuckDBPyConnection) -> None:
        db.execute(
            "CREATE TABLE IF NOT EXISTS commits (folder VARCHAR PRIMARY KEY, sequence BIGINT, "
            "stage VARCHAR, round BIGINT, fingerprint VARCHAR, seconds DOUBLE, metrics VARCHAR)"
        )
        for row_type in ROW_TYPES:
            columns = ", ".join(f'"{n}" {t}' for n, t in columns_of(row_type).items())
            db.execute(f"CREATE TABLE IF NOT EXISTS {row_type.table} ({columns}, sequence BIGINT)")

    @staticmethod
    def _load(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
        commit = json.loads((folder / "commit.json").read_text())
        db.begin()
        for row_type in ROW_TYPES:
            shards = [str(p) for p in sorted(folder.glob(f"{row_type.table}-*.parquet"))]
            if shards:
                names = ", ".join(f'"{n}"' for n in columns_of(row_type))
                db.execute(
                    f"INSERT INTO {row_type.table} SELECT {names}, ? FROM read_parquet(?)",
                    [commit["sequence"], shards],
                )
        db.execute(
            "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                folder.name,
                *(commit[k] for k in ("sequence", "stage", "round", "fingerprint", "seconds")),
                json.dumps(commit["metrics"]),
            ],
        )
        db.commit()
