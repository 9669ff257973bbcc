"""A workspace on disk: stages write shards, a commit makes them part of the record.

    workspace.json            which configuration made it
    events/00003-generate-r1/ one folder a committed stage: its shards and commit.json
    work/<fingerprint>/       shards of a stage in progress, one file each, renamed when whole
    models/<id>/              a model, named by the hash of its files
    ledger.duckdb             built from events/, never the only copy of anything

A shard that exists is whole, because it was renamed into place. A stage is committed by renaming
its work folder into events/, then one DuckDB transaction; a ledger that missed the second step
catches up when the workspace is opened. So `kill -9` costs at most the shards in flight, or what a
stage that writes none before its end has done.

commit.json holds the SHA-256 and the size of each shard, and the SHA-256 of the commit before:
`engine.lineage.chain`. Only a withdrawal writes a committed shard again, and its commit names the
old hash and the new one. A shard is used only where it has its hash: whoever reads one looks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from engine.config import deciding
from engine.config.section import is_address
from engine.errors import TriptychError
from engine.lineage import links
from engine.lineage.files import file_hash, is_litter, read_hashed, shards_in
from engine.lineage.ledger import Ledger, LedgerBusy
from engine.records import Row, canonical, from_arrow, to_arrow
from engine.shards import flush, replace_file, whole_shards, write_shard

SCHEMA_VERSION = 2
SHARD = 100_000  # rows


def utc(seconds: float | None = None) -> str:
    """Seconds since the epoch, or now, as RFC 3339 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
        return whole_shards(self.folder)

    def write(self, row_type: type[Row], rows: Iterable[Row], shard: str = "000") -> None:
        """Write one shard of a table; writing it again replaces it."""
        write_shard(self.folder, f"{row_type.table}-{shard}", to_arrow(row_type, rows))

    def write_all(self, row_type: type[Row], rows: Iterable[Row], size: int = SHARD) -> None:
        """Write a table as its rows come, in shards of `size` rows, at least one."""
        left = iter(rows)
        for number in count():
            some = list(islice(left, size))
            if some or not number:
                self.write(row_type, some, f"{number:03d}")
            if len(some) < size:
                return


def check_place(root: Path) -> None:
    """Raise TriptychError for an address where a folder is wanted."""
    if is_address(str(root)):
        raise TriptychError(
            f"--workspace {root} is an address, and a workspace is a folder: its record needs the "
            "locks and renames of a file system: give one on NFS, Lustre or a shared volume"
        )


