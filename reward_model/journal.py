"""The journal of answers: a file of one JSON a line, that many may add to and none changes but a
withdrawal, which takes lines out (`engine.lines`).

    WORKSPACE/reading/answers.ndjson

An answer is in it, on disk, before whoever gave it hears so. A line that was cut off by a crash was
never acknowledged: it is passed over, and the next one begins on a line of its own. Stage collect
makes rows of the record of what stands here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import TriptychError
from engine.lines import adding
from engine.records import canonical
from engine.shards import flush
from reward_model.verdicts import Answer

FOLDER, NAME = "reading", "answers.ndjson"  # below a workspace
END = 1024  # bytes by which a file is known that was written again


class Journal:
    """Answers in a workspace, in the order in which they were given."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / FOLDER / NAME
        self._answers: list[Answer] = []
        self._known: set[str] = set()
        self._read = 0  # bytes of whole lines that were looked at
        self._end = b""  # of these, the last

    def append(self, answers: Iterable[Answer]) -> int:
        """Add answers that are not in it yet (by their ids); returns how many were added.

        They are on disk when it returns.
        """
        new = not self.path.exists()
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        with adding(self.path) as handle:
            torn = self._look(handle)
            fresh = {a.id: a for a in answers if a.id not in self._known}
            lines = [canonical(asdict(a)).encode("utf-8", "replace") for a in fresh.values()]
            left = b"".join([b"\n" if torn else b"", *(line + b"\n" for line in lines)])
            while lines and left:
                left = left[os.write(handle, left) :]
        if new:
            flush(self.path.parent)
        return len(lines)

    def answers(self) -> list[Answer]:
        """All answers so far, in order; undone ones and undos among them.

        Raises TriptychError where a whole line is no answer.
        """
        if self.path.exists():
            handle = os.open(self.path, os.O_RDONLY)
            try:
                self._look(handle)
            finally:
                os.close(handle)
        return list(self._answers)

    def _look(self, handle: int) -> bool:
        """Read what was added since; returns whether the last line is cut off.

        Where the file was written again without some lines, all of it is read anew.
        """
        if os.pread(handle, len(self._end), self._read - len(self._end)) != self._end:
            self._answers, self._known, self._read, self._end = [], set(), 0, b""
        added = b""
        while part := os.pread(handle, 1 << 20, self._read + len(added)):
            added += part
        whole, newline, rest = added.rpartition(b"\n")
        for line in whole.split(b"\n"):
            answer = self._parse(line)
            if answer is not None and answer.id not in self._known:
                self._known.add(answer.id)
                self._answers.append(answer)
        self._read += len(whole) + len(newline)
        self._end = (self._end + whole + newline)[-END:]
        return bool(rest)

    def _parse(self, line: bytes) -> Answer | None:
        try:
            values: dict[str, Any] = json.loads(line)
        except ValueError:
            return None  # cut off while it was written
        try:
            return Answer(**values | {"reasons": tuple(values["reasons"])})
        except (TypeError, KeyError):
            raise TriptychError(
                f"{self.path} has a line that is no answer ({line[:60]!r}): restore it from a "
                "backup"
            ) from None
