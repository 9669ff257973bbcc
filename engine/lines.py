"""A file of one JSON object a line: many add to it at once, and a withdrawal takes lines out.

Whoever adds holds the file's lock, and so does whoever writes it again without some lines, so that
no line that was added is lost between them. The new file takes the old one's place in one step.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.shards import replace_file

Named = Mapping[str, Collection[str]]  # values by key: a line that has one of them is meant


@contextmanager
def adding(path: Path) -> Iterator[int]:
    """The file's descriptor, to be read and added to; made where there is none, and locked.

    The folder is there. What was written is on disk afterwards.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is(handle, path):
                yield handle
                os.fsync(handle)
                return
        finally:
            os.close(handle)


def _is(handle: int, path: Path) -> bool:
    """Whether an open file is the one of this name still."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def meant(path: Path, named: Named) -> int:
    """How many lines have one of the values."""
    return len(_gone(_parsed(path.read_bytes()), named)) if path.exists() else 0


def without(path: Path, named: Named) -> int:
    """Write the file again without the lines that have one of the values; returns how many went.

    A line that undoes one that goes (`undoes`: its `id`) goes with it. So does one that was cut off
    while it was written: nobody was told that it is there, and what it holds cannot be known.
    """
    if not path.exists():
        return 0
    with adding(path) as handle:
        with open(handle, "rb", closefd=False) as lines:
            lines.seek(0)
            data = lines.read()
        parsed = _parsed(data)
        gone = _gone(parsed, named)
        kept = [line for line, _ in parsed if line not in gone]
        whole = b"".join(line + b"\n" for line in kept)
        if whole != data:
            replace_file(path, whole)
            os.chmod(path, 0o600)
    return len(gone)


def _parsed(data: bytes) -> list[tuple[bytes, dict[str, Any]]]:
    """Whole lines in order, each with what it says."""
    found = []
    for line in data.split(b"\n")[:-1]:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            found.append((line, values))
    return found


def _gone(parsed: list[tuple[bytes, dict[str, Any]]], named: Named) -> set[bytes]:
    asked = {key: frozenset(values) for key, values in named.items()}
    gone = {
        line: values.get("id")
        for line, values in parsed
        if any(values.get(key) in some for key, some in asked.items())
    }
    ids = set(gone.values()) - {None, ""}
    return set(gone) | {line for line, values in parsed if values.get("undoes") in ids}