class Workspace:
    """A folder that one run at a time writes and anyone may read."""

    def __init__(self, root: Path, vouched: dict[Path, str | None] | None = None) -> None:
        """`vouched` are the shards' SHA-256 where the commits alone do not tell them."""
        check_place(root)
        self.root = root
        self.vouched = vouched
        self.events = root / "events"
        self.work = root / "work"
        self.models = root / "models"
        self._ledger = Ledger(root / "ledger.duckdb")
        self._lock: IO[str] | None = None

    @classmethod
    def existing(cls, root: Path) -> Workspace:
        """Open for reading; raises TriptychError where there is no workspace."""
        check_place(root)
        if not (root / "workspace.json").is_file():
            raise TriptychError(
                f"no workspace at {root}: `triptych run CONFIG --workspace {root}` makes one"
            )
        return cls(root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be its one writer; raises TriptychError where another run is. See `lineage.opening`."""
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
            self._lock = None
            lock.close()

    @property
    def is_writer(self) -> bool:
        """Whether this process has it open for writing."""
        return self._lock is not None

    def migrate(self) -> None:
        """Take the record from the version that it is of to ours, one version after the other.

        Each step may be run again where it was cut short. Raises TriptychError where the record is
        newer than this code.
        """
        path, content = self.root / "workspace.json", self.described()
        if content["schema"] > SCHEMA_VERSION:
            raise TriptychError(
                f"workspace {self.root} is of version {content['schema']}, made by a newer "
                f"Triptych than this one (version {SCHEMA_VERSION}): update Triptych"
            )
        for version in range(content["schema"], SCHEMA_VERSION):
            MIGRATIONS[version](self)
            content["schema"] = version + 1
            replace_file(path, json.dumps(content, indent=1).encode())

    def claim(self, name: str, config: dict[str, Any]) -> None:
        """Say in workspace.json which configuration it is of.

        Raises TriptychError where that is another.
        """
        path = self.root / "workspace.json"
        if path.exists():
            content = self.described()
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
        replace_file(path, json.dumps(content, indent=1).encode())

    def remember(self, config: dict[str, Any]) -> None:
        """Keep how a command with a configuration ran, for stages that are run one by one after it.

        The configuration that made the workspace stays: the chain of commits begins with it.
        """
        path, content = self.root / "workspace.json", self.described()
        if content.get("latest") != config:
            replace_file(path, json.dumps(content | {"latest": config}, indent=1).encode())

    def described(self) -> dict[str, Any]:
        """What workspace.json says; raises TriptychError where it cannot be read."""
        path = self.root / "workspace.json"
        try:
            content = json.loads(path.read_bytes())
            kinds = {"name": str, "schema": int, "config": dict}
            if all(isinstance(content[key], kind) for key, kind in kinds.items()):
                return dict(content)
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            pass
        raise TriptychError(
            f"{path} is empty, cut or no workspace's: restore it from a backup, or choose another "
            "--workspace"
        )

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that made the workspace."""
        return dict(self.described()["config"])

    @property
    def latest(self) -> dict[str, Any]:
        """The same, with the places and rounds of the last command that was given one."""
        content = self.described()
        return dict(content.get("latest", content["config"]))

    def ledger(self) -> Ledger:
        """The same one each time, since its engine takes time to start."""
        return self._ledger

    def commits(self) -> list[dict[str, Any]]:
        """The commits in order: stage, round, fingerprint, seconds, counts and metrics.

        Raises TriptychError where one cannot be read.
        """
        return [link.commit | {"folder": link.name} for link in links.sound_links(self.events)]

    def shards(self, table: str) -> Iterator[tuple[dict[str, Any], Path, str | None]]:
        """Committed shards of a table in order: their commit, path and SHA-256.

        The last is None where a shard is older than the hash chain.
        """
        record = links.sound_links(self.events)
        hashes = links.shard_hashes(record) if self.vouched is None else self.vouched
        for link in record:
            for path in link.shards:
                if path.name.startswith(f"{table}-") and hashes.get(path, "") is not None:
                    yield link.commit, path, hashes.get(path)

    @property
    def origin(self) -> str:
        """The hash that the first commit continues from: the configuration's."""
        return hashlib.sha256(canonical(self.config).encode()).hexdigest()

    @property
    def head(self) -> str:
        """The hash that the next commit continues from: the newest commit's, or the origin."""
        folders = links.event_folders(self.events)
        return links.read_link(folders[-1]).hash if folders else self.origin

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
        shards = shards_in(stage.folder)
        rows: dict[str, int] = {}
        for shard in shards:
            table = shard.stem.rpartition("-")[0]
            rows[table] = rows.get(table, 0) + pq.read_metadata(shard).num_rows
        before = links.event_folders(self.events)
        sequence = links.number_of(before[-1].name) + 1 if before else 0
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
            "shards": {shard.name: file_hash(shard) for shard in shards},
            "sizes": {shard.name: shard.stat().st_size for shard in shards},
            "previous": self.head,
        }
        if stage.redactions:
            commit["redactions"] = stage.redactions
        replace_file(stage.folder / "commit.json", json.dumps(commit, indent=1).encode())
        target = self.events / f"{sequence:05d}-{stage.name}-r{stage.round}"
        stage.folder.rename(target)
        flush(self.events)
        with suppress(LedgerBusy):  # a reader that will not let go costs the ledger a stage's delay
            self.ledger().sync(self.events)
        return commit

    def read(
        self, row_type: type[Row], stage: str | None = None, round: int | None = None
    ) -> list[Any]:
        """Committed rows of a type, in the order written, of one stage or round where named.

        Raises TriptychError where a shard is not the one that was committed.
        """
        return list(self.stream(row_type, stage, round))

    def stream(
        self, row_type: type[Row], stage: str | None = None, round: int | None = None
    ) -> Iterator[Any]:
        """As `read`, a shard at a time."""
        for commit, shard, digest in self.shards(row_type.table):
            if stage in (None, commit["stage"]) and round in (None, commit["round"]):
                yield from from_arrow(row_type, read_hashed(shard, digest))

    def add_model(self, source: Path) -> tuple[str, Path]:
        """Move a saved model under models/, named by its hash; returns (id, folder).

        It is on disk before anything names it. A folder of that name that holds something else (a
        copy that was cut short, weights that were changed) gives way.
        """
        from engine.vlm.weights import folder_id, known_id

        for path in [p for p in source.rglob("*") if is_litter(p)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        model_id = known_id(source)
        target = self.models / model_id
        same = target.exists() and folder_id(target) == model_id
        kept = target if same else source
        for path in [*kept.rglob("*"), kept]:
            flush(path)
        if same:
            shutil.rmtree(source)
        else:
            shutil.rmtree(target, ignore_errors=True)
            source.rename(target)
        flush(self.models)
        return model_id, target


def _record_hashes(workspace: Workspace) -> None:
    """Version 1 to 2: commits say what their shards are, as they are found now.

    Columns that version 2 added are read as empty from shards that do not have them. Commits stay
    as they are where the record is chained, since the chain is over their bytes.
    """
    record = links.links(workspace.events)
    if any("previous" in link.commit for link in record):
        return
    for link in record:
        hashes = {"schema": 1, "shards": {s.name: file_hash(s) for s in shards_in(link.folder)}}
        data = json.dumps(link.commit | hashes, indent=1).encode()
        if link.commit and "shards" not in link.commit:
            replace_file(link.folder / "commit.json", data)


MIGRATIONS: dict[int, Callable[[Workspace], None]] = {1: _record_hashes}
