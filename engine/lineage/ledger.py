"""The DuckDB view of a workspace's record: one table a row type, one transaction a sync.

The file is built from the Parquet shards under events/ and can be made again from them at any
time. Only the driver writes it; readers open it read-only. Image bytes stay in the shards.

Beside the row types' tables it holds what makes questions quick at ten million rows:
`index_<table>_<column>`, hashes sorted within each sync, with the row and the stage they are in;
and summaries: `makers`, which models wrote the rows of a stage; `derivations`, which rows were made
from others; `uses`, which stages' rows a training stood on. Summaries follow the index, so two ids
of one 64-bit hash could join there: a withdrawal's second tier may then name too much, never too
little.

DuckDB lets a file be open for writing, or by any number of readers, but not both. Each side holds
it for as long as a stage's commit or a question takes, and waits for the other. An engine in memory
attaches the file, since to start an engine takes ten times as long as to open a file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.records import ROW_TYPES, Row, schema_of

VERSION = "3"  # of the tables here: a file of another version is made again
MEMORY = "4GB"
PATIENCE = 60.0  # seconds to wait for the other side to let go of the file

_SQL_TYPE = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "list<item: string>": "VARCHAR[]",
    "list<element: string>": "VARCHAR[]",
}
INDEXED = (
    ("images", "id"),
    ("triplets", "id"),
    ("judgements", "triplet_id"),
    ("decisions", "triplet_id"),
    ("preferences", "chosen_id"),
    ("preferences", "rejected_id"),
    ("consumption", "row_id"),
    ("membership", "triplet_id"),
)
_SUPPORT = """
CREATE TABLE meta (version VARCHAR);
CREATE TABLE commits (folder VARCHAR PRIMARY KEY, sequence BIGINT, stage VARCHAR,
    round BIGINT, fingerprint VARCHAR, seconds DOUBLE, metrics VARCHAR, schema BIGINT);
CREATE TABLE makers (sequence BIGINT, row_table VARCHAR, maker VARCHAR, rows BIGINT);
CREATE TABLE derivations (id VARCHAR, source VARCHAR, sequence BIGINT);
CREATE TABLE uses (sequence BIGINT, row_table VARCHAR, source BIGINT, maker VARCHAR,
    first_step BIGINT, rows BIGINT);
"""

_MAKERS = """
INSERT INTO makers
SELECT sequence, 'triplets', generator_id, count(*) FROM triplets WHERE sequence >= $1 GROUP BY ALL
UNION ALL SELECT sequence, 'judgements', judge_id, count(*) FROM judgements
    WHERE sequence >= $1 GROUP BY ALL
UNION ALL SELECT sequence, 'evaluations', model_id, count(*) FROM evaluations
    WHERE sequence >= $1 GROUP BY ALL
UNION ALL SELECT sequence, 'decisions', NULL, count(*) FROM decisions
    WHERE sequence >= $1 GROUP BY ALL
UNION ALL SELECT sequence, 'preferences', NULL, count(*) FROM preferences
    WHERE sequence >= $1 GROUP BY ALL
"""
_DERIVATIONS = """
INSERT INTO derivations SELECT id, unnest(derived_from), sequence FROM triplets
WHERE sequence >= $1 AND len(derived_from) > 0
"""

# What a training stood on: the stages of the rows it saw, who wrote these, and the decisions that
# let them through. A row made from another row counts for both writers. Who wrote a row is looked
# up in the row itself only where its stage had several writers.
_USES = """
INSERT INTO uses
WITH RECURSIVE seen AS (
    SELECT sequence, row_id, row_table, coalesce(first_step, 0) AS first_step
    FROM consumption WHERE sequence >= $1
), line AS (
    SELECT id, source FROM derivations
    UNION SELECT line.id, d.source FROM line JOIN derivations d ON d.id = line.source
), pairs AS (
    SELECT s.sequence, p.sequence AS source, p.expert, p.chosen_id, p.rejected_id, s.first_step
    FROM seen s JOIN preferences p ON p.id = s.row_id WHERE s.row_table = 'preferences'
), direct AS (
    SELECT sequence, row_id, first_step FROM seen WHERE row_table = 'triplets'
    UNION ALL SELECT sequence, unnest([chosen_id, rejected_id]), first_step FROM pairs
), every AS MATERIALIZED (
    SELECT sequence, hash(row_id) AS key, first_step FROM direct
    UNION ALL SELECT d.sequence, hash(line.source), d.first_step
        FROM direct d JOIN line ON line.id = d.row_id
), rows AS MATERIALIZED (
    SELECT e.sequence, key, i.sequence AS source, first_step
    FROM every e JOIN index_triplets_id i USING (key)
), writers AS (
    SELECT sequence AS source, any_value(maker) AS maker, count(*) = 1 AS one
    FROM makers WHERE row_table = 'triplets' GROUP BY ALL
), found AS (
    SELECT r.sequence, 'triplets' AS row_table, source, maker, first_step
        FROM rows r JOIN writers USING (source) WHERE one
    UNION ALL SELECT r.sequence, 'triplets', source, t.generator_id, first_step
        FROM rows r JOIN writers USING (source)
        JOIN triplets t ON t.sequence = source AND hash(t.id) = key WHERE NOT one
    UNION ALL SELECT e.sequence, 'decisions', i.sequence, NULL, first_step
        FROM every e JOIN index_decisions_triplet_id i USING (key) WHERE i.sequence < e.sequence
    UNION ALL SELECT sequence, 'preferences', source, expert, first_step FROM pairs
    UNION ALL SELECT sequence, 'models', NULL, row_id, first_step FROM seen
        WHERE row_table = 'models'
)
SELECT sequence, row_table, source, maker, min(first_step), count(*) FROM found GROUP BY ALL
"""


def columns_of(row_type: type[Row]) -> dict[str, str]:
    """Column names and SQL types of a row type's table; bytes are not in the ledger."""
    return {f.name: _SQL_TYPE[str(f.type)] for f in schema_of(row_type) if str(f.type) != "binary"}


