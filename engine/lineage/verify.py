"""Is the record what it was? Every hash, every reference, every file: `triptych lineage verify`.

A problem is a dictionary: `what` is wrong, `where`, and `detail`. No problem, no entry.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.lineage.ledger import Ledger
from engine.lineage.schema import REFERENCES, Reference
from engine.records import ROW_TYPES, Redaction, Task, from_arrow
from engine.workspace import Workspace, file_sha256

Problem = dict[str, str]


@dataclass
class Report:
    """What was looked at, what is wrong, and how long it took."""

    problems: list[Problem] = field(default_factory=list)
    commits: int = 0
    shards: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        rate = self.rows / self.seconds if self.seconds else 0.0
        return vars(self) | {"sound": not self.problems, "rows_per_second": round(rate)}


def verify(workspace: Workspace) -> Report:
    """Look at all of the record. Nothing is changed and no lock is taken."""
    started = time.perf_counter()
    report = Report()
    report.problems += _commits(workspace, report)
    report.problems += _images(workspace)
    report.problems += _tasks(workspace)
    report.problems += _weights(workspace)
    report.problems += _ledger(workspace)
    report.problems += _exports(workspace)
    if any((workspace.root / "redacting").glob("*")):
        report.problems.append(
            _problem(
                "withdrawal not finished", "redacting/", "the next run, or lineage rebuild, does it"
            )
        )
    report.seconds = round(time.perf_counter() - started, 3)
    return report


def _problem(what: str, where: str, detail: str = "") -> Problem:
    return {"what": what, "where": where, "detail": " ".join(detail.split())}


def expected_hashes(workspace: Workspace) -> dict[tuple[str, str], str]:
    """SHA-256 by (folder, shard): what the commit says, or the redaction after it."""
    expected = {
        (commit["folder"], name): digest
        for commit in workspace.commits()
        for name, digest in commit.get("shards", {}).items()
    }
    for shard in sorted(workspace.events.glob("*/redactions-*.parquet")):
        if _readable(shard):
            for row in from_arrow(Redaction, pq.read_table(shard)):
                expected[row.folder, row.shard] = row.new_sha256
    return expected


def _readable(shard: Path) -> bool:
    try:
        pq.read_metadata(shard)
    except (pa.ArrowException, OSError):
        return False
    return True


def _commits(workspace: Workspace, report: Report) -> Iterator[Problem]:
    """Each stage has its commit, each shard its hash and rows, and none is missing or extra."""
    expected = expected_hashes(workspace)
    folders = sorted(p for p in workspace.events.iterdir() if p.is_dir())
    for sequence, folder in enumerate(folders):
        report.commits += 1
        try:
            commit = json.loads((folder / "commit.json").read_text())
        except (OSError, ValueError) as error:
            yield _problem("commit.json cannot be read", folder.name, str(error))
            continue
        if commit["sequence"] != sequence:
            yield _problem("a stage is missing", folder.name, f"it should be number {sequence}")
        there = {p.name for p in folder.glob("*.parquet")}
        known = set(commit.get("shards", there))
        for name in sorted(known - there):
            yield _problem("a shard is missing", f"{folder.name}/{name}")
        for name in sorted(there - known):
            yield _problem("a shard that no commit names", f"{folder.name}/{name}")
        for name in sorted(there & known):
            yield from _shard(folder / name, expected.get((folder.name, name)), report)


def _shard(path: Path, digest: str | None, report: Report) -> Iterator[Problem]:
    where = f"{path.parent.name}/{path.name}"
    report.shards += 1
    report.bytes += path.stat().st_size
    if digest is not None and file_sha256(path) != digest:
        yield _problem("a shard was changed", where, "its SHA-256 is not the recorded one")
    if not _readable(path):
        yield _problem("a shard is torn", where, "it is no whole Parquet file")
        return
    report.rows += pq.read_metadata(path).num_rows


def _images(workspace: Workspace) -> Iterator[Problem]:
    """An image's id is the hash of its pixels."""
    for shard in sorted(workspace.events.glob("*/images-*.parquet")):
        if not _readable(shard):
            continue
        for batch in pq.ParquetFile(shard).iter_batches(64, columns=["id", "png"]):
            for row in batch.to_pylist():
                if _pixels_id(row["png"]) != row["id"]:
                    where = f"{shard.parent.name}/{shard.name}"
                    yield _problem("an image's id is not of its pixels", where, row["id"])


