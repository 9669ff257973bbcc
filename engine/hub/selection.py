"""Which rows leave the workspace, and how they are counted: for export, card and Croissant.

What they are is found once for all questions: `selecting` keeps where their parts lie in the
ledger and what a judge gave them, seven numbers a row, and `SELECTED` puts them together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa

from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.standing import DECIDED, WRITTEN, key, standing
from engine.lineage.withdrawals import WITHDRAWN
from engine.workspace import Workspace

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # ours -> the Hub's


NOT_STATED = "not stated"


COUNTED = (
    "split",
    "modality",
    "asked_question_type",
    "origin",
    "is_synthetic",
    "round",
    "generator_id",
    "judge_id",
)


# What may leave, before anything else, so that of all other rows nothing is held: what a decision
# keeps, and an expert's row, which needs no decision, but a decision against it counts. A table,
# since by its size DuckDB sees that the others are to be read past it.
_CHOSEN = f"""
CREATE OR REPLACE TABLE memory.chosen AS
WITH experts AS (
    SELECT {key("id")} AS key FROM triplets WHERE generator_id = 'expert' AND {WRITTEN}
), decided AS (
    SELECT key FROM (SELECT {key("triplet_id")} AS key FROM decisions) SEMI JOIN experts USING (key)
)
SELECT {key("triplet_id")} AS key, sequence FROM decisions WHERE keep AND {DECIDED}
UNION ALL SELECT key, NULL FROM experts ANTI JOIN decided USING (key)
"""
_WRITTEN = f"""
CREATE OR REPLACE TABLE memory.written AS
SELECT key, place, image_id, task_id FROM (
    SELECT {key("id")} AS key, rowid AS place, image_id, task_id FROM triplets WHERE {WRITTEN}
) SEMI JOIN memory.chosen USING (key)
"""
_TOLD = f"""
CREATE OR REPLACE TABLE memory.told AS
SELECT key, place, question_type, answer_format, difficulty, pass_rate, steps
FROM (SELECT *, {key("triplet_id")} AS key, rowid AS place FROM found)
SEMI JOIN memory.chosen USING (key)
QUALIFY row_number() OVER (PARTITION BY key ORDER BY sequence DESC, id) = 1
"""
# One row an exported triplet, none of a withdrawn image. A row's reward is from the judgement that
# its decision stood on.
_PICKED = f"""
CREATE OR REPLACE TABLE memory.judges AS
SELECT judge_id, row_number() OVER (ORDER BY judge_id) AS judge
FROM (SELECT DISTINCT judge_id FROM judgements);
CREATE OR REPLACE TABLE memory.picked AS
WITH withdrawn AS ({WITHDRAWN}), judged AS (
    SELECT key, overall, probability, judge FROM memory.chosen d JOIN (
        SELECT {key("triplet_id")} AS key, sequence, rowid AS place, overall, probability, judge_id
        FROM judgements
    ) j USING (key) JOIN memory.judges USING (judge_id)
    WHERE d.sequence IS NULL OR j.sequence <= d.sequence
    QUALIFY row_number() OVER (PARTITION BY key ORDER BY j.sequence DESC, j.place) = 1
), pictures AS (
    SELECT id, rowid AS place FROM images
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence, rowid) = 1
), wanted AS (
    SELECT id, rowid AS place FROM tasks
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence, rowid) = 1
)
SELECT t.place AS triplet, i.place AS image, k.place AS task, j.judge, j.overall AS reward,
    j.probability, f.place AS found
FROM memory.written t JOIN pictures i ON i.id = t.image_id LEFT JOIN wanted k ON k.id = t.task_id
LEFT JOIN judged j USING (key) LEFT JOIN memory.told f USING (key)
WHERE t.image_id NOT IN (SELECT id FROM withdrawn)
"""
SELECTED = """
SELECT t.id, t.question, t.options, t.answer, t.rationale, i.modality, i.anatomy,
    k.question_type AS asked_question_type, f.question_type AS found_question_type,
    k.answer_format AS asked_answer_format, f.answer_format AS found_answer_format,
    k.difficulty AS asked_difficulty, nullif(f.difficulty, '') AS found_difficulty, f.pass_rate,
    k.steps AS asked_steps, f.steps AS found_steps, k.anatomy AS asked_anatomy,
    k.prompt_style AS asked_style, p.reward, p.probability, t.round,
    i."group", t.image_id, t.generator_id, j.judge_id, i.is_synthetic,
    CASE WHEN i.is_synthetic THEN i.source END AS source,
    CASE WHEN t.generator_id IN ('expert', 'composed', 'drawn', 'safety') THEN t.generator_id
    ELSE 'generated' END AS origin, i.split, t.program
