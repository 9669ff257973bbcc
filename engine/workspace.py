"""A workspace on disk: stages write shards, a commit makes them part of the record.

    workspace.json            which configuration made it
    events/00003-generate-r1/ one folder a committed stage: its shards and commit.json
    work/<fingerprint>/       shards of a stage in progress, one file each, renamed when whole
    models/<id>/              weights
    ledger.duckdb             built from events/, never the only copy of anything

A shard that exists is whole, because it was renamed into place. A stage is committed by renaming
its work folder into events/, then one DuckDB transaction; a ledger that missed the second step
catches up when the workspace is opened. So `kill -9` costs at most the shards in flight, or what a
stage that writes none before its end has done.

commit.json holds the SHA-256 of each shard and of the commit before: `engine.lineage.chain`. Only a
withdrawal writes a committed shard again, and its commit names the old hash and the new one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.config import deciding
from engine.errors import TriptychError
from engine.lineage import chain
from engine.lineage.ledger import Ledger, LedgerBusy
from engine.records import Row, canonical, from_arrow, to_arrow

SCHEMA_VERSION = 2


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
    _flush(path.parent)


def _flush(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_whole(shard: Path) -> bool:
    """Whether a Parquet file can be read; a disk that was full or failed may have torn it."""
    try:
        pq.read_metadata(shard)
    except (pa.ArrowException, OSError):
        return False
    return True


def utc(seconds: float | None = None) -> str:
    """Seconds since the epoch, or now, as RFC 3339 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_shard(folder: Path, name: str, table: pa.Table) -> Path:
    """Write a Parquet file under a temporary name and rename it when whole."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    path = folder / f"{name}.parquet"
    _replace(path, sink.getvalue().to_pybytes())
    return path


@dataclass
class Stage:
    """A stage in progress: where its shards go, and what its commit will say."""

    name: str
    round: int
    fingerprint: str
    folder: Path
    started: float = field(default_factory=time.time)
    metrics: dict[str, Any] = field(default_factory=dict)
    redactions: list[dict[str, Any]] = field(default_factory=list)  # engine.lineage.chain

    def done(self) -> set[str]:
        """Names of the shards that are already whole; a torn one is thrown away."""
        shards = list(self.folder.glob("*.parquet"))
        for shard in shards:
            if not is_whole(shard):
                shard.unlink()
        return {path.stem for path in shards if path.exists()}

    def write(self, row_type: type[Row], rows: Iterable[Row], shard: str = "000") -> None:
        """Write one shard of a table; writing it again replaces it."""
        write_shard(self.folder, f"{row_type.table}-{shard}", to_arrow(row_type, rows))


class Workspace:
    """A folder that one run at a time writes and anyone may read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events = root / "events"
        self.work = root / "work"
        self.models = root / "models"
        self._ledger = Ledger(root / "ledger.duckdb")
        self._lock: IO[str] | None = None

    @classmethod
    def existing(cls, root: Path) -> Workspace:
        """Open for reading; raises TriptychError where there is no workspace."""
        if not (root / "workspace.json").is_file():
            raise TriptychError(
                f"no workspace at {root}: `triptych run CONFIG --workspace {root}` makes one"
            )
        return cls(root)

    @classmethod
    @contextmanager
    def writing(cls, root: Path, name: str, config: dict[str, Any]) -> Iterator[Workspace]:
        """Open (or make) a workspace as its one writer.

        Raises TriptychError where another run has it open, or another configuration made it.
        """
        workspace = cls(root)
        for folder in (workspace.events, workspace.work, workspace.models):
            folder.mkdir(parents=True, exist_ok=True)
        with workspace._locked():
            workspace._claim(name, config)
            workspace._open()
            yield workspace

    @classmethod
    @contextmanager
    def maintaining(cls, root: Path) -> Iterator[Workspace]:
        """Open an existing workspace as its one writer, whatever configuration made it."""
        workspace = cls.existing(root)
        with workspace._locked():
            workspace._open()
            yield workspace

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = (self.root / ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            lock.close()
            raise TriptychError(
                f"workspace {self.root} is in use by another run: wait for it, or choose "
                "--workspace"
            ) from None
        except OSError as error:
            lock.close()
            raise TriptychError(
                f"the file system of workspace {self.root} has no locks ({error.strerror}), which "
                "keep two runs from writing at once: choose --workspace on another"
            ) from None
        self._lock = lock
        try:
            yield
        finally:
            lock.close()

    def _open(self) -> None:
        """Bring the record to this version, mend it, finish a withdrawal cut short, catch up."""
        from engine.lineage import redaction, repair

        self._migrate()
        repair.mend(self)
        if not redaction.finish(self):
            self.ledger().sync(self.events)

    def _migrate(self) -> None:
        """Take the record from the version that it is of to ours, one version after the other.

        Each step may be run again where it was cut short. Raises TriptychError where the record is
        newer than this code.
        """
        path = self.root / "workspace.json"
        content = json.loads(path.read_text())
        if content["schema"] > SCHEMA_VERSION:
            raise TriptychError(
                f"workspace {self.root} is of version {content['schema']}, made by a newer "
                f"Triptych than this one (version {SCHEMA_VERSION}): update Triptych"
            )
        for version in range(content["schema"], SCHEMA_VERSION):
            MIGRATIONS[version](self)
            content["schema"] = version + 1
            _replace(path, json.dumps(content, indent=1).encode())

    def _claim(self, name: str, config: dict[str, Any]) -> None:
        path = self.root / "workspace.json"
        if path.exists():
            content = json.loads(path.read_text())
            made_by, asked = deciding(content["config"]), deciding(config)
            changed = [
                f"{section}.{key}".rstrip(".")
                for section, values in asked.items()
                for key, value in values.items()
                if canonical(value) != canonical(made_by.get(section, {}).get(key))
            ]
            if changed:
                raise TriptychError(
                    f"workspace {self.root} was made by another configuration "
                    f"(different: {', '.join(sorted(changed))}): choose another --workspace"
                )
            return
        content = {"name": name, "schema": SCHEMA_VERSION, "config": config}
        _replace(path, json.dumps(content, indent=1).encode())

    def remember(self, config: dict[str, Any]) -> None:
        """Keep how a command with a configuration ran, for stages that are run one by one after it.

        The configuration that made the workspace stays: the chain of commits begins with it.
        """
        path = self.root / "workspace.json"
        content = json.loads(path.read_text())
        if content.get("latest") != config:
            _replace(path, json.dumps(content | {"latest": config}, indent=1).encode())

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that made the workspace."""
        return dict(json.loads((self.root / "workspace.json").read_text())["config"])

    @property
    def latest(self) -> dict[str, Any]:
        """The same, with the places and rounds of the last command that was given one."""
        content = json.loads((self.root / "workspace.json").read_text())
        return dict(content.get("latest", content["config"]))

    def ledger(self) -> Ledger:
        """The same one each time, since its engine takes time to start."""
        return self._ledger

    def commits(self) -> list[dict[str, Any]]:
        """The commits in order: stage, round, fingerprint, seconds, counts and metrics."""
        paths = sorted(self.events.glob("*/commit.json"))
        return [json.loads(p.read_text()) | {"folder": p.parent.name} for p in paths]

    def committed(self, fingerprint: str) -> dict[str, Any] | None:
        """The commit with this fingerprint, if there is one."""
        return next((c for c in self.commits() if c["fingerprint"] == fingerprint), None)

    def begin(self, name: str, round: int, fingerprint: str) -> Stage:
        """Start a stage, or take it up where it was left."""
        folder = self.work / fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        return Stage(name, round, fingerprint, folder)

    def commit(self, stage: Stage) -> dict[str, Any]:
        """Make the stage's shards part of the record, all or none."""
        for scratch in [p for p in stage.folder.iterdir() if p.is_dir()]:
            shutil.rmtree(scratch)
        shards = sorted(stage.folder.glob("*.parquet"))
        rows: dict[str, int] = {}
        for shard in shards:
            table = shard.stem.rpartition("-")[0]
            rows[table] = rows.get(table, 0) + pq.read_metadata(shard).num_rows
        sequence = len(list(self.events.iterdir()))
        commit = {
            "sequence": sequence,
            "stage": stage.name,
            "round": stage.round,
            "fingerprint": stage.fingerprint,
            "seconds": round(time.time() - stage.started, 2),
            "started": utc(stage.started),
            "ended": utc(),
            "rows": rows,
            "metrics": stage.metrics,
            "schema": SCHEMA_VERSION,
            "shards": {shard.name: chain.file_hash(shard) for shard in shards},
            "previous": chain.head(self),
        }
        if stage.redactions:
            commit["redactions"] = stage.redactions
        _replace(stage.folder / "commit.json", json.dumps(commit, indent=1).encode())
        target = self.events / f"{sequence:05d}-{stage.name}-r{stage.round}"
        stage.folder.rename(target)
        _flush(self.events)
        with suppress(LedgerBusy):  # a reader that will not let go costs the ledger a stage's delay
            self.ledger().sync(self.events)
        return commit

    def read(
        self, row_type: type[Row], stage: str | None = None, round: int | None = None
    ) -> list[Any]:
        """Committed rows of a type, in the order written, of one stage or round where named."""
        rows: list[Any] = []
        for commit in self.commits():
            if stage not in (None, commit["stage"]) or round not in (None, commit["round"]):
                continue
            folder = self.events / commit["folder"]
            for shard in sorted(folder.glob(f"{row_type.table}-*.parquet")):
                rows += from_arrow(row_type, pq.read_table(shard))
        return rows

    def add_model(self, source: Path) -> tuple[str, Path]:
        """Move saved weights under models/, named by their hash; returns (id, folder)."""
        from engine.vlm.weights import weights_id

        model_id = weights_id(source)
        target = self.models / model_id
        if target.exists():
            shutil.rmtree(source)
        else:
            source.rename(target)
        return model_id, target


def _record_hashes(workspace: Workspace) -> None:
    """Version 1 to 2: commits say what their shards are, as they are found now.

    Columns that version 2 added are read as empty from shards that do not have them. Commits stay
    as they are where the record is chained, since the chain is over their bytes.
    """
    record = chain.links(workspace)
    if any("previous" in link.commit for link in record):
        return
    for link in record:
        shards = sorted(link.folder.glob("*.parquet"))
        hashes = {"schema": 1, "shards": {s.name: chain.file_hash(s) for s in shards}}
        data = json.dumps(link.commit | hashes, indent=1).encode()
        if link.commit and "shards" not in link.commit:
            _replace(link.folder / "commit.json", data)


MIGRATIONS: dict[int, Callable[[Workspace], None]] = {1: _record_hashes}
