"""Who gets in, what other sites can make a browser do, and what every response says."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engine.errors import TriptychError
from reward_model.journal import Journal
from reward_model.reading_room import access as doors
from reward_model.reading_room.access import Access, Readers
from reward_model.reading_room.room import Room
from reward_model.reading_room.server import STATIC, create_app
from tests.conftest import ROOT
from tests.reward_model.reading_room.rooms import URL, Reader, opened, ten

HERE = ROOT / "reward_model" / "reading_room"
PATHS = ("/", "/item", "/answer", "/undo", "/picture/x", "/thumbnail/x", "/enter", "/nowhere")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Room, Access]:
    """A room of two readers; no test answers in it."""
    root = tmp_path_factory.mktemp("rooms") / "w"
    ten(root, number=1)
    return opened(root, "anna", "ben")


def browser(rooms: tuple[Room, Access], url: str = URL) -> TestClient:
    return TestClient(create_app(*rooms), base_url=url, follow_redirects=False)


# Tokens


@pytest.mark.parametrize("path", PATHS)
def test_without_a_token_nothing_of_the_workspace_is_seen(
    rooms: tuple[Room, Access], path: str
) -> None:
    known = browser(rooms).get(path)
    assert known.status_code in (401, 404, 405)
    assert "lesion" not in known.text
    assert not known.headers.get("set-cookie")


def test_the_first_link_sets_a_cookie_that_scripts_and_other_sites_do_not_get(
    rooms: tuple[Room, Access],
) -> None:
    room, access = rooms
    http = browser(rooms)
    reply = http.get(f"/enter?token={access.readers.tokens['anna']}")
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert "You read as <strong>anna</strong>" in reply.text
    assert http.get("/item").json()["kind"] == "verdict"
    secure = Access(access.readers, access.names, secure=True)
    again = browser((room, secure)).get(f"/enter?token={access.readers.tokens['anna']}")
    assert "secure" in again.headers["set-cookie"].lower()


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "\udce9".encode("utf-8", "replace").decode()])
def test_a_token_that_is_nobodys_opens_nothing(rooms: tuple[Room, Access], token: str) -> None:
    reply = browser(rooms).get("/enter", params={"token": token})
    assert reply.status_code == 401
    assert "link of your own" in reply.text
    cookie = {"Cookie": f"{rooms[1].cookie}={token}".encode("latin-1", "replace").decode("latin-1")}
    assert browser(rooms).get("/item", headers=cookie).status_code == 401


def test_tokens_are_long_kept_and_their_owners_alone(tmp_path: Path) -> None:
    first = Readers.of(tmp_path, ["anna", "ben"])
    path = tmp_path / "reading" / "readers.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert all(len(token) >= 43 for token in first.tokens.values())
    assert first.tokens["anna"] != first.tokens["ben"]
    second = Readers.of(tmp_path, ["chris"])
    assert second.secret == first.secret
    assert {name: second.tokens[name] for name in first.tokens} == first.tokens
    values = json.loads(path.read_text())
    del values["tokens"]["ben"]
    path.write_text(json.dumps(values))
    assert set(Readers.of(tmp_path).tokens) == {"anna", "chris"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"secret": "zz", "tokens": {}}',
                                  '{"secret": "00", "tokens": {"anna": "short"}}'])  # fmt: skip
def test_readers_that_cannot_be_read_are_told(tmp_path: Path, text: str) -> None:
    Readers.of(tmp_path, ["anna"])
    (tmp_path / "reading" / "readers.json").write_text(text)
    with pytest.raises(TriptychError, match=r"readers\.json cannot be read"):
        Readers.of(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "<b>", "a/b", "é", "x" * 41, "-x", "a\n"])
def test_a_name_that_cannot_stand_in_the_record_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(TriptychError, match="no pseudonym"):
        Readers.of(tmp_path, [name])


# Other sites, other names


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "evil.example:8473",
     "127.0.0.1@evil.example", "[::1", "a/b"],
)  # fmt: skip
@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_host_is_refused(rooms: tuple[Room, Access], host: str, path: str) -> None:
    reply = browser(rooms).get(path, headers={"Host": host})
    assert reply.status_code == 403
    assert "host name" in reply.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "LOCALHOST:80", "[::1]:8473"])
def test_every_name_of_this_machine_is_answered(rooms: tuple[Room, Access], host: str) -> None:
    assert browser(rooms).get("/", headers={"Host": host}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8474"},
        {"Origin": "https://127.0.0.1:8473"},
        {"Origin": "http://localhost:8473"},
        {"Origin": URL, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Origin": URL, "Content-Type": "text/plain"},
        {"Origin": URL, "Content-Type": "application/x-www-form-urlencoded"},
        {"Origin": URL, "Content-Type": ""},
    ],
)
def test_another_sites_post_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    ten(tmp_path / "w", number=1)
    reader = Reader(*opened(tmp_path / "w"))
    body = json.dumps({"key": reader.item()["key"], "verdict": "accept"})
    sent = {"Content-Type": "application/json"} | headers
    for path in ("/answer", "/undo"):
        reply = reader.http.post(path, content=body, headers=sent)
        assert reply.status_code == 403
    assert Journal(tmp_path / "w").answers() == []


def test_another_site_can_link_here_and_embed_nothing(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=1)
    reader = Reader(*opened(tmp_path / "w"))
    image = reader.item()["image"]["id"]
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert reader.get(f"/picture/{image}", **foreign).status_code == 403
    assert reader.get("/item", **foreign).status_code == 403
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert reader.get("/", **linked).status_code == 200


def test_a_long_body_is_not_read(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=1)
    reader = Reader(*opened(tmp_path / "w"))
    body = {"key": reader.item()["key"], "verdict": "accept", "comment": "x" * 70_000}
    assert reader.post("/answer", body).status_code == 413

    def endless():  # type: ignore[no-untyped-def]
        for _ in range(3):
            yield b"x" * 40_000

    headers = {"Content-Type": "application/json", "Origin": URL}
    assert reader.http.post("/answer", content=endless(), headers=headers).status_code == 413


# What every response says


@pytest.mark.parametrize("path", ["/", "/item", "/static/room.js", "/nowhere", "/enter?token=x"])
def test_every_response_has_the_safe_headers(rooms: tuple[Room, Access], path: str) -> None:
    http = browser(rooms)
    http.get(f"/enter?token={rooms[1].readers.tokens['anna']}")
    for host in ("127.0.0.1:8473", "evil.example"):
        headers = http.get(path, headers={"Host": host}).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert len(headers.get_list("cache-control")) == 1


def test_the_page_asks_no_other_server_and_has_nothing_inline() -> None:
    for path in [*HERE.glob("templates/*"), *HERE.glob("static/*")]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path
        assert not re.search(r"<script(?! src=\"/static/)|<style|\son\w+=|\sstyle=", text), path


def test_the_script_makes_no_html_of_any_text() -> None:
    script = (HERE / "static" / "room.js").read_text()
    ways = r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|eval|Function\(|srcdoc"
    assert not re.search(ways, script)


def test_every_template_is_escaped(
    rooms: tuple[Room, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, access = rooms
    monkeypatch.setattr(doors, "PSEUDONYM", re.compile(".*"))
    hostile = Access(Readers(b"secret", {}), access.names, "<b>anna")
    assert "<b>anna" not in browser((room, hostile)).get("/").text
    assert "&lt;b&gt;anna" in browser((room, hostile)).get("/").text


def test_static_files_are_those_that_are_named_and_no_others(rooms: tuple[Room, Access]) -> None:
    http = browser(rooms)
    assert set(STATIC) == {path.name for path in HERE.glob("static/*")}
    for name, kind in STATIC.items():
        assert http.get(f"/static/{name}").headers["content-type"] == kind
    for name in ("../server.py", "..%2fserver.py", "server.py", "%2e%2e/access.py"):
        assert http.get(f"/static/{name}").status_code in (401, 404)


def test_a_picture_is_the_whole_picture(tmp_path: Path) -> None:
    ten(tmp_path / "w", number=1)
    room, access = opened(tmp_path / "w")
    reader = Reader(room, access)
    image = reader.item()["image"]["id"]
    reply = reader.http.get(f"/picture/{image}")
    assert reply.headers["content-type"] == "image/png"
    assert reply.content == room.pictures.png(image)
    small = reader.http.get(f"/thumbnail/{image}").content
    assert small.startswith(b"\x89PNG")
    assert reader.http.get(f"/picture/{'0' * 32}").status_code == 404
