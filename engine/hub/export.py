"""The dataset as others open it: Parquet that `datasets.load_dataset(folder)` reads without us.

    data/train-00000-of-00001.parquet   one file a split, sorted by image, its bytes inside
    rejects.parquet                     what was thrown out, and why
    README.md                           the card
    croissant.json                      the same for machines

Written with pyarrow and the Hub's schema metadata rather than through `datasets`, which imports
torch: equal workspaces give equal bytes, and a small export takes no seconds to start.
"""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine import question_types
from engine.errors import TriptychError
from engine.hub.card import counted_card
from engine.hub.croissant import write_croissant
from engine.hub.row_groups import BYTES, row_groups
from engine.hub.selection import SELECTED, SPLITS
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.withdrawals import WITHDRAWN
from engine.pixels import Pixels
from engine.workspace import Workspace

# `source` of a real image stays in the workspace: file names carry names of patients.

_REJECTED = f"""
SELECT triplet_id AS id, reason, score, threshold, round, rules_id FROM decisions
WHERE triplet_id IN (SELECT id FROM triplets WHERE image_id NOT IN ({WITHDRAWN}))
QUALIFY row_number() OVER (PARTITION BY triplet_id ORDER BY sequence DESC, id) = 1 AND NOT keep
ORDER BY id
"""


REJECTS = 100_000  # rows of a group
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

    check_splits(ledger)
    if not ledger.sql(f"{SELECTED} LIMIT 1"):
        raise TriptychError(
            f"nothing to export from {workspace.root}: no row was kept; run the select stage first"
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    counts = _write_splits(workspace, ledger, partial / "data")
    counts["rejects"] = _write_rejects(ledger, partial / "rejects.parquet")
    (partial / "README.md").write_text(counted_card(workspace, ledger, name), encoding="utf-8")
    write_croissant(workspace, partial, name, url)
    _swap(partial, out)
    return counts


def _write_splits(workspace: Workspace, ledger: Ledger, folder: Path) -> dict[str, int]:
    """A file a split, its rows as they come; a picture is written once a row group."""
    counts = {}
    pictures = Pixels(workspace.root, vouched=True)
    for split, hub_name in SPLITS.items():
        ordered = f"SELECT * FROM ({SELECTED}) WHERE split = ? ORDER BY image_id, id"
        rows = (_found(row) for row in ledger.stream(ordered, [split]))
        path, count = folder / f"{hub_name}-00000-of-00001.parquet", 0
        with pq.ParquetWriter(
            path, schema(), compression="zstd", dictionary_pagesize_limit=BYTES
        ) as writer:
            for group in row_groups(rows, pictures):
                writer.write_table(pa.Table.from_pylist(group, schema=schema()))
                count += len(group)
        if count:
            counts[hub_name] = count
        else:  # a file without rows would be a split that breaks loaders' statistics
            path.unlink()
    return counts


def _write_rejects(ledger: Ledger, path: Path) -> int:
    columns = [("id", pa.string()), ("reason", pa.string()), ("score", pa.float64())]
    columns += [("threshold", pa.float64()), ("round", pa.int64()), ("rules_id", pa.string())]
    count, rejects = 0, ledger.stream(_REJECTED)
    with pq.ParquetWriter(path, pa.schema(columns), compression="zstd") as writer:
        while rows := list(islice(rejects, REJECTS)):
            writer.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)))
            count += len(rows)
    return count


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
