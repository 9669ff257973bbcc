"""Is the record what it was? Every hash, every reference, every file: `triptych lineage verify`.

A problem is a dictionary: `what` is wrong, `where`, and `detail`. No problem, no entry.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.lineage import chain
from engine.lineage.ledger import Ledger
from engine.lineage.schema import REFERENCES, Reference
from engine.records import ROW_TYPES, Task, from_arrow
from engine.workspace import Workspace, is_whole

Problem = dict[str, str]


@dataclass
class Report:
    """What was looked at, what is wrong, and how long it took."""

    problems: list[Problem] = field(default_factory=list)
    commits: int = 0
    unchained: int = 0  # commits older than the hash chain, which does not vouch for them
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
    report.problems += _chain(workspace, report)
    report.problems += _shards(workspace, report)
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


def _chain(workspace: Workspace, report: Report) -> Iterator[Problem]:
    """Each stage has its commit, which continues the one before; each shard has its hash."""
    for finding in chain.check(workspace):
        if finding.kind == "broken":
            yield _problem(finding.what, finding.folder)
        else:
            report.unchained += 1


def _shards(workspace: Workspace, report: Report) -> Iterator[Problem]:
    """Every shard can be read."""
    report.commits = len(chain.links(workspace))
    for path in sorted(workspace.events.glob("*/*.parquet")):
        report.shards += 1
        report.bytes += path.stat().st_size
        if is_whole(path):
            report.rows += pq.read_metadata(path).num_rows
        else:
            what = f"{path.name} is torn"
            yield _problem(what, path.parent.name, "it is no whole Parquet file")


def _images(workspace: Workspace) -> Iterator[Problem]:
    """An image's id is the hash of its pixels."""
    for shard in sorted(workspace.events.glob("*/images-*.parquet")):
        if not is_whole(shard):
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
        for task in from_arrow(Task, pq.read_table(shard)) if is_whole(shard) else []:
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
    stages = {link.name for link in chain.links(workspace) if link.commit}
    for folder in sorted(stages - have):
        yield _problem("the ledger misses a stage", folder, "the next run, or rebuild, adds it")
    for folder in sorted(have - stages):
        yield _problem("the ledger has a stage that the record has not", folder)
    for row_type in ROW_TYPES:
        table = row_type.table
        shards = [s for s in workspace.events.glob(f"*/{table}-*.parquet") if is_whole(s)]
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
    found = {p.relative_to(folder).as_posix(): chain.file_hash(p) for p in paths}
    recorded = [
        json.loads(r["files"]) for s in shards if is_whole(s) for r in pq.read_table(s).to_pylist()
    ]
    if found not in recorded:
        last = recorded[-1] if recorded else {}
        wrong = sorted(k for k in found.keys() | last.keys() if found.get(k) != last.get(k))
        yield _problem("the export was changed", "dataset/", ", ".join(wrong))
