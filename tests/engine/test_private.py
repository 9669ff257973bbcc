"""What is the owner's alone: files, temporary folder, key, and what the decoder inherits."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import PIL.Image
import pytest

from engine import cluster
from engine.config.cluster import Cluster
from engine.config.source import Source
from engine.errors import TriptychError
from engine.imaging.decode import Decoder
from engine.lineage.opening import maintaining, writing
from engine.lineage.openlineage import Emitter
from engine.private import temporary_folder
from pipelines.commands.export import export
from pipelines.progress import Display
from pipelines.source import secret_key, weak_key
from tests.commands import ingested, refused

STRONG = "3f9a1c0b77e24d58a6c1"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The process's umask and environment are put back."""
    umask, environment = os.umask(0o022), dict(os.environ)
    os.umask(0o022)
    yield
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "one.png")
    return folder


def test_a_workspace_can_be_read_by_its_owner_alone(studies: Path, tmp_path: Path) -> None:
    ingested(studies, tmp_path / "w")
    modes = {path: path.stat().st_mode for path in [tmp_path / "w", *(tmp_path / "w").rglob("*")]}
    assert len(modes) > 8
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def key_file(folder: Path, text: str, mode: int = 0o600) -> Source:
    path = folder / "key"
    path.write_text(text)
    path.chmod(mode)
    return Source(path="studies", key_file=str(path))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o606, 0o611])
def test_a_key_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with pytest.raises(TriptychError, match=rf"read by others \(mode {mode:o}\): chmod 600 "):
            secret_key(key_file(folder, STRONG, mode), 0, tmp_path / "w")
        for private in (0o600, 0o400):
            source = key_file(folder, STRONG, private)
            assert secret_key(source, 0, tmp_path / "w") == STRONG.encode()
        folder.chmod(0o700)  # nobody else gets as far as the file
        source = key_file(folder, STRONG, mode)
        assert secret_key(source, 0, tmp_path / "w") == STRONG.encode()


@pytest.mark.parametrize(
    "weak",
    [
        "k" * 40, "ab" * 20, "abcdefgh" * 8, "0" * 63 + "1", "1234567890" * 4,
        "abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba", "0123456789abcdef",
        "passwordpassword", "password\npassword\npassword\n",
    ],
)  # fmt: skip
def test_a_key_that_is_easily_guessed_is_told_with_how_to_make_one(
    capsys: pytest.CaptureFixture[str], weak: str
) -> None:
    assert weak_key(weak.encode(), Display())
    told = " ".join(capsys.readouterr().out.split())
    assert "openssl rand -hex 32" in told
    assert weak not in told
    assert not weak_key(STRONG.encode(), Display())


def test_nothing_that_was_made_with_a_guessable_key_is_pushed(
    studies: Path, tmp_path: Path
) -> None:
    ingested(studies, tmp_path / "w", key="k" * 40)
    with maintaining(tmp_path / "w") as workspace:
        with pytest.raises(TriptychError, match=r"easily guessed.*openssl rand -hex 32"):
            export(workspace, Display(), "us/ours", True, True)


def test_a_short_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TriptychError, match="fewer than 16 characters"):
        secret_key(key_file(tmp_path, "short"), 0, tmp_path / "w")
    monkeypatch.setenv("TRIPTYCH_KEY", "short")
    with pytest.raises(TriptychError, match="fewer than 16 characters"):
        secret_key(Source(path="studies"), 0, tmp_path / "w")


def test_the_key_leaves_the_environment_that_other_processes_inherit(
    studies: Path, tmp_path: Path
) -> None:
    os.environ["TRIPTYCH_KEY"] = "what was there before"
    ingested(studies, tmp_path / "w", key=STRONG)
    assert os.environ.get("TRIPTYCH_KEY") != STRONG


def test_a_key_in_the_environment_of_a_ray_cluster_is_refused(
    studies: Path, tmp_path: Path
) -> None:
    os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] = "{}"
    message = refused(studies, tmp_path / "w", key=STRONG)
    assert "any job can read it" in message
    assert STRONG not in message


