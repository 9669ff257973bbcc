"""The real command, called in this process without Ray."""

from __future__ import annotations

import csv
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.cli import main

KEY = "a key that only the tests have"


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def command(*words: object, key: str | None = KEY) -> Done:
    """The real command with all that it prints, without Ray."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["triptych", *map(str, words)])
        patch.delenv("TRIPTYCH_KEY", raising=False)
        if key is not None:
            patch.setenv("TRIPTYCH_KEY", key)
        try:
            main()
        except SystemExit as left:
            code = int(left.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def ingested(folder: Path, workspace: Path, *settings: str, key: str | None = KEY) -> str:
    """Ingest a folder; returns all that was printed."""
    overrides = [w for s in ("cluster.address=inline", *settings) for w in ("--set", s)]
    done = command("ingest", folder, "-w", workspace, *overrides, key=key)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def refused(folder: Path, workspace: Path, *settings: str, key: str | None = KEY) -> str:
    """The one line with which ingest refuses."""
    overrides = [w for s in ("cluster.address=inline", *settings) for w in ("--set", s)]
    done = command("ingest", folder, "-w", workspace, *overrides, key=key)
    assert done.returncode == 2, done.stdout
    assert done.stderr.strip().count("\n") == 0, done.stderr
    return done.stderr


def report_of(workspace: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((workspace / "ingest-report.csv").open()))
