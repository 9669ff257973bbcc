"""Does the ledger say what the record says? Row for row, against Parquet of the recorded hashes.

The ledger is a file of its own that anything with DuckDB can write, and nothing in it is hashed. So
whatever leaves the workspace (export, cards, report, PROV) is asked of a ledger that was compared
with the record first, and `triptych lineage verify` compares indexes and summaries too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.lineage import chain, links
from engine.lineage.files import check_hash
from engine.lineage.ledger import (
    INDEXED,
    SUMMARIES,
    Ledger,
    columns_of,
    create,
    lines_of,
    rows_of,
    summarise,
)
from engine.lineage.links import number_of
from engine.records import ROW_TYPES, TYPES_BY_TABLE, Row
from engine.workspace import Workspace

BLOCK = 1_000_000  # rows of small stages that are looked at together
PART = 200_000  # rows that are compared at once, so that memory does not grow with a stage
Difference = tuple[str, str, str]  # what is wrong, in which stage or table, and how much of it


@contextmanager
def agreed(workspace: Workspace, whole: bool = False) -> Iterator[Ledger]:
    """The ledger, held for questions whose answers leave the workspace.

    With `whole` its indexes and summaries are compared too. Raises TriptychError where the record
    is not what was committed, or the ledger is not what the record says.
    """
    check_record(workspace)
    ledger = workspace.ledger()
    if workspace.is_writer:
        ledger.sync(workspace.events)
    with ledger.reading() as db:
        try:
            found = [*differences(workspace, db), *(derived_differences(db) if whole else ())]
        except duckdb.Error as error:
            found = [("the ledger is damaged", ledger.path.name, str(error))]
        for what, where, detail in found:
            raise TriptychError(
                f"{what} ({f'{where}: {detail}' if detail else where}): `triptych lineage rebuild "
                f"-w {workspace.root}` makes {ledger.path.name} again from the record"
            )
        yield ledger


def check_record(workspace: Workspace) -> None:
    """Raise TriptychError where a commit or a shard is not what it was."""
    workspace.described()
    links.sound_links(workspace.events)
    if workspace.vouched is not None:
        for table in TYPES_BY_TABLE:
            for _, path, digest in workspace.shards(table):
                check_hash(path, digest)
        return
    for finding in chain.check(workspace):
        if finding.kind == "broken":
            raise TriptychError(
                f"the record is not what was committed: {finding} (`triptych lineage verify -w "
                f"{workspace.root}` lists everything)"
            )


def differences(workspace: Workspace, db: duckdb.DuckDBPyConnection) -> Iterator[Difference]:
    """Where the ledger is not the record: stages, then rows of the stages that both have.

    Stages whose commit or shards cannot be read are left out: the chain tells of them.
    """
    foreign = _catalogue(db, "ledger") ^ _ours()
    if foreign:  # a view or macro of the name that a question uses would answer in its place
        names = ", ".join(sorted({name for _, name, *_ in foreign}))
        yield "the ledger holds what Triptych did not make", names, ""
        return
    record = {link.name: link for link in links.links(workspace.events) if link.commit}
    wanted = {line[0]: tuple(line) for line in lines_of(list(record.values()))}
    found = {line[0]: line for line in db.execute("SELECT * FROM commits").fetchall()}
    for folder in sorted(wanted.keys() - found.keys()):
        yield "the ledger misses a stage", folder, "the next run, or rebuild, adds it"
    for folder in sorted(found.keys() - wanted.keys()):
        yield "the ledger has a stage that the record has not", folder, ""
    both = sorted(wanted.keys() & found.keys())
    for folder in both:
        if wanted[folder] != found[folder]:
            yield "the ledger differs from the record", folder, "the stage's line is another"
    missing = {found[folder][1] for folder in found.keys() - wanted.keys()}
    counts = _counts(db)
    for row_type in ROW_TYPES:
        stages = [_rows(record[folder], row_type) for folder in both]
        readable = {number_of(f): rows for f, rows in zip(both, stages) if rows is not None}
        unread = {number_of(f) for f, rows in zip(both, stages) if rows is None}
        loaded = {n: c for n, c in counts[row_type.table].items() if n not in missing | unread}
        expected = {n: sum(rows.values()) for n, rows in readable.items() if any(rows.values())}
        if loaded != expected:
            detail = f"{sum(loaded.values())} of {sum(expected.values())} rows, or of other stages"
            yield "the ledger differs from the record", row_type.table, detail
            continue
        others = sum(_others(db, row_type, b) for b in _blocks([readable[n] for n in expected]))
        if others:
            yield "the ledger differs from the record", row_type.table, f"{others} rows are others"


_CATALOGUE = """
SELECT 'column' AS kind, table_name, column_index::VARCHAR, column_name, data_type
FROM duckdb_columns() WHERE database_name = $1 AND schema_name = 'main' AND NOT internal
UNION SELECT 'view', view_name, '', '', '' FROM duckdb_views()
WHERE database_name = $1 AND NOT internal
UNION SELECT 'function', function_name, '', '', '' FROM duckdb_functions()
WHERE database_name = $1 AND NOT internal
UNION SELECT 'schema', schema_name, '', '', '' FROM duckdb_schemas()
WHERE database_name = $1 AND NOT internal AND schema_name <> 'main'
"""


def _catalogue(db: duckdb.DuckDBPyConnection, database: str) -> set[tuple[str, ...]]:
    """Columns, views, functions and schemas, asked from outside, where none of them counts."""
    db.execute("USE memory")
    found = db.execute(_CATALOGUE, [database]).fetchall()
    db.execute(f"USE {database}")
    return set(found)


@cache
def _ours() -> frozenset[tuple[str, ...]]:
    """The catalogue of a ledger as it is made."""
    with duckdb.connect() as db:
        create(db)
        return frozenset(_catalogue(db, "memory"))


def _counts(db: duckdb.DuckDBPyConnection) -> dict[str, dict[int, int]]:
    """Rows of each table by the stage that wrote them."""
    tables = [row_type.table for row_type in ROW_TYPES]
    each = (f"SELECT '{t}', sequence, count(*) FROM {t} GROUP BY ALL" for t in tables)
    counts: dict[str, dict[int, int]] = {table: {} for table in tables}
    for table, sequence, count in db.execute(" UNION ALL ".join(each)).fetchall():
        counts[table][sequence] = count
    return counts


def _rows(link: links.Link, row_type: type[Row]) -> dict[Path, int] | None:
    """Rows of each shard of a table in a stage; None where one of them cannot be read."""
    paths = [path for path in link.shards if path.name.startswith(f"{row_type.table}-")]
    try:
        return {path: pq.read_metadata(path).num_rows for path in paths if path.exists()}
    except (pa.ArrowException, OSError):
        return None


def _blocks(stages: list[dict[Path, int]]) -> Iterator[dict[Path, int]]:
    """Rows by shard of whole stages that have the same columns, up to BLOCK rows (or one stage)."""
    block: dict[Path, int] = {}
    columns = frozenset[str]()
    for rows in stages:
        has = _columns(next(iter(rows)))
        if block and (sum(block.values()) + sum(rows.values()) > BLOCK or has != columns):
            yield block
            block = {}
        block, columns = block | rows, has
    if block:
        yield block


def _columns(path: Path) -> frozenset[str]:
    return frozenset(pq.read_schema(path).names)


def _others(db: duckdb.DuckDBPyConnection, row_type: type[Row], block: dict[Path, int]) -> int:
    """How many rows the ledger has of the block's stages that are not in its shards.

    Both have equally many, so that none means that they have the same. Rows were loaded in the
    shards' order: compared one by one they are nearly always equal, which is told a few shards at a
    time, in memory that does not grow with the stage, and in a sixth of the time that it takes to
    compare them as sets.
    """
    stages = sorted({number_of(path.parent.name) for path in block})
    names = ", ".join(f'"{name}"' for name in [*columns_of(row_type), "sequence"])
    table = (
        f"{row_type.table} WHERE sequence BETWEEN {stages[0]} AND {stages[-1]} "
        f"AND sequence IN ({', '.join(map(str, stages))})"
    )
    ((first, last),) = db.execute(f"SELECT min(rowid), max(rowid) FROM {table}").fetchall()
    if last - first + 1 == sum(block.values()) and all(
        _is_equal(db, row_type, paths, low) for paths, low in _parts(block, first)
    ):
        return 0
    written = rows_of(row_type, _columns(next(iter(block))))
    query = f"SELECT count(*) FROM (SELECT {names} FROM {table} EXCEPT ALL {written})"
    ((others,),) = db.execute(query, [list(map(str, block))]).fetchall()
    return int(others)


def _parts(block: dict[Path, int], first: int) -> Iterator[tuple[dict[Path, int], int]]:
    """A block in parts of up to PART rows (or one shard), with the row that each begins at."""
    part: dict[Path, int] = {}
    for path, rows in block.items():
        held = sum(part.values())
        if part and held + rows > PART:
            yield part, first
            part, first = {}, first + held
        part[path] = rows
    if part:
        yield part, first


def _is_equal(
    db: duckdb.DuckDBPyConnection, row_type: type[Row], part: dict[Path, int], first: int
) -> bool:
    """Whether the ledger's rows from number `first` on are those of the shards, one by one."""
    columns = [f'"{name}"' for name in [*columns_of(row_type), "sequence"]]
    names, last = ", ".join(columns), first + sum(part.values()) - 1
    differs = " OR ".join(f"l.{name} IS DISTINCT FROM w.{name}" for name in columns)
    loaded = f"SELECT {names} FROM {row_type.table} WHERE rowid BETWEEN {first} AND {last}"
    written = rows_of(row_type, _columns(next(iter(part))))
    query = (
        f"SELECT 1 FROM ({loaded}) l POSITIONAL JOIN ({written}) w({names}) WHERE {differs} LIMIT 1"
    )
    return not db.execute(query, [list(map(str, part))]).fetchall()


