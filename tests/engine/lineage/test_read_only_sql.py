"""`lineage sql` reads the ledger and does nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.errors import TriptychError
from engine.lineage import questions
from engine.lineage.files import hashes_of
from engine.workspace import Workspace

WRITES = "UPDATE ledger.triplets SET answer = 'tampered'"


ATTEMPTS = [
    "USE memory; DETACH ledger; ATTACH '{ledger}' AS ledger (READ_WRITE); " + WRITES,
    "USE temp; DETACH ledger; ATTACH '{ledger}' AS ledger (READ_WRITE); " + WRITES,
    "USE system; DETACH ledger; ATTACH '{ledger}' AS ledger; " + WRITES,
    "USE memory",
    "USE temp",
    "USE system",
    "DETACH ledger",
    "ATTACH '{ledger}' AS again (READ_WRITE)",
    "ATTACH ':memory:' AS aside",
    "UPDATE triplets SET answer = 'tampered'",
    "DELETE FROM triplets",
    "INSERT INTO triplets SELECT * FROM triplets",
    "WITH more AS (INSERT INTO triplets SELECT * FROM triplets RETURNING 1) SELECT * FROM more",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "COPY triplets TO '{out}/rows.csv'",
    "COPY (SELECT 1) TO '{out}/rows.parquet'",
    "COPY triplets FROM '{out}/rows.csv'",
    "EXPORT DATABASE '{out}/all'",
    "INSTALL httpfs",
    "LOAD json",
    "PRAGMA enable_profiling",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "CALL enable_logging()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE mine AS SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE triplets",
    "SELECT * FROM read_text('{workspace}')",
    "SELECT * FROM read_parquet('{shard}')",
    "FROM '{shard}'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{out}/log')",
    "SELECT * FROM enable_profiling(save_location = '{out}/profile.json')",
    "SELECT * FROM query('DELETE FROM triplets')",
    "SELECT * FROM WRITES",  # a variable of this module, which DuckDB's Python would look for
    "",
    "-- nothing",
]


@pytest.fixture(scope="module")
def asked(original: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `original` that is asked for what must not be done to it."""
    root = tmp_path_factory.mktemp("asked") / "w"
    shutil.copytree(original.root, root)
    return root


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_sql_that_does_more_than_read_the_ledger_is_refused_in_one_line(
    asked: Path, tmp_path: Path, attempt: str
) -> None:
    before = hashes_of(asked)
    names = {
        "ledger": asked / "ledger.duckdb",
        "workspace": asked / "workspace.json",
        "shard": next(asked.glob("events/*/triplets-*.parquet")),
        "out": tmp_path,
    }
    with pytest.raises(TriptychError, match="cannot answer") as refused:
        questions.ask(Workspace.existing(asked).ledger(), attempt.format(**names))
    assert "\n" not in str(refused.value)
    assert hashes_of(asked) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "query", ["FROM images LIMIT 1", "SHOW TABLES", "DESCRIBE images", "SELECT 1;", "VALUES (1)"]
)
def test_what_reads_is_answered(original: Workspace, query: str) -> None:
    assert questions.ask(original.ledger(), query)
