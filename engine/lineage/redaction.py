"""Taking rows out of the record for good, so that an interruption at any point is made good.

    redacting/<fingerprint>/<folder>/<shard>   committed shards, written again without the rows
    redacting/<fingerprint>/remove.json        other files of the workspace that hold the data, and
                                               files of lines of which some do

1. The new shards are written aside. Cut short here, nothing was withdrawn: they are thrown away.
2. The withdrawal is committed: tombstones, and in its commit.json the old and the new hash of
   each shard (`redactions`, which `engine.lineage.chain` follows).
3. The new shards take their places, the ledger is made again from them (a deletion would leave the
   rows in the file's free blocks), the export is written again, and the folder goes. Cut short
   here, it is finished when the workspace is next opened for writing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import TriptychError
from engine.hub.publish import publish_again
from engine.lineage.files import file_hash, is_litter, read_hashed
from engine.lines import without
from engine.records import Picture, Tombstone, Withdrawal, content_id
from engine.shards import replace_file, write_shard
from engine.workspace import Workspace

Rule = tuple[str, str, list[str]]  # a table, a column, the ids whose rows go
Lines = dict[str, dict[str, list[str]]]  # of a file of JSON lines: values whose lines go, by key


def redact(
    workspace: Workspace,
    withdrawal: Withdrawal,
    rules: list[Rule],
    remove: list[str],
    lines: Lines | None = None,
) -> None:
    """Take rows out of every shard, files out of the workspace, and lines out of files.

    Files are named by paths relative to the workspace, which is open for writing. What was in
    progress starts anew: it may hold the rows too.
    """
    fingerprint = content_id("withdraw", withdrawal.id)
    aside = workspace.root / "redacting" / fingerprint
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    gone: dict[str, set[str]] = {}
    redactions = []
    for table, column, ids in rules:
        for _, shard, digest in list(workspace.shards(table)):
            taken = _rewrite(aside, shard, digest, column, ids)
            if taken:
                if table != Picture.table:  # its image's tombstone tells of it
                    gone.setdefault(table, set()).update(taken)
                redactions.append(_redaction(aside, shard))
    listed = {"files": remove, "lines": lines or {}}
    replace_file(aside / "remove.json", json.dumps(listed).encode())
    stage = workspace.begin("withdraw", 0, fingerprint)
    stage.write(Withdrawal, [withdrawal])
    stage.write(Tombstone, _tombstones(withdrawal.id, gone))
    stage.redactions = redactions
    workspace.commit(stage)
    finish(workspace)


def _rewrite(
    aside: Path, shard: Path, digest: str | None, column: str, ids: list[str]
) -> list[str]:
    """Write a shard aside without the rows whose column is one of `ids`; the ids of these rows."""
    keys = read_hashed(shard, digest, ["id", column] if column != "id" else ["id"])
    held = pc.is_in(keys[column], pa.array(ids, pa.string()))
    if not pc.any(held).as_py():
        return []
    folder = aside / shard.parent.name
    folder.mkdir(exist_ok=True)
    write_shard(folder, shard.stem, read_hashed(shard, digest).filter(pc.invert(held)))
    return [str(name) for name in keys["id"].filter(held).to_pylist()]


def _redaction(aside: Path, shard: Path) -> dict[str, str]:
    folder, name = shard.parent.name, shard.name
    new = file_hash(aside / folder / name)
    return {"folder": folder, "shard": name, "old": file_hash(shard), "new": new}


def _tombstones(withdrawal_id: str, gone: dict[str, set[str]]) -> list[Tombstone]:
    return [
        Tombstone(
            id=content_id("tombstone", withdrawal_id, table, row_id),
            withdrawal_id=withdrawal_id,
            row_id=row_id,
            row_table=table,
        )
        for table, ids in gone.items()
        for row_id in sorted(ids)
    ]


def finish(workspace: Workspace) -> bool:
    """Carry out withdrawals that are committed, drop those that are not; whether there were any.

    The workspace is open for writing.
    """
    pending = [p for p in (workspace.root / "redacting").glob("*") if p.is_dir()]
    committed = [p for p in pending if workspace.committed(p.name)]
    for folder in committed:
        _carry_out(workspace, folder)
    if committed:
        workspace.ledger().rebuild(workspace.events)
        publish_again(workspace)
    shutil.rmtree(workspace.root / "redacting", ignore_errors=True)
    return bool(committed)


def _carry_out(workspace: Workspace, aside: Path) -> None:
    for new in sorted(p for p in aside.glob("*/*.parquet") if not is_litter(p)):
        new.replace(workspace.events / new.parent.name / new.name)
    listed = _to_remove(aside / "remove.json")
    for relative in listed["files"]:
        path = workspace.root / relative
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for relative, named in listed["lines"].items():
        without(workspace.root / relative, named)
    for folder in workspace.work.glob("*/"):
        shutil.rmtree(folder)


def _to_remove(path: Path) -> dict[str, Any]:
    try:
        listed = json.loads(path.read_bytes())
        return {"files": list(listed["files"]), "lines": dict(listed["lines"])}
    except (OSError, ValueError, TypeError, KeyError):
        raise TriptychError(
            f"{path} is empty, cut or gone, and names the files that a withdrawal takes away: "
            "restore it from a backup"
        ) from None
