"""Is the record what it was? Every hash, every reference, every file: `triptych lineage verify`.

A problem is a dictionary: `what` is wrong, `where`, and `detail`. No problem, no entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from engine.errors import TriptychError
from engine.lineage import chain, links
from engine.lineage.agreement import derived_differences, differences
from engine.lineage.files import hashes_of, is_litter, shards_in
from engine.lineage.ledger import Ledger
from engine.lineage.schema import REFERENCES, Reference
from engine.pixels import shows
from engine.records import Dataset, Image, Model, Picture, Row, Task, from_arrow
from engine.shards import is_whole
from engine.workspace import Workspace

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
    if any(not is_litter(path) for path in (workspace.root / "redacting").glob("*")):
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
    folders = links.event_folders(workspace.events)
    report.commits = len(folders)
    for path in [shard for folder in folders for shard in shards_in(folder)]:
        report.shards += 1
        report.bytes += path.stat().st_size
        if is_whole(path):
            report.rows += pq.read_metadata(path).num_rows
        else:
            what = f"{path.name} is torn"
            yield _problem(what, path.parent.name, "it is no whole Parquet file")


def _whole_shards(workspace: Workspace, table: str) -> Iterator[Path]:
    """The shards of a table that can be read, whatever is wrong with their stages' commits."""
    for folder in links.event_folders(workspace.events):
        yield from filter(is_whole, shards_in(folder, table))


def _read(workspace: Workspace, row_type: type[Row]) -> Iterator[tuple[Path, Any]]:
    """Rows of a type that can be read, and the shards that they are in."""
    for shard in _whole_shards(workspace, row_type.table):
        for row in from_arrow(row_type, pq.read_table(shard)):
            yield shard, row


def _images(workspace: Workspace) -> Iterator[Problem]:
    """Each image has a picture, and its id is the hash of that picture's pixels."""
    shown: set[str] = set()
    for shard in _whole_shards(workspace, Picture.table):
        where = f"{shard.parent.name}/{shard.name}"
        for batch in pq.ParquetFile(shard).iter_batches(64):
            for row in batch.to_pylist():
                shown.add(row["id"])
                if not shows(row["png"], row["id"]):
                    yield _problem("an image's id is not of its pixels", where, row["id"])
    for shard in _whole_shards(workspace, Image.table):
        for image_id in pq.read_table(shard, columns=["id"])["id"].to_pylist():
            if image_id not in shown:
                where = f"{shard.parent.name}/{shard.name}"
                yield _problem("an image has no picture", where, image_id)


def _tasks(workspace: Workspace) -> Iterator[Problem]:
    """A task's id is the hash of its fields."""
    for shard, task in _read(workspace, Task):
        fields = (task.modality, task.question_type, task.difficulty, task.answer_format)
        if Task.make(*fields, task.prompt_style, task.anatomy, task.steps).id != task.id:
            yield _problem("a task's id is not of its fields", shard.parent.name, task.id)


def _weights(workspace: Workspace) -> Iterator[Problem]:
    """A model that a stage made has its folder, and its id is the hash of all files there."""
    from engine.vlm.weights import folder_id

    made = {row.id: row for _, row in _read(workspace, Model) if row.path == f"models/{row.id}"}
    for model in made.values():
        folder = workspace.root / model.path
        detail = f"{model.role} of {model.stage}, round {model.round}"
        if not folder.is_dir():
            yield _problem("weights are missing", model.path, detail)
        elif folder_id(folder) != model.id:
            yield _problem("weights or what belongs to them were changed", model.path, detail)


def _ledger(workspace: Workspace) -> Iterator[Problem]:
    """The ledger has every stage, the rows of the shards, and every id that a row names."""
    ledger = workspace.ledger()
    try:
        with ledger.reading() as db:
            for difference in [*differences(workspace, db), *derived_differences(db)]:
                yield _problem(*difference)
            for reference in REFERENCES:
                yield from _dangling(ledger, reference)
    except TriptychError as error:
        yield _problem("the ledger cannot be read", ledger.path.name, str(error))
    except Exception as error:  # DuckDB raises many kinds for a damaged file
        yield _problem("the ledger is damaged", ledger.path.name, str(error))


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
    recorded = [json.loads(row.files) for _, row in _read(workspace, Dataset)]
    if not recorded or not folder.is_dir():
        return
    found = hashes_of(folder)
    if found not in recorded:
        last = recorded[-1]
        wrong = sorted(k for k in found.keys() | last.keys() if found.get(k) != last.get(k))
        yield _problem("the export was changed", "dataset/", ", ".join(wrong))
