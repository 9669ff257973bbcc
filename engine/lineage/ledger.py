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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.lineage import links
from engine.lineage.files import check_hash
from engine.records import ROW_TYPES, Row, schema_of

VERSION = "8"  # of the tables here: a file of another version is made again
MEMORY = "512MB"  # what does not fit is spilled to disk
FEW = 4  # values that an index is asked for one by one; for more it is read whole, once
PATIENCE = 60.0  # seconds to wait for the other side to let go of the file

Hashes = dict[Path, str | None]  # SHA-256 by shard, as of engine.lineage.chain

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
    ("verifications", "question_id"),
    ("judgements", "triplet_id"),
    ("found", "triplet_id"),
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
"""
SUMMARIES = """
CREATE TABLE makers (sequence BIGINT, row_table VARCHAR, maker VARCHAR, rows BIGINT);
CREATE TABLE derivations (id VARCHAR, source VARCHAR, sequence BIGINT);
CREATE TABLE uses (sequence BIGINT, row_table VARCHAR, source BIGINT, maker VARCHAR,
    first_step BIGINT);
"""

_MAKER = {  # what names the model that wrote a row; others have a stage's rules, or an expert
    "triplets": "generator_id",
    "verifications": "blind_id",
    "judgements": "judge_id",
    "evaluations": "model_id",
    "decisions": "NULL",
    "preferences": "NULL",
    "verdicts": "NULL",
}
_DERIVATIONS = """
INSERT INTO derivations SELECT id, unnest(derived_from), sequence FROM triplets
WHERE sequence >= $1 AND len(derived_from) > 0
"""

# What a training stood on: the stages of the rows it saw, who wrote these, and the decisions that
# let them through. A row made from another row counts for both writers. `stood` is a line a row.
_STOOD = """
CREATE OR REPLACE TEMP TABLE stood AS
WITH RECURSIVE seen AS (
    SELECT sequence, row_id, row_table, coalesce(first_step, 0) AS first_step
    FROM consumption WHERE sequence >= $1
), line AS (
    SELECT id, source FROM derivations
    UNION SELECT line.id, d.source FROM line JOIN derivations d ON d.id = line.source
), direct AS (
    SELECT sequence, row_id, first_step FROM seen WHERE row_table = 'triplets'
    UNION ALL SELECT s.sequence, unnest([chosen_id, rejected_id]), first_step
        FROM seen s JOIN preferences p ON p.id = s.row_id WHERE s.row_table = 'preferences'
    UNION ALL SELECT s.sequence, v.triplet_id, first_step
        FROM seen s JOIN verdicts v ON v.id = s.row_id WHERE s.row_table = 'verdicts'
)
SELECT sequence, hash(row_id) AS key, first_step FROM direct
UNION ALL SELECT d.sequence, hash(line.source), d.first_step
    FROM direct d JOIN line ON line.id = d.row_id
"""
_STOOD_ON = """
SELECT e.sequence, i.sequence, min(first_step) FROM stood e JOIN {index} i USING (key)
WHERE i.sequence <= e.sequence AND {which} GROUP BY ALL
"""
_SAMPLE = "i.key < 1::UBIGINT << 58"  # a 64th of the rows, which lie together in a sorted index
_USES_OF_SEVERAL_WRITERS = """
INSERT INTO uses
SELECT e.sequence, 'triplets', t.sequence, t.generator_id, min(first_step)
FROM stood e JOIN triplets t ON hash(t.id) = e.key
WHERE t.sequence <= e.sequence AND t.sequence IN ({stages}) GROUP BY ALL
"""
_OTHER_USES = """
INSERT INTO uses
SELECT c.sequence, 'preferences', p.sequence, p.expert, min(coalesce(c.first_step, 0))
    FROM consumption c JOIN preferences p ON p.id = c.row_id AND p.sequence <= c.sequence
    WHERE c.sequence >= $1 AND c.row_table = 'preferences' GROUP BY ALL
UNION ALL SELECT c.sequence, 'verdicts', v.sequence, v.expert, min(coalesce(c.first_step, 0))
    FROM consumption c JOIN verdicts v ON v.id = c.row_id AND v.sequence <= c.sequence
    WHERE c.sequence >= $1 AND c.row_table = 'verdicts' GROUP BY ALL
