"""The dataset as others open it: Parquet that `datasets.load_dataset(folder)` reads without us.

    data/train-00000-of-00001.parquet   one file a split, sorted by id, image bytes inside
    rejects.parquet                     what was thrown out, and why
    README.md                           the card
    croissant.json                      the same for machines

Written with pyarrow and the Hub's schema metadata rather than through `datasets`, which imports
torch: equal workspaces give equal bytes, and a small export takes no seconds to start.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine import question_types
from engine.errors import TriptychError
from engine.hub.row_groups import pictures_of, row_groups
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.withdrawals import WITHDRAWN
from engine.workspace import Workspace

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # ours -> the Hub's
NOT_STATED = "not stated"
COUNTED = (
    "split",
    "modality",
    "question_type",
    "origin",
    "is_synthetic",
    "round",
    "generator_id",
    "judge_id",
)

# One row an exported triplet, none of a withdrawn image. A row's reward is from the judgement that
# its decision stood on; an expert's row needs no decision, but a decision against it counts.
SELECTED = f"""
WITH withdrawn AS ({WITHDRAWN}), latest AS (
    SELECT * FROM decisions
    QUALIFY row_number() OVER (PARTITION BY triplet_id ORDER BY sequence DESC, id) = 1
), judged AS (
    SELECT j.* FROM judgements j LEFT JOIN latest USING (triplet_id)
    WHERE latest.sequence IS NULL OR j.sequence <= latest.sequence
    QUALIFY row_number() OVER (PARTITION BY triplet_id ORDER BY j.sequence DESC, j.id) = 1
), written AS (
    SELECT * FROM triplets QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence) = 1
), pictures AS (
    SELECT * FROM images QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence) = 1
), wanted AS (
    SELECT * FROM tasks QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence) = 1
)
SELECT t.id, t.question, t.options, t.answer, t.rationale, i.modality, i.anatomy,
    k.question_type, k.difficulty, k.prompt_style, j.overall AS reward, j.probability, t.round,
    i."group", t.image_id, t.generator_id, j.judge_id, i.is_synthetic,
    CASE WHEN i.is_synthetic THEN i.source END AS source,
    CASE WHEN t.generator_id = 'expert' THEN 'expert' ELSE 'generated' END AS origin, i.split
FROM written t JOIN pictures i ON i.id = t.image_id
LEFT JOIN wanted k ON k.id = t.task_id
LEFT JOIN latest d ON d.triplet_id = t.id LEFT JOIN judged j ON j.triplet_id = t.id
WHERE coalesce(d.keep, t.generator_id = 'expert')
    AND t.image_id NOT IN (SELECT id FROM withdrawn)
