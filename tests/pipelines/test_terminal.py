"""What a person sees: text is text whoever wrote it, and a machine's troubles are one true line."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from engine.errors import TriptychError, printable
from engine.lineage.opening import writing
from engine.lineage.trace import render
from engine.workspace import Workspace
from pipelines.commands import lineage
from pipelines.progress import Display, verbatim
from tests.conftest import ROOT

NASTY = "[/b] [red]x[/red] \x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe [link=http://a]b[/link]"
SHOWN = r"[/b] [red]x[/red] \x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe [link=http://a]b[/link]"


def on_a_terminal(show: Callable[[Console], None]) -> str:
    out = io.StringIO()
    show(Console(file=out, force_terminal=True, color_system=None, width=300))
    return out.getvalue()


def display(console: Console) -> Display:
    made = Display()
    made.console = console
    return made


SHOWS: dict[str, Callable[[Console], Any]] = {
    "a line": lambda c: display(c).say(NASTY),
    "a tick": lambda c: display(c).done(NASTY),
    "a warning": lambda c: display(c).warn(NASTY),
    "a stage": lambda c: display(c).committed(
        {"stage": NASTY, "round": 0, "rows": {}, "seconds": 1.0, "metrics": {}}
    ),
    "what was done before": lambda c: display(c).skipped("x", 0, {"folder": NASTY}),
    "a cell": lambda c: c.print(verbatim(NASTY)),
    "a trace": lambda c: c.print(render({"kind": "row", "id": "1", "raw": NASTY})),
    "a trace's rows": lambda c: c.print(render({"kind": "r", "id": "1", "a": [{"q": NASTY}]})),
}


@pytest.mark.parametrize("where", SHOWS)
def test_brackets_and_escape_sequences_are_shown_and_not_obeyed(where: str) -> None:
    assert SHOWN in on_a_terminal(SHOWS[where])


def test_what_the_record_says_is_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    lineage._say(NASTY)
    lineage._table([{"raw": NASTY}])
    assert capsys.readouterr().out.count(SHOWN) == 2


@given(st.text())
def test_a_line_for_a_person_obeys_nothing(text: str) -> None:
    line = str(TriptychError(text))
    assert all(c.isprintable() or ord(c) > 0x9F for c in line)
    assert "\n" not in line
    line.encode()  # no lone surrogate
    ordinary = "".join(c for c in text if c.isprintable())
    assert printable(ordinary) == ordinary


def triptych(*words: object, **how: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, words)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.run(command, cwd=ROOT, text=True, timeout=60, **how)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_a_full_disk_is_one_line(original: Workspace) -> None:
    said = "triptych: No space left on device: make room, and give the same command again"
    with Path("/dev/full").open("w") as full:
        assert one_line(triptych("lineage", "schema", stdout=full)) == said
    assert one_line(triptych("card", "-w", original.root, "--out", "/dev/full")) == said


def test_what_a_full_disk_stopped_is_done_once_there_is_room(copy: Workspace) -> None:
    """Files may grow to so many bytes, as under a quota: DuckDB cannot write the ledger."""
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731
    words = ["lineage", "rebuild", "-w", copy.root]
    assert "File too large: make room" in one_line(triptych(*words, preexec_fn=small))
    again = triptych(*words)
    assert (again.returncode, again.stderr) == (0, "")


def test_whoever_reads_only_the_beginning_gets_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        assert triptych("lineage", "schema", stdout=closed).stderr == ""


def test_a_file_that_cannot_be_made_is_one_line(original: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    card = triptych("card", "-w", original.root, "--out", tmp_path / "file" / "card.md")
    assert one_line(card) == f"triptych: {tmp_path}/file/card.md: Not a directory"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_not_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with (
        pytest.raises(TriptychError, match="has no locks"),
        writing(tmp_path / "w", "demo", {}),
    ):
        pass


def test_a_workspace_in_use_is_another_run(tmp_path: Path) -> None:
    with (
        writing(tmp_path / "w", "demo", {}),
        pytest.raises(TriptychError, match="in use by another run"),
        writing(tmp_path / "w", "demo", {}),
    ):
        pass