FROM memory.picked p JOIN triplets t ON t.rowid = p.triplet JOIN images i ON i.rowid = p.image
LEFT JOIN tasks k ON k.rowid = p.task LEFT JOIN memory.judges j ON j.judge = p.judge
LEFT JOIN memory.told f ON f.place = p.found
"""
PICTURED = "SELECT id FROM images WHERE rowid IN (SELECT image FROM memory.picked)"  # their images


@contextmanager
def selecting(workspace: Workspace) -> Iterator[Ledger]:
    """The ledger as `agreed` holds it, for questions of the rows that leave: `SELECTED`.

    Raises TriptychError where the ledger or a shard is not what was committed.
    """
    with agreed(workspace) as ledger, picking(ledger):
        yield ledger


@contextmanager
def picking(ledger: Ledger) -> Iterator[duckdb.DuckDBPyConnection]:
    """`SELECTED` of a ledger, whether or not it agrees with the record."""
    with standing(ledger) as db:
        for statement in (_CHOSEN, _WRITTEN, _TOLD, _PICKED):
            db.execute(statement)
        db.execute("DROP TABLE memory.chosen; DROP TABLE memory.written")
        try:
            yield db
        finally:
            with suppress(duckdb.Error):  # an engine that failed is closed, and its memory with it
                for table in ("picked", "told", "judges"):
                    db.execute(f"DROP TABLE memory.{table}")


def batches(
    ledger: Ledger, query: str, rows: int, parameters: list[Any] | dict[str, Any] | None = None
) -> Iterator[pa.RecordBatch]:
    """A query's rows in batches of exactly so many, but for the last, each in one piece."""
    held: list[pa.RecordBatch] = []
    with ledger.reading() as db, db.cursor() as cursor:
        cursor.execute("USE ledger")
        for batch in cursor.sql(query, params=parameters or []).to_arrow_reader(rows):
            held.append(batch)
            while sum(map(len, held)) >= rows:
                whole = pa.concat_batches(held)
                yield whole.slice(0, rows)
                held = [whole.slice(rows)]
    if sum(map(len, held)):
        yield pa.concat_batches(held)


def counted(ledger: Ledger) -> dict[str, dict[Any, int]]:
    """Exported rows by the values of each of `COUNTED`, in one pass; values in order."""
    sets = ", ".join(f"({column})" for column in COUNTED)
    rows = ledger.sql(
        f"SELECT {', '.join(COUNTED)}, grouping({', '.join(COUNTED)}) AS rolled_up, count(*) AS n "
        f"FROM ({SELECTED}) GROUP BY GROUPING SETS ({sets}) ORDER BY ALL"
    )
    counts: dict[str, dict[Any, int]] = {column: {} for column in COUNTED}
    for row in rows:  # a bit is 0 for the column that a row counts, the first column's is highest
        bits = f"{row['rolled_up']:0{len(COUNTED)}b}"
        column = COUNTED[bits.index("0")]
        value = row[column]
        counts[column][NOT_STATED if value is None else value] = row["n"]
    return counts


def told_of(known_by: str, path: str) -> str:
    """What an id does not say of a model: its Hub commit, or that its weights are not known."""
    if known_by == "name":
        return f"{path} at an endpoint: which weights answered cannot be known"
    return path if known_by == "commit" else ""


def told_by_id(ledger: Ledger) -> dict[str, str]:
    """`told_of` by id, of the models of which there is something to tell."""
    rows = ledger.sql("SELECT DISTINCT id, known_by, path FROM models ORDER BY ALL")
    told = {row["id"]: told_of(row["known_by"], row["path"]) for row in rows}
    return {model: text for model, text in told.items() if text}


def of_rounds(ledger: Ledger, stage: str = "select") -> list[tuple[int, dict[str, Any]]]:
    """The metrics of each round's selection, or of another stage."""
    query = "SELECT round, metrics FROM commits WHERE stage = ? ORDER BY ALL"
    commits = ledger.sql(query, [stage])
    return [(c["round"], json.loads(c["metrics"])) for c in commits]