"""
# `source` of a real image stays in the workspace: file names carry names of patients.

_REJECTED = f"""
SELECT triplet_id AS id, reason, score, threshold, round, rules_id FROM decisions
WHERE triplet_id IN (SELECT id FROM triplets WHERE image_id NOT IN ({WITHDRAWN}))
QUALIFY row_number() OVER (PARTITION BY triplet_id ORDER BY sequence DESC, id) = 1 AND NOT keep
ORDER BY id
"""

_ARROW = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_TYPES = {"round": "int64", "reward": "float64", "probability": "float64", "is_synthetic": "bool"}
_COLUMNS = [
    "id",
    "image",
    "question",
    "options",
    "answer",
    "rationale",
    "modality",
    "anatomy",
    "question_type",
    "question_type_found",
    "difficulty",
    "prompt_style",
    "reward",
    "probability",
    "round",
    "group",
    "image_id",
    "generator_id",
    "judge_id",
    "is_synthetic",
    "source",
    "origin",
]


def schema() -> pa.Schema:
    """The Arrow schema with the metadata by which `datasets` knows that `image` is an image."""
    columns: list[pa.Field] = []
    features: dict[str, Any] = {}
    for name in _COLUMNS:
        if name == "image":
            arrow: pa.DataType = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            features[name] = {"_type": "Image"}
        elif name == "options":
            arrow = pa.list_(pa.string())
            features[name] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
        else:
            kind = _TYPES.get(name, "string")
            arrow, features[name] = _ARROW[kind], {"dtype": kind, "_type": "Value"}
        columns.append(pa.field(name, arrow))
    return pa.schema(columns, {"huggingface": json.dumps({"info": {"features": features}})})


def check_splits(ledger: Ledger) -> None:
    """Raise TriptychError where a group or an image is in more than one split."""
    for column, what in (('"group"', "group"), ("id", "image")):
        shared = ledger.sql(
            f"SELECT {column} AS key, string_agg(DISTINCT split, ', ' ORDER BY split) AS splits "
            f"FROM images GROUP BY {column} HAVING count(DISTINCT split) > 1 ORDER BY key"
        )
        if shared:
            raise TriptychError(
                f"{len(shared)} {what}(s) are in more than one split (first: {shared[0]['key']} "
                f"in {shared[0]['splits']}) and test would leak: ingest into a new workspace"
            )


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


def export(workspace: Workspace, out: Path, name: str, url: str | None = None) -> dict[str, int]:
    """Write the dataset folder `out`, whole or not at all; returns the rows of each file.

    `url` is where it will be published, if anywhere. Raises TriptychError where nothing was kept,
    a group is in more than one split, or the ledger or a shard is not what was committed.
    """
    with agreed(workspace) as ledger:
        return export_held(workspace, ledger, out, name, url)


def export_held(
    workspace: Workspace, ledger: Ledger, out: Path, name: str, url: str | None
) -> dict[str, int]:
    """As `export`, from a ledger that `agreed` holds for this and other questions."""
    from engine.hub.card import counted_card  # both count what SELECTED selects
    from engine.hub.croissant import write_croissant

    check_splits(ledger)
    rows = [_found(row) for row in ledger.sql(f"{SELECTED} ORDER BY t.id")]
    if not rows:
        raise TriptychError(
            f"nothing to export from {workspace.root}: no row was kept; run the select stage first"
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    counts = _write_splits(workspace, rows, partial / "data")
    counts["rejects"] = _write_rejects(ledger, partial / "rejects.parquet")
    (partial / "README.md").write_text(counted_card(workspace, ledger, name), encoding="utf-8")
    write_croissant(workspace, partial, name, url)
    _swap(partial, out)
    return counts


def _write_splits(workspace: Workspace, rows: list[dict[str, Any]], folder: Path) -> dict[str, int]:
    counts = {}
    with TemporaryFile(dir=folder) as file:
        pictures = pictures_of(workspace, {row["image_id"] for row in rows}, file)
        for split, hub_name in SPLITS.items():
            members = [row for row in rows if row["split"] == split]
            if members:  # a file without rows would be a split that breaks loaders' statistics
                counts[hub_name] = len(members)
                path = folder / f"{hub_name}-00000-of-00001.parquet"
                with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
                    for group in row_groups(members, pictures):
                        writer.write_table(pa.Table.from_pylist(group, schema=schema()))
    return counts


def _write_rejects(ledger: Ledger, path: Path) -> int:
    rows = ledger.sql(_REJECTED)
    columns = [("id", pa.string()), ("reason", pa.string()), ("score", pa.float64())]
    columns += [("threshold", pa.float64()), ("round", pa.int64()), ("rules_id", pa.string())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)), path, compression="zstd")
    return len(rows)


def _found(row: dict[str, Any]) -> dict[str, Any]:
    """With the question type that its words tell, beside the one that was asked for."""
    return row | {"question_type_found": question_types.found_type(row["question"])}


def _swap(partial: Path, out: Path) -> None:
    """Put the finished folder in place; an old export goes only when it is out of the way."""
    if out.exists():
        if any(out.iterdir()) and not (out / "data").is_dir():
            shutil.rmtree(partial)
            raise TriptychError(f"{out} holds something that is no export: choose another folder")
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        partial.rename(out)
        shutil.rmtree(old)
    else:
        partial.rename(out)
