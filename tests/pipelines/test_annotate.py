"""The command `annotate`: who may read from where, what cannot be opened, and what a kill costs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from engine.errors import TriptychError
from pipelines.commands.annotate import access_of, place_of
from reward_model.journal import Journal
from tests.commands import command
from tests.conftest import ROOT
from tests.lineage_workspace import made as without_items
from tests.reward_model.reading_room.rooms import ten


def test_what_cannot_be_opened_is_told_in_a_line(tmp_path: Path) -> None:
    done = command("annotate", "-w", tmp_path / "none")
    assert done.returncode == 2
    assert "no workspace at" in done.stderr
    without_items(tmp_path / "unasked", rounds=1)
    done = command("annotate", "-w", tmp_path / "unasked")
    assert done.returncode == 2
    assert "nobody was asked anything" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "unasked" / "reading").exists()


def place(folder: Path, name: str) -> Path:
    """A folder of its own."""
    found = folder / f"at-{name.replace(':', '_')}"
    found.mkdir(exist_ok=True)
    return found


def test_from_other_machines_nobody_reads_without_a_token(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "ws1.hospital.example"):
        with pytest.raises(TriptychError, match="name the readers"):
            access_of(tmp_path, None, [], host, [], False)
        with pytest.raises(TriptychError, match="--reader reads without a token"):
            access_of(tmp_path, "anna", [], host, [], False)
        access = access_of(place(tmp_path, host), None, ["anna,ben"], host, [], False)
        assert access.reader == ""
        assert set(access.readers.tokens) == {"anna", "ben"}
        assert (host in access.names) is (host not in ("0.0.0.0", "::"))
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        alone = access_of(place(tmp_path, "here"), "anna", [], host, [], False)
        assert (alone.reader, dict(alone.readers.tokens)) == ("anna", {})
        several = access_of(
            place(tmp_path, "many"), None, ["anna", "ben"], host, ["W.example"], False
        )
        assert (several.reader, "w.example" in several.names) == ("", True)


def test_a_link_has_the_name_by_which_readers_reach_the_host(tmp_path: Path) -> None:
    def link(host: str, *names: str, tls: bool = False) -> str:
        access = access_of(tmp_path, None, ["anna"], host, list(names), tls)
        return place_of(access, host, list(names), 8473)

    assert link("127.0.0.1") == "http://127.0.0.1:8473/"
    assert link("::1") == "http://[::1]:8473/"
    assert link("0.0.0.0") == f"http://{socket.gethostname()}:8473/"
    assert link("0.0.0.0", "ws1.example", "b", tls=True) == "https://ws1.example:8473/"


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("annotate", "-w", tmp_path / "w", "--port", port)
    assert done.returncode == 2
    assert f"cannot listen at 127.0.0.1, port {port}" in done.stderr


@contextmanager
def served(root: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command, and what it says before it serves."""
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "annotate", "-w", str(root), *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"},
    )  # fmt: skip
    assert child.stdout is not None
    said: list[str] = []
    try:
        for line in child.stdout:
            said.append(line)
            if line.startswith("Every answer"):
                break
        yield child, said
    finally:
        child.kill()
        child.wait()


def link_in(said: list[str]) -> str:
    found = re.search(r"http://\S+", "".join(said))
    assert found, said
    return found.group()


def test_a_reader_answers_the_server_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    root = tmp_path / "w"
    ten(root, number=3, readers=2)
    with served(root, "--readers", "anna,ben") as (child, said):
        assert "Answers wanted: 6." in "".join(said)
        assert "different readers" not in "".join(said)
        url, _, token = link_in(said).partition("enter?token=")
        with httpx.Client(base_url=url) as http:
            assert http.get("/item").status_code == 401
            http.get("/enter", params={"token": token})
            first = http.get("/item").json()
            answer = {"key": first["key"], "verdict": "accept", "seconds": 1}
            assert http.post("/answer", json=answer).status_code == 200
            cookies = dict(http.cookies)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert [a.reader for a in Journal(root).answers()] == ["anna"]
    with served(root) as (child, said):  # whoever has a link is known again
        assert "Answers wanted: 5." in "".join(said)
        assert "want 2 different readers" in "".join(said)
        alone = link_in(said)
        assert httpx.post(f"{alone}answer", json=answer).status_code == 409  # another reader's key
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
    with served(root, "--readers", "chris") as (child, said):
        assert len([line for line in said if "enter?token=" in line]) == 3
        with httpx.Client(base_url=link_in(said).partition("enter")[0], cookies=cookies) as http:
            assert http.post("/answer", json=answer).status_code == 200  # sent again
    assert len(Journal(root).answers()) == 1