UNION ALL SELECT sequence, 'models', NULL, row_id, min(coalesce(first_step, 0))
    FROM consumption WHERE sequence >= $1 AND row_table = 'models' GROUP BY ALL
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
        where readers do not let go of it, TriptychError where a shard is not as it was committed.
        """
        try:
            with self._connected(read_only=False) as db:
                if self._is_current(db):
                    return _add(db, events)
        except _Unreadable:
            pass
        return self.rebuild(events)

    def rebuild(self, events: Path, hashes: Hashes | None = None) -> int:
        """Make the file again from nothing; returns the number of stages in it.

        `hashes` are the shards' SHA-256, where the commits alone do not tell them.
        """
        fresh = Ledger(self.path.with_suffix(".rebuilding"))
        _unlink(fresh.path)
        with fresh._connected(read_only=False) as db:
            create(db)
            count = _add(db, events, hashes)
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

    def stream(
        self, query: str, parameters: list[Any] | dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """As `sql`, a few rows at a time; other questions may be asked in between."""
        with self.reading() as db, db.cursor() as cursor:
            cursor.execute("USE ledger")
            cursor.execute(query, parameters or [])
            names = [column[0] for column in cursor.description or []]
            while some := cursor.fetchmany(1000):
                yield from (dict(zip(names, row)) for row in some)

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
            self._check_version(db)
            self._open = db
            try:
                yield db
            finally:
                self._open = None

    def find(self, table: str, column: str, values: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of an indexed table whose `column` is one of `values`, in the order written."""
        if not values:
            return []
        wanted = set(values)
        with self.reading():
            places = self._places(f"index_{table}_{column}", sorted(wanted))
            rows = [
                row
                for start in range(0, len(places), 32)
                for row in self._at(table, places[start : start + 32])
            ]
        rows = [row for row in rows if row[column] in wanted]
        return sorted(rows, key=lambda row: (row["sequence"], row["id"]))

    # DuckDB goes straight to what equals one value; asked for several in one, it reads all between.

    def _places(self, index: str, values: list[str]) -> list[int]:
        """Numbers of the rows that an index has under any of the values."""
        if len(values) <= FEW:
            each = [f"SELECT row FROM {index} WHERE key = hash(?)"] * len(values)
            found = self.sql(" UNION ALL ".join(each), list(values))
        else:
            keys = "SELECT hash(unnest(?)) AS key"
            found = self.sql(f"SELECT row FROM {index} JOIN ({keys}) USING (key)", [values])
        return [place["row"] for place in found]

    def _at(self, table: str, places: list[int]) -> list[dict[str, Any]]:
        each = (f"SELECT * FROM {table} WHERE rowid = {place}" for place in places)
        return self.sql(" UNION ALL ".join(each))

    @contextmanager
    def alone(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file opened by itself and to be read only: no other database, file or network.

        What no query can take back, since the engine's settings are locked.
        """
        if not self.path.exists():
            raise TriptychError(f"no ledger at {self.path}: `triptych lineage rebuild` makes it")
        settings: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": "false",
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": MEMORY,
            "lock_configuration": "true",
        }
        with self._patiently(
            lambda: duckdb.connect(str(self.path), read_only=True, config=settings)
        ) as db:
            self._check_version(db)
            yield db

    @contextmanager
    def _connected(self, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file, waiting while the other side has it."""
        if self._engine is None:
            self._engine = duckdb.connect(
                config={"memory_limit": MEMORY, "temp_directory": f"{self.path}.tmp"}
            )
        engine = self._engine
        try:
            mode = "READ_ONLY" if read_only else "READ_WRITE"
            attach = f"ATTACH '{quoted(self.path)}' AS ledger ({mode})"
            self._patiently(lambda: engine.execute(attach))
            with engine.cursor() as db:
                db.execute("USE ledger")
                yield db
            engine.execute("DETACH ledger")
        except BaseException:  # whatever failed may have left the engine unusable
            self._engine = None
            engine.close()
            raise

    def _patiently(
        self, opened: Callable[[], duckdb.DuckDBPyConnection]
    ) -> duckdb.DuckDBPyConnection:
        """What `opened` gives, tried again while another process has the file."""
        deadline, pause = time.monotonic() + PATIENCE, 0.005
        while True:
            try:
                return opened()
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

    def _check_version(self, db: duckdb.DuckDBPyConnection) -> None:
        if not self._is_current(db):
            raise TriptychError(
                f"{self.path} is of another version: `triptych lineage rebuild` makes it again"
            )

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


def _add(db: duckdb.DuckDBPyConnection, events: Path, hashes: Hashes | None = None) -> int:
    """Load, index and summarise what is missing, in one transaction; returns how many stages."""
    have = {row[0] for row in db.execute("SELECT folder FROM commits").fetchall()}
    record = links.sound_links(events)
    missing = [link for link in record if link.name not in have]
    if not missing:
        return 0
    hashes = links.shard_hashes(record) if hashes is None else hashes
    shards: dict[str, list[Path]] = {}
    for link in missing:
        for shard in link.shards:
            if hashes.get(shard, "") is not None:
                check_hash(shard, hashes.get(shard))
                shards.setdefault(shard.stem.rpartition("-")[0], []).append(shard)
    db.begin()
    for row_type in ROW_TYPES:
        _load(db, row_type, shards.get(row_type.table, []))
    lines = lines_of(missing)
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
        query = f"INSERT INTO {row_type.table} {rows_of(row_type, columns)}"
        db.execute(query, [names])


def rows_of(row_type: type[Row], there: frozenset[str]) -> str:
    """SQL for a table's rows from shards that have the columns `there`; a parameter names them."""
    return (
        f"SELECT {_selected(row_type, there)}, "
        "regexp_extract(filename, '(\\d+)-[^/]*/[^/]*$', 1)::BIGINT "
        "FROM read_parquet(?, filename = true)"
    )


def lines_of(record: list[links.Link]) -> list[list[Any]]:
    """Rows of the table `commits`."""
    keys = ("sequence", "stage", "round", "fingerprint", "seconds")
    return [
        [
            link.name,
            *(link.commit[key] for key in keys),
            json.dumps(link.commit["metrics"]),
            link.commit.get("schema", 1),
        ]
        for link in record
    ]


def create(db: duckdb.DuckDBPyConnection) -> None:
    """Empty tables, all or none."""
    db.begin()
    db.execute(_SUPPORT + SUMMARIES)
    db.execute("INSERT INTO meta VALUES (?)", [f"{VERSION} {duckdb.__version__}"])
    for row_type in ROW_TYPES:
        columns = ", ".join(f'"{n}" {t}' for n, t in columns_of(row_type).items())
        db.execute(f"CREATE TABLE {row_type.table} ({columns}, sequence BIGINT)")
    for table, column in INDEXED:
        columns = "key UBIGINT, row BIGINT, sequence BIGINT"
        db.execute(f"CREATE TABLE index_{table}_{column} ({columns})")
    db.commit()


def complete(db: duckdb.DuckDBPyConnection, first: int, tables: Collection[str]) -> None:
    """Index and summarise the rows that stage `first` and later ones added to the tables."""
    _index(db, first, tables)
    summarise(db, first, tables)


def _index(db: duckdb.DuckDBPyConnection, first: int, tables: Collection[str]) -> None:
    """Rows that this transaction inserted have provisional numbers, in the order of the final."""
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


def summarise(db: duckdb.DuckDBPyConnection, first: int, tables: Collection[str]) -> None:
    """Fill `makers`, `derivations` and `uses` from the tables and their indexes."""
    for table, maker in _MAKER.items():
        if table in tables:
            db.execute(
                f"INSERT INTO makers SELECT sequence, '{table}', {maker}, count(*) "
                f"FROM {table} WHERE sequence >= $1 GROUP BY ALL",
                [first],
            )
    if "triplets" in tables:
        db.execute(_DERIVATIONS, [first])
    if "consumption" in tables:
        _add_uses(db, first)


def _add_uses(db: duckdb.DuckDBPyConnection, first: int) -> None:
    """What the trainings of stage `first` and later ones stood on."""
    db.execute(_STOOD, [first])
    for table, index in (
        ("triplets", "index_triplets_id"),
        ("decisions", "index_decisions_triplet_id"),
    ):
        makers = _makers(db, table)
        steps = _stood_on(db, index, [stage for stage in makers if len(makers[stage]) == 1])
        db.execute(
            "INSERT INTO uses SELECT unnest($1), $2, unnest($3), unnest($4), unnest($5)",
            [
                [training for training, _ in steps],
                table,
                [stage for _, stage in steps],
                [makers[stage][0] for _, stage in steps],
                list(steps.values()),
            ],
        )
        several = [stage for stage in makers if len(makers[stage]) > 1]
        if several:  # only triplets have: who wrote one is in its row
            db.execute(_USES_OF_SEVERAL_WRITERS.format(stages=_listed(several)))
    db.execute(_OTHER_USES, [first])
    db.execute("DROP TABLE stood")


def _makers(db: duckdb.DuckDBPyConnection, table: str) -> dict[int, list[str | None]]:
    """Who wrote the rows of each stage that wrote any."""
    query = "SELECT sequence, list(maker) FROM makers WHERE row_table = ? GROUP BY ALL"
    return dict(db.execute(query, [table]).fetchall())


def _stood_on(
    db: duckdb.DuckDBPyConnection, index: str, stages: list[int]
) -> dict[tuple[int, int], int]:
    """The first step at which a training saw a row of a stage, by (training, stage).

    Most trainings see rows of most stages, and all at the same first step: a sample tells that of
    a stage, and the whole index is read only for stages that it leaves open.
    """
    least = dict(db.execute("SELECT sequence, min(first_step) FROM stood GROUP BY ALL").fetchall())

    def steps(which: str) -> dict[tuple[int, int], int]:
        found = db.execute(_STOOD_ON.format(index=index, which=which)).fetchall()
        return {(training, stage): step for training, stage, step in found if stage in stages}

    sure = {k: step for k, step in steps(_SAMPLE).items() if step == least[k[0]]}
    pairs = {(training, stage) for training in least for stage in stages if stage <= training}
    unsure = {stage for _, stage in pairs - sure.keys()}
    return sure | steps(f"i.sequence IN ({_listed(unsure)})") if unsure else sure


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def quoted(path: Path) -> str:
    """A path as the inside of an SQL string."""
    return str(path.resolve()).replace("'", "''")


def _is_held(error: Exception) -> bool:
    """Whether DuckDB failed because someone else has the file open."""
    return isinstance(error, duckdb.ResourceInUseException) or "Could not set lock" in str(error)


def _unlink(path: Path) -> None:
    for each in (path, path.with_name(f"{path.name}.wal")):
        each.unlink(missing_ok=True)
