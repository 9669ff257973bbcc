"""What leaves is found without holding what does not."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from engine.hub.export import REJECTED
from engine.hub.selection import SELECTED, picking
from engine.lineage.ledger import Ledger, create
from engine.lineage.standing import DECIDED, WRITTEN, standing

ROWS = 300_000
_FILL = f"""
INSERT INTO images BY NAME SELECT md5('i' || n) AS id, 'MR' AS modality, 'train' AS split,
    'p' || n AS "group", 0 AS sequence FROM range({ROWS // 10}) r(n);
INSERT INTO triplets BY NAME SELECT md5('t' || n) AS id, md5('i' || n // 10) AS image_id,
    'g' AS generator_id, 'k' AS task_id, 'q?' AS question, 'yes' AS answer, 1 AS sequence
    FROM range({ROWS}) r(n);
INSERT INTO judgements BY NAME SELECT md5('j' || n) AS id, md5('t' || n) AS triplet_id,
    'judge' AS judge_id, 0.5 AS overall, 2 AS sequence FROM range({ROWS}) r(n);
INSERT INTO decisions BY NAME SELECT md5('d' || n) AS id, md5('t' || n) AS triplet_id,
    n % 10 = 0 AS keep, 'kind ' || n % 3 AS reason, 3 AS sequence FROM range({ROWS}) r(n);
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "ledger.duckdb"
    with duckdb.connect(str(path)) as db:
        create(db)
        db.execute(_FILL)
    return path


@pytest.fixture
def narrow(large: Path) -> Ledger:
    """A ledger whose engine may hold 64 MB, less than it takes to sort the rows, and spill none."""
    ledger = Ledger(large)
    ledger._engine = duckdb.connect(
        config={"memory_limit": "64MB", "threads": 1, "temp_directory": ""}
    )
    return ledger


def test_what_leaves_is_found_in_memory_that_does_not_hold_the_rest(narrow: Ledger) -> None:
    with picking(narrow) as db:
        ((rows, scored),) = db.execute(
            f"SELECT count(*), count(reward) FROM ({SELECTED})"
        ).fetchall()
        rejected = sum(map(len, db.sql(REJECTED).to_arrow_reader(10_000)))
    assert (rows, scored, rejected) == (ROWS // 10, ROWS // 10, ROWS - ROWS // 10)


def test_of_decisions_the_latest_stands_and_of_an_id_the_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    with duckdb.connect(str(path)) as db:
        create(db)
        decided = [("a", 1, True), ("b", 1, True), ("b", 3, False), ("c", 3, True), ("b", 2, True)]
        for number, (triplet, sequence, keep) in enumerate(decided):
            db.execute(
                "INSERT INTO decisions BY NAME SELECT ? AS id, ? AS triplet_id, ? AS sequence, "
                "? AS keep",
                [f"d{number}", triplet, sequence, keep],
            )
        for triplet, sequence, answer in (("a", 2, "late"), ("a", 0, "first"), ("b", 0, "one")):
            db.execute(
                "INSERT INTO triplets BY NAME SELECT ? AS id, ? AS sequence, ? AS answer",
                [triplet, sequence, answer],
            )
    ledger = Ledger(path)
    with standing(ledger):
        stand = ledger.sql(f"SELECT id FROM decisions WHERE {DECIDED} ORDER BY id")
        written = ledger.sql(f"SELECT answer FROM triplets WHERE {WRITTEN} ORDER BY id")
    assert [row["id"] for row in stand] == ["d0", "d2", "d3"]
    assert [row["answer"] for row in written] == ["first", "one"]