def _selected(row_type: type[Row], there: frozenset[str]) -> str:
    """Columns to read from shards; one that an older version did not write is its default."""
    default = {f.name: f.default for f in fields(row_type)}  # type: ignore[arg-type]
    empty: dict[Any, str] = {"": "''", (): "[]", None: "NULL"}
    return ", ".join(
        f'"{name}"' if name in there else empty.get(default[name], f"'{default[name]}'")
        for name in columns_of(row_type)
    )


class LedgerBusy(TriptychError):
    """Another process has the file open and does not let go of it."""


class _Unreadable(TriptychError):
    """The file is no database, or a damaged one."""


class Ledger:
    """Reads and builds one `ledger.duckdb`; the file is held for a short time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._open: duckdb.DuckDBPyConnection | None = None

    def sync(self, events: Path) -> int:
        """Add every committed stage that the file does not have; returns how many it added.

        A file that cannot be read, or is of another version, is made again. Raises LedgerBusy
        where readers do not let go of it.
        """
        try:
            with self._connected(read_only=False) as db:
                if self._is_current(db):
                    return _add(db, events)
        except _Unreadable:
            pass
        return self.rebuild(events)

    def rebuild(self, events: Path) -> int:
        """Make the file again from nothing; returns the number of stages in it."""
        fresh = Ledger(self.path.with_suffix(".rebuilding"))
        _unlink(fresh.path)
        with fresh._connected(read_only=False) as db:
            _create(db)
            count = _add(db, events)
        self.path.with_name(f"{self.path.name}.wal").unlink(missing_ok=True)
        fresh.path.replace(self.path)
        return count

    def sql(
        self, query: str, parameters: list[Any] | dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a read-only query, as dictionaries."""
        with self.reading() as db:
            cursor = db.execute(query, parameters or [])
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row)) for row in cursor.fetchall()]

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One read-only connection for several questions: all see the same moment.

        Raises TriptychError where there is no file, or another version made it.
        """
        if self._open is not None:
            yield self._open
            return
        if not self.path.exists():
            raise TriptychError(f"no ledger at {self.path}: `triptych lineage rebuild` makes it")
        with self._connected(read_only=True) as db:
            if not self._is_current(db):
                raise TriptychError(
                    f"{self.path} is of another version: `triptych lineage rebuild` makes it again"
                )
            self._open = db
            try:
                yield db
            finally:
                self._open = None

    def find(self, table: str, column: str, values: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of an indexed table whose `column` is one of `values`, in the order written."""
        if not values:
            return []
        keys = ", ".join("hash(?)" for _ in values)
        with self.reading():
            places = self.sql(
                f"SELECT row FROM index_{table}_{column} WHERE key IN ({keys})", list(values)
            )
            # One by one: DuckDB goes straight to one row, and reads all between several.
            rows = [
                row
                for place in places
                for row in self.sql(f"SELECT * FROM {table} WHERE rowid = {place['row']}")
            ]
        wanted = set(values)
        rows = [row for row in rows if row[column] in wanted]
        return sorted(rows, key=lambda row: (row["sequence"], row["id"]))

    @contextmanager
    def _connected(self, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file, waiting while the other side has it."""
        if self._engine is None:
            self._engine = duckdb.connect(
                config={"memory_limit": MEMORY, "temp_directory": f"{self.path}.tmp"}
            )
        engine = self._engine
        try:
            self._attach(engine, "READ_ONLY" if read_only else "READ_WRITE")
            with engine.cursor() as db:
                db.execute("USE ledger")
                yield db
            engine.execute("DETACH ledger")
        except BaseException:  # whatever failed may have left the engine unusable
            self._engine = None
            engine.close()
            raise

    def _attach(self, engine: duckdb.DuckDBPyConnection, mode: str) -> None:
        deadline, pause = time.monotonic() + PATIENCE, 0.005
        while True:
            try:
                engine.execute(f"ATTACH '{quoted(self.path)}' AS ledger ({mode})")
                return
            except duckdb.Error as error:
                if not _is_held(error):
                    raise _Unreadable(f"{self.path} cannot be read: {error}") from None
                if time.monotonic() > deadline:
                    raise LedgerBusy(
                        f"{self.path} has been held by another process for {PATIENCE:.0f} s: "
                        "close it there, then try again"
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 0.2)

    @staticmethod
    def _is_current(db: duckdb.DuckDBPyConnection) -> bool:
        """Whether the file is of this version.

        That names DuckDB's version too, since hashes may differ between versions.
        """
        try:
            found = db.execute("SELECT version FROM meta").fetchall()
        except (duckdb.CatalogException, duckdb.IOException):  # no such table, or a damaged file
            return False
        return found == [(f"{VERSION} {duckdb.__version__}",)]


def _add(db: duckdb.DuckDBPyConnection, events: Path) -> int:
    """Load, index and summarise what is missing, in one transaction; returns how many stages."""
    have = {row[0] for row in db.execute("SELECT folder FROM commits").fetchall()}
    missing = [path.parent for path in sorted(events.glob("*/commit.json"))]
    missing = [folder for folder in missing if folder.name not in have]
    if not missing:
        return 0
    shards: dict[str, list[Path]] = {}
    for folder in missing:
        for shard in sorted(folder.glob("*.parquet")):
            shards.setdefault(shard.stem.rpartition("-")[0], []).append(shard)
    db.begin()
    for row_type in ROW_TYPES:
        _load(db, row_type, shards.get(row_type.table, []))
    lines = _lines(missing)
    db.executemany("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)", lines)
    complete(db, lines[0][1], shards.keys())
    db.commit()
    return len(missing)


def _load(db: duckdb.DuckDBPyConnection, row_type: type[Row], shards: list[Path]) -> None:
    """Insert shards of a type; a stage's number is in its folder's name."""
    alike: dict[frozenset[str], list[str]] = {}
    for _, found in groupby(shards, key=lambda shard: shard.parent):
        paths = list(found)
        columns = frozenset(pq.read_schema(paths[0]).names)
        alike.setdefault(columns, []).extend(map(str, paths))
    for columns, names in alike.items():
        db.execute(
            f"INSERT INTO {row_type.table} SELECT {_selected(row_type, columns)}, "
            "regexp_extract(filename, '(\\d+)-[^/]*/[^/]*$', 1)::BIGINT "
            "FROM read_parquet(?, filename = true)",
            [names],
        )


def _lines(folders: list[Path]) -> list[list[Any]]:
    """Rows of the table `commits`."""
    keys = ("sequence", "stage", "round", "fingerprint", "seconds")
    found = []
    for folder in folders:
        commit = json.loads((folder / "commit.json").read_text())
        values = [folder.name, *(commit[k] for k in keys)]
        found.append([*values, json.dumps(commit["metrics"]), commit.get("schema", 1)])
    return found


def _create(db: duckdb.DuckDBPyConnection) -> None:
    """Empty tables, all or none."""
    db.begin()
    db.execute(_SUPPORT)
    db.execute("INSERT INTO meta VALUES (?)", [f"{VERSION} {duckdb.__version__}"])
    for row_type in ROW_TYPES:
        columns = ", ".join(f'"{n}" {t}' for n, t in columns_of(row_type).items())
        db.execute(f"CREATE TABLE {row_type.table} ({columns}, sequence BIGINT)")
    for table, column in INDEXED:
        columns = "key UBIGINT, row BIGINT, sequence BIGINT"
        db.execute(f"CREATE TABLE index_{table}_{column} ({columns})")
    db.commit()


def complete(db: duckdb.DuckDBPyConnection, first: int, tables: Collection[str]) -> None:
    """Index and summarise the rows that stage `first` and later ones added to the tables.

    Rows that this transaction inserted have provisional numbers, in the order of the final ones.
    """
    for table, column in INDEXED:
        if table in tables:
            index = f"index_{table}_{column}"
            db.execute(
                f"INSERT INTO {index} WITH new AS (FROM (SELECT min(rowid) AS start FROM {table} "
                f"WHERE sequence >= $1), (SELECT count(*) AS before FROM {index})) "
                f"SELECT hash({column}), t.rowid - start + before, sequence FROM {table} t, new "
                "WHERE sequence >= $1 ORDER BY 1",
                [first],
            )
    db.execute(_MAKERS, [first])
    if "triplets" in tables:
        db.execute(_DERIVATIONS, [first])
    if "consumption" in tables:
        db.execute(_USES, [first])


def quoted(path: Path) -> str:
    """A path as the inside of an SQL string."""
    return str(path.resolve()).replace("'", "''")


def _is_held(error: Exception) -> bool:
    """Whether DuckDB failed because someone else has the file open."""
    return isinstance(error, duckdb.ResourceInUseException) or "Could not set lock" in str(error)


def _unlink(path: Path) -> None:
    for each in (path, path.with_name(f"{path.name}.wal")):
        each.unlink(missing_ok=True)
