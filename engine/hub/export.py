"""The dataset as others open it: Parquet that `datasets.load_dataset(folder)` reads without us.

    data/train-00000-of-00003.parquet   a split, sorted by image, pictures inside, in files of
                                        up to `export.shard_mb`
    rejects.parquet                     what was thrown out, and why
    README.md                           the card
    croissant.json                      the same for machines

Written with pyarrow and the Hub's schema metadata rather than through `datasets`, which imports
torch: equal workspaces give equal bytes, and a small export takes no seconds to start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.config.export import SHARD_MB
from engine.errors import TriptychError
from engine.hub.card import counted_card
from engine.hub.columns import ASKED_AND_FOUND
from engine.hub.croissant import write_croissant
from engine.hub.selection import SELECTED, SPLITS, batches, selecting
from engine.hub.sharding import write_split
from engine.hub.swap import begun, put
from engine.lineage.ledger import Ledger
from engine.lineage.standing import DECIDED
from engine.lineage.withdrawals import WITHDRAWN
from engine.pixels import Pixels
from engine.question_types import found_format, found_types
from engine.workspace import Workspace

# `source` of a real image stays in the workspace: file names carry names of patients.

# A triplet of a withdrawn image is gone, or goes with it.
REJECTED = f"""
SELECT triplet_id AS id, reason, score, threshold, round, rules_id FROM decisions
WHERE NOT keep AND {DECIDED} AND triplet_id NOT IN (
    SELECT id FROM triplets WHERE image_id IN ({WITHDRAWN})
    UNION ALL SELECT row_id FROM tombstones WHERE row_table = 'triplets'
) ORDER BY id
"""


ROWS = 10_000  # that are read at once
REJECTS = 100_000  # rows of a group
_ARROW = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


_TYPES = {
    "asked_steps": "int64",
    "found_steps": "int64",
    "pass_rate": "float64",
    "round": "int64",
    "reward": "float64",
    "probability": "float64",
    "is_synthetic": "bool",
}


_COLUMNS = [
    "id",
    "image",
    "question",
    "options",
    "answer",
    "rationale",
    "modality",
    "anatomy",
    *ASKED_AND_FOUND,
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
    "program",
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
            f"FROM images WHERE {column} IN (SELECT {column} FROM images GROUP BY {column} "
            "HAVING min(split) <> max(split)) GROUP BY key ORDER BY key"
        )
        if shared:
            raise TriptychError(
                f"{len(shared)} {what}(s) are in more than one split (first: {shared[0]['key']} "
                f"in {shared[0]['splits']}) and test would leak: ingest into a new workspace"
            )


def export(
    workspace: Workspace,
    out: Path,
    name: str,
    url: str | None = None,
    shard_mb: float | None = None,
) -> dict[str, int]:
    """Write the dataset folder `out`, whole or not at all; returns the rows of each split.

    `url` is where it will be published, if anywhere; a file has up to `shard_mb` MB, or what the
    workspace's configuration says. Raises TriptychError where nothing was kept, a group is in more
    than one split, or the ledger or a shard is not what was committed.
    """
    with selecting(workspace) as ledger:
        return export_held(workspace, ledger, out, name, url, shard_mb or shard_mb_of(workspace))


def shard_mb_of(workspace: Workspace) -> float:
    """MB of a file at most, as the last command with a configuration said."""
    return float(workspace.latest.get("export", {}).get("shard_mb", SHARD_MB))


def export_held(
    workspace: Workspace, ledger: Ledger, out: Path, name: str, url: str | None, shard_mb: float
) -> dict[str, int]:
    """As `export`, from a ledger that `selecting` holds for this and other questions."""

    check_splits(ledger)
    if not ledger.sql("SELECT 1 FROM memory.picked LIMIT 1"):
        raise TriptychError(
            f"nothing to export from {workspace.root}: no row was kept; run the select stage first"
        )
    partial = begun(out)
    (partial / "data").mkdir()
    counts = _write_splits(workspace, ledger, partial / "data", int(shard_mb * 1e6))
    counts["rejects"] = _write_rejects(ledger, partial / "rejects.parquet")
    (partial / "README.md").write_text(counted_card(workspace, ledger, name), encoding="utf-8")
    write_croissant(workspace, ledger, partial, name, url)
    put(partial, out)
    return counts


def _write_splits(workspace: Workspace, ledger: Ledger, folder: Path, limit: int) -> dict[str, int]:
    """The files of every split that has rows: without any it would break loaders' statistics."""
    pictures = Pixels(workspace.root, vouched=True)
    ordered = f"SELECT * FROM ({SELECTED}) WHERE split = ? ORDER BY image_id, id"
    counts = {}
    for split, hub_name in SPLITS.items():
        rows = map(_found, batches(ledger, ordered, ROWS, [split]))
        counts[hub_name] = write_split(rows, pictures, schema(), folder, hub_name, limit)
    return {name: count for name, count in counts.items() if count}


def _write_rejects(ledger: Ledger, path: Path) -> int:
    columns = [("id", pa.string()), ("reason", pa.string()), ("score", pa.float64())]
    columns += [("threshold", pa.float64()), ("round", pa.int64()), ("rules_id", pa.string())]
    kinds = pa.schema(columns)
    count = 0
    with pq.ParquetWriter(path, kinds, compression="zstd") as writer:
        for batch in batches(ledger, REJECTED, REJECTS):
            writer.write_table(pa.Table.from_batches([batch]).cast(kinds))
            count += len(batch)
    return count


def _found(rows: pa.RecordBatch) -> pa.RecordBatch:
    """With type and format of the rows of which no stage found them: those of experts."""
    unknown = rows["found_question_type"].is_null()
    some = rows.filter(unknown)
    said = zip(some["options"].to_pylist(), some["answer"].to_pylist())
    forms = pa.array([found_format(tuple(o), answer) for o, answer in said], pa.string())
    told = {"found_question_type": found_types(some["question"]), "found_answer_format": forms}
    for name, by_rule in told.items():
        filled = pc.replace_with_mask(rows[name], unknown, by_rule)
        rows = rows.set_column(rows.schema.get_field_index(name), name, filled)
    return rows
