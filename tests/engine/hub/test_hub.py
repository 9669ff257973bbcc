"""Publishing an export, by the real command and the real client against a stub of the Hub's API."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from engine.errors import TriptychError
from engine.lineage.opening import maintaining, writing
from engine.records import Image, Task, Withdrawal, content_id
from engine.workspace import Workspace
from pipelines.commands.export import export
from pipelines.progress import Display
from tests.forked import triptych
from tests.round_workspace import commit, make_image, make_triplet

pytestmark = pytest.mark.loop

TOKEN = "hf_of_the_stub"


class Hub(ThreadingHTTPServer):
    """Repositories in memory: create, preupload, LFS, commit, tags; one token is good."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def files(self, repo: str) -> dict[str, bytes]:
        return self.repos[repo]["files"]


class Handler(BaseHTTPRequestHandler):
    """The endpoints that huggingface_hub calls for a dataset; Parquet goes through LFS."""

    server: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: int, body: Any, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        body = self._body()
        if path.startswith("/upload/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/upload/")
            self.server.blobs[path.removeprefix("/upload/")] = body
            return self._send(200, {})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid credentials"}, X_Error_Message="Invalid")
        if path == "/api/validate-yaml":
            assert "license: cc-by-4.0" in json.loads(body)["content"]
            return self._send(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        return self._repo(path, body)

    do_GET = do_POST = do_PUT = _route

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "elsewhere":
            return self._send(403, {"error": "You don't have the rights"})
        if repo in self.server.repos:
            return self._send(409, {"error": "exists", "url": f"{self.server.url}/datasets/{repo}"})
        private = asked.get("visibility") == "private"
        self.server.repos[repo] = {"private": private, "files": {}, "tags": {}, "log": []}
        return self._send(200, {"url": f"{self.server.url}/datasets/{repo}"})

    def _repo(self, path: str, body: bytes) -> None:
        git = path.startswith("/datasets/")
        parts = path.removeprefix("/datasets/" if git else "/api/datasets/").split("/")
        name = f"{parts[0]}/{parts[1].removesuffix('.git')}"
        if name not in self.server.repos:
            return self._send(404, {"error": "not found"}, X_Error_Code="RepoNotFound")
        repo, verb = self.server.repos[name], "/".join(parts[2:3])
        sha = hashlib.sha1(repr(repo["log"]).encode()).hexdigest()
        if git:
            return self._lfs(json.loads(body))
        if not verb or verb == "revision":
            return self._send(200, {"id": name, "sha": sha, "private": repo["private"]})
        if verb == "tree":
            files = [
                {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for p, d in repo["files"].items()
            ]
            return self._send(200, files)
        if verb == "preupload":
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".parquet") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return self._send(200, {"files": modes})
        if verb == "commit":
            return self._commit(name, repo, body)
        if verb == "tag":
            if json.loads(body)["tag"] in repo["tags"]:
                return self._send(409, {"error": "Tag exists"})
            repo["tags"][json.loads(body)["tag"]] = sha
            return self._send(200, {})
        if verb == "refs":
            refs = lambda names: [  # noqa: E731
                {"name": n, "ref": f"refs/{n}", "targetCommit": sha} for n in names
            ]
            return self._send(
                200, {"branches": refs(["main"]), "tags": refs(repo["tags"]), "converts": []}
            )
        return self._send(501, {"error": f"the stub has no {path}"})

    def _lfs(self, asked: dict[str, Any]) -> None:
        objects = [
            o | {"actions": {"upload": {"href": f"{self.server.url}/upload/{o['oid']}"}}}
            for o in asked["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repo: dict[str, Any], body: bytes) -> None:
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    repo["log"].append(f"{value['summary']}\n\n{value['description']}")
                case "file":
                    repo["files"][value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    repo["files"][value["path"]] = self.server.blobs[value["oid"]]
                case "deletedFile":
                    del repo["files"][value["path"]]
        oid = hashlib.sha1(body).hexdigest()
        url = f"{self.server.url}/datasets/{name}/commit/{oid}"
        self._send(200, {"commitUrl": url, "commitOid": oid})


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A workspace with an expert's row on each of six images, some in every split."""
    return place_from({"path": None, "public": False}, tmp_path)


def place_from(source: dict[str, Any], folder: Path) -> Path:
    """The same, with pictures of this source; of none that is known where it is empty."""
    images = [make_image(i, f"g{i}", ("train", "val", "test")[i % 3]) for i in range(6)]
    task = Task.make("CT", "disease", "easy", "choice", "step")
    config = {"licence": "cc-by-4.0", "name": "demo"} | ({"source": source} if source else {})
    with writing(folder / "w", "demo", config) as workspace:
        rows = [make_triplet(image, "expert", task, 0, 0) for image in images]
        commit(workspace, "expert", 0, {}, images, rows)
    return folder / "w"


def pushed(
    place: Path, endpoint: str, *words: str, token: str | None = TOKEN
) -> subprocess.CompletedProcess[str]:
    """`triptych export --push` as a user runs it."""
    env = {key: "" for key in os.environ if key.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(place.parent / "hf"), "COLUMNS": "300"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env |= {"HF_TOKEN": token or ""}
    return triptych("export", "-w", place, "--push", *words, env=env)


def local(place: Path) -> dict[str, bytes]:
    folder = place / "dataset"
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_push_is_one_commit_and_a_tag_of_its_content(hub: Hub, place: Path) -> None:
    done = pushed(place, hub.url, "us/demo", "--private")
    assert done.returncode == 0, done.stderr
    assert hub.files("us/demo") == local(place)
    assert hub.repos["us/demo"]["private"]
    said = json.loads(local(place)["croissant.json"])
    assert said["url"] == f"{hub.url}/datasets/us/demo"
    assert list(hub.repos["us/demo"]["tags"]) == [f"v{said['version']}"]
    (message,) = hub.repos["us/demo"]["log"]
    assert message == f"Version {said['version']}\n\n{said['identifier']}"


def test_withdrawn_images_leave_the_hubs_newest_version(hub: Hub, place: Path) -> None:
    assert pushed(place, hub.url, "us/demo").returncode == 0
    assert "data/validation-00000-of-00001.parquet" in hub.files("us/demo")
    with writing(place, "demo", Workspace.existing(place).config) as workspace:
        gone = [
            Withdrawal(
                id=content_id(image.id),
                subject_kind="image",
                subject_id=image.id,
                reason="consent withdrawn",
                requested_by="data protection office",
                at="2026-01-01T00:00:00Z",
                images=1,
                answer="{}",
            )
            for image in workspace.read(Image)
            if image.split == "val"
        ]
        commit(workspace, "withdraw", 0, {}, gone)
    done = pushed(place, hub.url, "us/demo")
    assert done.returncode == 0, done.stderr
    assert hub.files("us/demo") == local(place)
    assert "data/validation-00000-of-00001.parquet" not in hub.files("us/demo")
    assert len(hub.repos["us/demo"]["tags"]) == 2
    assert "2 images were withdrawn, and 1 other versions are on the Hub" in done.stdout


def test_a_dry_run_sends_nothing_and_needs_no_token(hub: Hub, place: Path) -> None:
    done = pushed(place, hub.url, "us/demo", "--dry-run", token=None)
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    said = json.loads(local(place)["croissant.json"])
    assert f"would push v{said['version']} to {hub.url}/datasets/us/demo" in done.stdout
    assert all(path in done.stdout for path in local(place))


def test_private_is_not_taken_for_a_public_repository(hub: Hub, place: Path) -> None:
    hub.repos["us/demo"] = {"private": False, "files": {}, "tags": {}, "log": []}
    done = pushed(place, hub.url, "us/demo", "--private")
    assert (done.returncode, hub.files("us/demo")) == (2, {})
    assert "us/demo is public" in done.stderr


def test_public_is_not_taken_for_a_private_repository(hub: Hub, place: Path) -> None:
    hub.repos["us/demo"] = {"private": True, "files": {}, "tags": {}, "log": []}
    done = pushed(place, hub.url, "us/demo", "--public")
    assert (done.returncode, hub.files("us/demo")) == (2, {})
    assert "us/demo is private" in done.stderr
    assert pushed(place, hub.url, "us/demo").returncode == 0


@pytest.mark.parametrize(
    ("source", "must_say"),
    [
        ({"path": None, "public": False}, False),
        ({"path": "/published", "public": True}, False),
        ({"path": "/hospital", "public": False}, True),
        ({}, True),  # where the pictures came from is not known
    ],
)
def test_who_may_see_a_hospitals_pictures_has_to_be_said(
    tmp_path: Path, source: dict[str, Any], must_say: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    place = place_from(source, tmp_path)
    with maintaining(place) as workspace:
        if must_say:
            with pytest.raises(TriptychError, match="say --private, or --public"):
                export(workspace, Display(), "us/demo", None, True)
        else:
            export(workspace, Display(), "us/demo", None, True)
            assert "as a public dataset" in capsys.readouterr().out
        for private, seen in ((True, "a private dataset"), (False, "a public dataset")):
            export(workspace, Display(), "us/demo", private, True)
            assert seen in capsys.readouterr().out


def test_a_hospitals_pictures_are_not_published_by_default(hub: Hub, tmp_path: Path) -> None:
    place = place_from({"path": "/hospital", "public": False}, tmp_path)
    done = pushed(place, hub.url, "us/demo")
    assert (done.returncode, hub.repos) == (2, {})
    assert not (place / "dataset").exists()
    assert "neither drawn here nor published" in done.stderr


@pytest.mark.parametrize(
    ("words", "token", "said"),
    [
        (["us/demo"], None, "no Hub token: set HF_TOKEN"),
        (["us/demo"], "hf_wrong", "(401): the token is not valid there"),
        (["elsewhere/demo"], TOKEN, "the token may not write to elsewhere/demo"),
        (["demo"], TOKEN, "write OWNER/NAME"),
        (["us/de mo"], TOKEN, "--push us/de mo: "),
    ],
)
def test_what_does_not_work_is_one_line(
    hub: Hub, place: Path, words: list[str], token: str | None, said: str
) -> None:
    done = pushed(place, hub.url, *words, token=token)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert said in line
    assert TOKEN not in done.stdout + done.stderr


def test_a_server_that_is_not_there_is_one_line(place: Path) -> None:
    done = pushed(place, "http://127.0.0.1:9", "us/demo")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("triptych: cannot reach http://127.0.0.1:9")
