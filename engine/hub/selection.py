"""Which rows leave the workspace, and how they are counted: for export, card and Croissant.

What they are is found once for all questions: `selecting` keeps where their parts lie in the
ledger, five numbers a row, and `SELECTED` puts them together.
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


# One row an exported triplet, none of a withdrawn image. A row's reward is from the judgement that
# its decision stood on; an expert's row needs no decision, but a decision against it counts.
_PICKED = f"""
CREATE OR REPLACE TABLE memory.picked AS
WITH withdrawn AS ({WITHDRAWN}), latest AS (
    SELECT triplet_id, sequence, keep FROM decisions
    QUALIFY row_number() OVER (PARTITION BY triplet_id ORDER BY sequence DESC, id) = 1
), judged AS (
    SELECT j.triplet_id, j.rowid AS place FROM judgements j LEFT JOIN latest USING (triplet_id)
    WHERE latest.sequence IS NULL OR j.sequence <= latest.sequence
    QUALIFY row_number() OVER (PARTITION BY triplet_id ORDER BY j.sequence DESC, j.id) = 1
), written AS (
    SELECT id, image_id, task_id, generator_id, rowid AS place FROM triplets
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence, rowid) = 1
), pictures AS (
    SELECT id, rowid AS place FROM images
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence, rowid) = 1
), told AS (
    SELECT triplet_id, rowid AS place FROM found
    QUALIFY row_number() OVER (PARTITION BY triplet_id ORDER BY sequence DESC, id) = 1
), wanted AS (
    SELECT id, rowid AS place FROM tasks
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence, rowid) = 1
)
SELECT t.place AS triplet, i.place AS image, k.place AS task, j.place AS judgement,
    f.place AS found
FROM written t JOIN pictures i ON i.id = t.image_id LEFT JOIN wanted k ON k.id = t.task_id
LEFT JOIN latest d ON d.triplet_id = t.id LEFT JOIN judged j ON j.triplet_id = t.id
LEFT JOIN told f ON f.triplet_id = t.id
WHERE coalesce(d.keep, t.generator_id = 'expert')
    AND t.image_id NOT IN (SELECT id FROM withdrawn)
"""
SELECTED = """
SELECT t.id, t.question, t.options, t.answer, t.rationale, i.modality, i.anatomy,
    k.question_type AS asked_question_type, f.question_type AS found_question_type,
    k.answer_format AS asked_answer_format, f.answer_format AS found_answer_format,
    k.difficulty AS asked_difficulty, nullif(f.difficulty, '') AS found_difficulty, f.pass_rate,
    k.steps AS asked_steps, f.steps AS found_steps, k.anatomy AS asked_anatomy,
    k.prompt_style AS asked_style, j.overall AS reward, j.probability, t.round,
    i."group", t.image_id, t.generator_id, j.judge_id, i.is_synthetic,
    CASE WHEN i.is_synthetic THEN i.source END AS source,
    CASE WHEN t.generator_id IN ('expert', 'composed') THEN t.generator_id ELSE 'generated' END
    AS origin, i.split, t.program
FROM memory.picked p JOIN triplets t ON t.rowid = p.triplet JOIN images i ON i.rowid = p.image
LEFT JOIN tasks k ON k.rowid = p.task LEFT JOIN judgements j ON j.rowid = p.judgement
LEFT JOIN found f ON f.rowid = p.found
"""


@contextmanager
def selecting(workspace: Workspace) -> Iterator[Ledger]:
    """The ledger as `agreed` holds it, for questions of the rows that leave: `SELECTED`.

    Raises TriptychError where the ledger or a shard is not what was committed.
    """
    with agreed(workspace) as ledger, ledger.reading() as db:
        db.execute(_PICKED)
        try:
            yield ledger
        finally:
            with suppress(duckdb.Error):  # an engine that failed is closed, and its memory with it
                db.execute("DROP TABLE memory.picked")


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


def of_rounds(ledger: Ledger) -> list[tuple[int, dict[str, Any]]]:
    """The metrics of each round's selection."""
    commits = ledger.sql("SELECT round, metrics FROM commits WHERE stage = 'select' ORDER BY ALL")
    return [(c["round"], json.loads(c["metrics"])) for c in commits]
