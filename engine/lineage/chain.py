"""The hash chain over the record: a changed, removed or moved event is noticed.

Each commit.json holds the SHA-256 of its shards (`shards`) and of the commit.json before it
(`previous`; the first holds that of the workspace's configuration). Whoever keeps the newest hash,
the head, or a signature of it, outside the workspace also notices that the newest events are gone.
A shard from which rows were withdrawn has a new hash; a later commit says so in `redactions`, a
list of {folder, shard, old, new} where `new` is null for a shard that was deleted.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import TriptychError
from engine.lineage.files import file_hash, is_litter, shards_in
from engine.lineage.links import Finding, Link, links, replay
from engine.records import canonical
from engine.workspace import Workspace

NAMESPACE = "triptych-record"  # of the SSH signature: one made for another purpose does not count


def check(workspace: Workspace, kept_head: str | None = None) -> list[Finding]:
    """What contradicts the chain (`broken`), and what is older than it (`unchained`).

    `kept_head` is a head noted outside the workspace; it must still be in the record.
    """
    record, findings, origin = links(workspace.events), [], ""
    try:
        origin = workspace.origin
    except TriptychError:
        findings = [Finding("workspace.json", "broken", "cannot be read: it is empty or damaged")]
    findings += [*_order(record), *_continuity(record, origin), *_contents(record)]
    return findings + list(_heads(workspace, record, kept_head))


def _order(record: list[Link]) -> Iterator[Finding]:
    for position, link in enumerate(record):
        said = "{sequence:05d}-{stage}-r{round}"
        if not link.commit:
            yield Finding(link.name, "broken", f"commit.json {link.fault}")
        elif said.format(**link.commit) != link.name:
            made = said.format(**link.commit)
            yield Finding(link.name, "broken", f"was committed as {made}: it was moved")
        elif link.commit["sequence"] != position:
            yield Finding(link.name, "broken", f"is number {position} now: an event was removed")
            return  # all that follow are out by as many


def _continuity(record: list[Link], origin: str) -> Iterator[Finding]:
    before, before_name, chained = origin, "the configuration", False
    for link in record:
        previous = link.commit.get("previous")
        if previous is None and not chained:
            yield Finding(link.name, "unchained", "was committed without hashes")
        elif previous is None:
            yield Finding(link.name, "broken", "has no hashes, though an event before it has")
        elif previous != before:
            what = f"does not continue {before_name}: it was changed, or an event removed or moved"
            yield Finding(link.name, "broken", what)
        chained = chained or previous is not None
        before, before_name = link.hash, link.name


def _contents(record: list[Link]) -> Iterator[Finding]:
    """Every shard has the hash of its commit, or of the newest redaction of it."""
    said = replay(record)
    yield from said.findings
    for path, wanted in said.hashes.items():
        found = file_hash(path) if path.is_file() else None
        if found != wanted:
            old, by = said.redacted.get(path, ("", ""))
            state = "is missing" if found is None else "was changed"
            what = f"still holds what {by} withdrew" if found and found == old else state
            yield Finding(path.parent.name, "broken", f"{path.name} {what}")
    for link in record:
        if "shards" in link.commit:
            for path in sorted(set(shards_in(link.folder)) - said.hashes.keys()):
                yield Finding(link.name, "broken", f"{path.name} is not of this commit")


def _heads(workspace: Workspace, record: list[Link], kept: str | None) -> Iterator[Finding]:
    known = {link.hash for link in record}
    heads = {str(s["folder"]): str(s["head"]) for s in map(_statement, _signed(workspace))}
    for name, hash in [*heads.items(), *([("record", kept)] if kept else [])]:
        if hash not in known:
            what = f"head {hash[:12]}… is not in the record: newest events were removed or changed"
            yield Finding(name, "broken", what)


# Signatures: signatures/<folder>.json says which head was signed, .json.sig is ssh-keygen's.


def _signed(workspace: Workspace) -> list[Path]:
    found = (workspace.root / "signatures").glob("*.json")
    return sorted(path for path in found if not is_litter(path))


def _statement(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return {"folder": said["folder"], "head": said["head"], "events": said["events"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise TriptychError(
            f"{path} is not a statement of a head: restore it, or delete it"
        ) from None


def sign(workspace: Workspace, key: Path) -> Path:
    """Sign the head with an SSH private key (or a public one whose private key the agent holds).

    Returns the signature's path. Raises TriptychError where the chain is broken or signing fails.
    """
    record = links(workspace.events)
    broken = [f for f in check(workspace) if f.kind == "broken"]
    if broken or not record:
        why = str(broken[0]) if broken else "nothing was committed yet"
        raise TriptychError(f"not signed: {why}")
    path = workspace.root / "signatures" / f"{record[-1].name}.json"
    path.parent.mkdir(exist_ok=True)
    said = {"events": len(record), "folder": record[-1].name, "head": record[-1].hash}
    path.write_text(canonical(said), encoding="utf-8")
    signature = path.with_name(f"{path.name}.sig")
    signature.unlink(missing_ok=True)
    done = _ssh_keygen(["sign", "-f", str(key), "-n", NAMESPACE, str(path)])
    if done.returncode:
        path.unlink()
        raise TriptychError(f"ssh-keygen did not sign with {key}: {_last_line(done.stderr)}")
    return signature


def verify_signature(workspace: Workspace, public_key: Path) -> str:
    """Check the newest signature against an SSH public key; returns what it vouches for, a line.

    Raises TriptychError where there is none, it is not of this key, or the record is not as signed.
    """
    signed = _signed(workspace)
    if not signed:
        raise TriptychError(f"no signature in {workspace.root}: `triptych lineage sign` makes one")
    said = _statement(signed[-1])
    with tempfile.NamedTemporaryFile("w", suffix=".allowed") as allowed:
        allowed.write(f"triptych {_read_key(public_key)}\n")
        allowed.flush()
        words = ["verify", "-f", allowed.name, "-I", "triptych", "-n", NAMESPACE]
        words += ["-s", f"{signed[-1]}.sig"]
        done = _ssh_keygen(words, signed[-1].read_bytes())
    if done.returncode:
        why = _last_line(done.stderr) or _last_line(done.stdout)
        raise TriptychError(f"{signed[-1].name}.sig is not {public_key}'s: {why}")
    findings = check(workspace)
    broken = [f for f in findings if f.kind == "broken"]
    if broken:
        raise TriptychError(f"the signature is good, the record is not as signed: {broken[0]}")
    later = len(links(workspace.events)) - int(said["events"])
    line = f"{said['events']} events up to {said['folder']} are as signed; {later} are newer"
    if findings:
        line += f"; {len(findings)} are older than the hash chain, which does not cover them"
    return line


def _ssh_keygen(words: list[str], stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", "-Y", *words], input=stdin, capture_output=True)
    except FileNotFoundError:
        raise TriptychError("signatures need ssh-keygen: install OpenSSH 8.2 or newer") from None


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        raise TriptychError(f"{path} is not an SSH public key, such as id_ed25519.pub") from None


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