def _pixels_id(png: bytes) -> str:
    from engine.imaging.ingest import pixels_id

    try:
        with PIL.Image.open(io.BytesIO(png)) as image:
            return pixels_id(np.asarray(image))
    except (OSError, ValueError, SyntaxError):
        return ""


def _tasks(workspace: Workspace) -> Iterator[Problem]:
    """A task's id is the hash of its fields."""
    for shard in sorted(workspace.events.glob("*/tasks-*.parquet")):
        for task in from_arrow(Task, pq.read_table(shard)) if _readable(shard) else []:
            fields = (task.modality, task.question_type, task.difficulty, task.answer_format)
            if Task.make(*fields, task.prompt_style).id != task.id:
                yield _problem("a task's id is not of its fields", shard.parent.name, task.id)


def _weights(workspace: Workspace) -> Iterator[Problem]:
    """A model's id is the hash of its weights, where these are in the workspace."""
    from engine.vlm.weights import weights_id

    for folder in sorted(workspace.models.glob("*")):
        if folder.is_dir() and weights_id(folder) != folder.name:
            yield _problem("weights were changed", f"models/{folder.name}")


def _ledger(workspace: Workspace) -> Iterator[Problem]:
    """The ledger has every stage, as many rows as the shards, and every id that a row names."""
    ledger = workspace.ledger()
    try:
        with ledger.reading():
            yield from _counts(workspace, ledger)
            for reference in REFERENCES:
                yield from _dangling(ledger, reference)
    except TriptychError as error:
        yield _problem("the ledger cannot be read", ledger.path.name, str(error))
    except Exception as error:  # DuckDB raises many kinds for a damaged file
        yield _problem("the ledger is damaged", ledger.path.name, str(error))


def _counts(workspace: Workspace, ledger: Ledger) -> Iterator[Problem]:
    have = {row["folder"] for row in ledger.sql("SELECT folder FROM commits")}
    stages = {commit["folder"] for commit in workspace.commits()}
    for folder in sorted(stages - have):
        yield _problem("the ledger misses a stage", folder, "the next run, or rebuild, adds it")
    for folder in sorted(have - stages):
        yield _problem("the ledger has a stage that the record has not", folder)
    for row_type in ROW_TYPES:
        table = row_type.table
        shards = [s for s in workspace.events.glob(f"*/{table}-*.parquet") if _readable(s)]
        written = sum(
            pq.read_metadata(s).num_rows for s in shards if s.parent.name in have & stages
        )
        loaded = ledger.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"]
        if written != loaded:
            yield _problem(
                "the ledger differs from the record", table, f"{loaded} of {written} rows"
            )


def _dangling(ledger: Ledger, reference: Reference) -> Iterator[Problem]:
    """Ids of a column that are in none of its targets, and were not withdrawn."""
    table, column = reference.table, reference.column
    named = f"unnest({column})" if column == "derived_from" else column
    known = " UNION ALL ".join(f"SELECT id FROM {t}" for t in reference.targets)
    rows = ledger.sql(
        f"WITH named AS (SELECT {named} AS target FROM {table} WHERE NOT ({reference.unless}) "
        f"AND (SELECT min(schema) FROM commits) >= {reference.since}) "
        f"SELECT count(*) AS n, min(target) AS first FROM named "
        f"ANTI JOIN ({known}) k ON k.id = target "
        "WHERE target NOT IN (SELECT row_id FROM tombstones)"
    )
    if rows[0]["n"]:
        targets = " or ".join(reference.targets)
        detail = f"{rows[0]['n']} name no row of {targets}, first {rows[0]['first']}"
        yield _problem("a reference leads nowhere", f"{table}.{column}", detail)


def _exports(workspace: Workspace) -> Iterator[Problem]:
    """The export that is there is one that was recorded, file by file."""
    folder = workspace.root / "dataset"
    shards = sorted(workspace.events.glob("*/datasets-*.parquet"))
    if not shards or not folder.is_dir():
        return
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    found = {p.relative_to(folder).as_posix(): file_sha256(p) for p in paths}
    recorded = [
        json.loads(r["files"]) for s in shards if _readable(s) for r in pq.read_table(s).to_pylist()
    ]
    if found not in recorded:
        last = recorded[-1] if recorded else {}
        wrong = sorted(k for k in found.keys() | last.keys() if found.get(k) != last.get(k))
        yield _problem("the export was changed", "dataset/", ", ".join(wrong))