def derived_differences(db: duckdb.DuckDBPyConnection) -> Iterator[Difference]:
    """Indexes and summaries that do not follow from the ledger's own rows."""
    for table, column in INDEXED:
        index = f"index_{table}_{column}"
        (found,) = db.execute(
            f"SELECT count(*), count(DISTINCT row), (SELECT count(*) FROM {table}), "
            f"(SELECT count(*) FROM {index}) FROM {index} i JOIN {table} t ON t.rowid = i.row "
            f"WHERE i.key = hash(t.{column}) AND i.sequence = t.sequence"
        ).fetchall()
        if len(set(found)) > 1:
            yield "the ledger contradicts itself", index, "it does not lead to the rows"
    yield from _summaries(db)


def _summaries(db: duckdb.DuckDBPyConnection) -> Iterator[Difference]:
    """The summaries are made again in memory, from views of the ledger's tables."""
    tables = [row_type.table for row_type in ROW_TYPES]
    names = [*tables, *(f"index_{table}_{column}" for table, column in INDEXED)]
    db.execute("ATTACH ':memory:' AS again")
    try:
        db.execute("USE again")
        for name in names:
            db.execute(f"CREATE VIEW {name} AS FROM ledger.{name}")
        db.execute(SUMMARIES)
        summarise(db, 0, tables)
        for name in ("makers", "derivations", "uses"):
            (found,) = db.execute(
                f"SELECT (SELECT count(*) FROM (FROM {name} EXCEPT ALL FROM ledger.{name})), "
                f"(SELECT count(*) FROM (FROM ledger.{name} EXCEPT ALL FROM {name}))"
            ).fetchall()
            if any(found):
                yield "the ledger contradicts itself", name, f"{sum(found)} lines are others"
    finally:
        db.execute("USE ledger")
        db.execute("DETACH again")