def test_the_decoder_inherits_no_key_and_no_token(studies: Path) -> None:
    secrets = {
        "TRIPTYCH_KEY": "k", "OPENAI_API_KEY": "k", "HF_TOKEN": "k", "RAY_AUTH_TOKEN": "k",
        "AWS_SECRET_ACCESS_KEY": "k", "PGPASSWORD": "k", "https_proxy": "me:k@p",
    }  # fmt: skip
    os.environ |= secrets
    with Decoder() as decoder:
        assert decoder.decode(studies / "one.png", "middle").frames
        raw = Path(f"/proc/{decoder.pid}/environ").read_bytes()
    inherited = {entry.partition(b"=")[0].decode() for entry in raw.split(b"\0") if entry}
    assert not inherited & set(secrets)
    known = {"LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    ours = ("PYTHON", "MALLOC_", "OMP_", "OPENBLAS_", "MKL_")
    assert {name for name in inherited - known if not name.startswith(ours)} == set()


class Gathering(BaseHTTPRequestHandler):
    """Takes what is posted to /here, and sends what is posted elsewhere to there."""

    keys: ClassVar[list[tuple[str, str | None]]] = []

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append((self.path, self.headers.get("Authorization")))
        self.send_response(307)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST


def test_the_key_of_openlineage_does_not_follow_a_redirect(tmp_path: Path) -> None:
    os.environ["OPENLINEAGE_API_KEY"] = "the key"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gathering)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    said: list[str] = []
    url = f"http://me:hunter2@127.0.0.1:{server.server_port}/here?token=t"
    with writing(tmp_path / "w", "demo", {}) as workspace:
        Emitter(workspace, "demo", url, said.append)._send({"eventType": "START"})
        Emitter(workspace, "demo", "http://[::1", said.append)._send({"eventType": "START"})
        os.environ["OPENLINEAGE_API_KEY"] = "the\nkey"
        Emitter(workspace, "demo", url, said.append)._send({"eventType": "START"})
    server.shutdown()
    server.server_close()
    assert [path for path, _ in Gathering.keys] == ["/here?token=t"]
    assert len(said) == 3
    assert "answers 307" in said[0]
    assert not any(secret in "".join(said) for secret in ("hunter2", "token=t", "the key", "key'"))


@pytest.mark.parametrize("place", ["short", "a-folder-whose-name-leaves-a-socket-no-room" * 2])
def test_temporary_files_are_in_a_folder_of_the_run_that_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / place).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with temporary_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(folder)
        session = f"{folder}/ray/session_2026-11-26_01-40-27_123456_4194304/sockets/plasma_store"
        assert len(session) <= 107  # unix(7)
        (folder / "left").touch()
    assert not folder.exists()
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path / place)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", "the address of Ray's dashboard"),
        ("https://head:8265", "the address of Ray's dashboard"),
        ("127.0.0.1:9", "Connection refused"),
        ("ray://127.0.0.1:9", "Connection refused"),
        ("head.invalid:6379", "no Ray at head.invalid:6379"),
        ("head.invalid", "no Ray at head.invalid"),
        ("127.0.0.1:x", "no Ray at 127.0.0.1:x"),
        ("127.0.0.1:99999", "no Ray at 127.0.0.1:99999"),
        ("[::1", "no Ray at"),
        (" ", "no Ray at"),
    ],
)
@pytest.mark.parametrize("by", ["configuration", "RAY_ADDRESS"])
def test_an_address_without_a_ray_is_one_line(address: str, said: str, by: str) -> None:
    os.environ.pop("RAY_ADDRESS", None)
    if by == "RAY_ADDRESS":
        os.environ["RAY_ADDRESS"] = address
    with pytest.raises(TriptychError, match=said):
        cluster.start(Cluster(address=address if by == "configuration" else None))


@pytest.mark.parametrize(
    ("address", "environment", "said"),
    [
        ("http://head:8265", {}, "no token guards it"),
        ("https://10.0.0.7", {}, "no token guards it"),
        ("http://head:8265", {"RAY_AUTH_TOKEN": ""}, "no token guards it"),
        ("http://head:8265", {"RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": "disabled"}, "no token"),
        ("http://127.0.0.1.evil.example:8265", {}, "no token guards it"),
        ("head:8265", {}, "write http://HEAD:8265"),
        ("http://[::1", {}, "write http://HEAD:8265"),
        ("ftp://head", {}, "write http://HEAD:8265"),
        ("http://127.0.0.1:9", {}, "no Ray dashboard at"),
    ],
)
def test_submit_wants_a_dashboard_and_a_token_for_another_machine(
    address: str, environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        os.environ.pop(name, None)
    os.environ |= environment | {"HOME": str(tmp_path)}
    with pytest.raises(TriptychError, match=said):
        cluster.submit(address, job_in(tmp_path))


def job_in(folder: Path) -> cluster.Job:
    return cluster.Job("true", folder, "run", "0")


class Dashboard(BaseHTTPRequestHandler):
    """Answers as it is told, whatever it is asked."""

    answer: ClassVar[tuple[int, bytes]] = (200, b"")

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


@pytest.fixture
def dashboard() -> Iterator[str]:
    """The address of a `Dashboard`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "answer", [(200, b"no JSON"), (401, b"token?"), (403, b""), (404, b""), (500, b"")], ids=str
)
def test_a_dashboard_that_refuses_is_one_line(
    answer: tuple[int, bytes], dashboard: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Dashboard, "answer", answer)
    with pytest.raises(TriptychError, match=f"no Ray dashboard at {dashboard}: ."):
        cluster.submit(dashboard, job_in(tmp_path))


def test_a_cluster_of_another_ray_is_refused_before_anything_is_sent(
    dashboard: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = {"version": "4", "ray_version": "2.59.1", "ray_commit": "", "session_name": ""}
    monkeypatch.setattr(Dashboard, "answer", (200, json.dumps(version).encode()))
    with pytest.raises(TriptychError, match=r"Ray 2\.59\.1 runs at \S+ and Ray 2\.60\.\d+ is"):
        cluster.submit(dashboard, job_in(tmp_path))
