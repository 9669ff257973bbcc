"""Which rows stand: of a triplet's decisions the latest, of rows of one id the first.

Nearly every triplet is decided once and nearly every id is of one row. So what is kept is the
exceptions, by their numbers in the ledger, and whoever asks for what stands reads a table and
leaves them out: nothing of ten million rows has to be sorted or held for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb

from engine.lineage.ledger import Ledger

# Rows that do not stand are in these tables of the engine's memory, `place` being their rowid.
STANDS = "rowid NOT IN (SELECT place FROM memory.{})"
DECIDED = STANDS.format("superseded")  # of decisions
WRITTEN = STANDS.format("repeated")  # of triplets

_TABLES = (("superseded", "decisions", "triplet_id", "DESC"), ("repeated", "triplets", "id", "ASC"))


def key(column: str) -> str:
    """SQL for an id as a number of as many bits: 16 bytes of fixed size, compared without text."""
    return f"md5_number({column})"


def _places(table: str, column: str, order: str) -> str:
    return f"""
WITH rows AS NOT MATERIALIZED (SELECT {key(column)} AS key, sequence, rowid AS place FROM {table})
SELECT place FROM rows
WHERE key IN (SELECT key FROM rows GROUP BY key HAVING count(*) > 1)
QUALIFY row_number() OVER (PARTITION BY key ORDER BY sequence {order}, place) > 1
"""


@contextmanager
def standing(ledger: Ledger) -> Iterator[duckdb.DuckDBPyConnection]:
    """The ledger with `DECIDED` and `WRITTEN` to ask for."""
    with ledger.reading() as db:
        for name, *of in _TABLES:
            db.execute(f"CREATE OR REPLACE TABLE memory.{name} AS {_places(*of)}")
        try:
            yield db
        finally:
            with suppress(duckdb.Error):  # an engine that failed is closed, and its memory with it
                for name, *_ in _TABLES:
                    db.execute(f"DROP TABLE memory.{name}")
