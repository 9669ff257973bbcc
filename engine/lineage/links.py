"""The committed stages as they are on disk, each a link of the chain."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import TriptychError
from engine.lineage.files import shards_in


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the chain does not vouch for, or that contradicts it."""

    folder: str
    kind: Literal["unchained", "broken"]
    what: str

    def __str__(self) -> str:
        return f"{self.folder}: {self.what}"


@dataclass(frozen=True, slots=True)
class Link:
    """A committed stage as it is on disk; `commit` is empty where commit.json cannot be read."""

    folder: Path
    commit: dict[str, Any]
    hash: str
    fault: str = ""  # of a commit.json that cannot be read: why not

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def shards(self) -> list[Path]:
        """The Parquet files that the commit names; where it names none, those that are there."""
        named = self.commit.get("shards")
        return shards_in(self.folder) if named is None else [self.folder / n for n in sorted(named)]


_EVENT = re.compile(r"\d{5,}-[\w-]+-r\d+")


def event_folders(events: Path) -> list[Path]:
    """Folders of committed stages, in order.

    What else is there (.DS_Store, @eaDir, a copy that a file browser made) is no event.
    """
    found = [path for path in events.glob("*/") if _EVENT.fullmatch(path.name)]
    return sorted(found, key=lambda path: (number_of(path.name), path.name))


def number_of(event: str) -> int:
    """An event's place in the order, from its folder's name."""
    return int(event.partition("-")[0])


def links(events: Path) -> list[Link]:
    """The events in order."""
    return [read_link(folder) for folder in event_folders(events)]


def sound_links(events: Path) -> list[Link]:
    """The events in order; raises TriptychError where a commit.json cannot be read."""
    record = links(events)
    for link in record:
        if not link.commit:
            raise TriptychError(
                f"{link.folder / 'commit.json'} {link.fault}: restore it from a backup "
                "(`triptych lineage verify` lists everything that is damaged)"
            )
    return record


def read_link(folder: Path) -> Link:
    """An event as it is on disk."""
    try:
        data = (folder / "commit.json").read_bytes()
    except OSError:
        return Link(folder, {}, "", "is missing")
    digest = hashlib.sha256(data).hexdigest()
    try:
        commit = json.loads(data)
    except (ValueError, RecursionError):
        return Link(folder, {}, digest, "is cut or no JSON" if data.strip() else "is empty")
    return Link(folder, commit, digest) if _sound(commit) else Link(folder, {}, digest, _ODD)


_ODD = "is not a commit's"


_KINDS: dict[str, Any] = {
    "sequence": int,
    "stage": str,
    "round": int,
    "fingerprint": str,
    "seconds": (int, float),
    "rows": dict,
    "metrics": dict,
}


def _sound(commit: Any) -> bool:
    return (
        isinstance(commit, dict)
        and all(isinstance(commit.get(key), kind) for key, kind in _KINDS.items())
        and all(isinstance(commit.get(key, {}), dict) for key in ("shards", "sizes"))
        and isinstance(commit.get("redactions", []), list)
        and all(
            isinstance(change, dict) and {"folder", "shard", "old", "new"} <= change.keys()
            for change in commit.get("redactions", [])
        )
    )


@dataclass(frozen=True, slots=True)
class Contents:
    """What the shards of a record should be, after all redactions of them."""

    hashes: dict[Path, str | None]  # None for a shard that was deleted
    redacted: dict[Path, tuple[str, str]]  # the hash before, and who redacted
    findings: list[Finding]


def replay(record: list[Link]) -> Contents:
    """What the record says of its shards, redactions after the commits that they change."""
    said = Contents({}, {}, [])
    for link in record:
        said.hashes.update({link.folder / n: h for n, h in link.commit.get("shards", {}).items()})
        for change in link.commit.get("redactions", []):
            path = link.folder.parent / change["folder"] / change["shard"]
            if said.hashes.get(path, change["old"]) != change["old"]:
                what = f"redacts {change['folder']}/{change['shard']}, which had another hash"
                said.findings.append(Finding(link.name, "broken", what))
            said.hashes[path] = change["new"]
            said.redacted[path] = (change["old"], link.name)
    return said


def shard_hashes(record: list[Link]) -> dict[Path, str | None]:
    """The SHA-256 that each shard should have: its commit's, or its newest redaction's.

    None for a shard that was deleted; a stage older than the hash chain has none of its shards.
    """
    return replay(record).hashes
