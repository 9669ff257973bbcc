"""The reading room in a real browser: keys, mouse, hostile texts, a phone's width, and axe.

    pip install playwright              # drives the Chromium that the machine has
    npm pack axe-core && tar xf axe-core-*.tgz
    TRIPTYCH_AXE=package/axe.min.js python -m pytest -m slow tests/reward_model/reading_room

Left out where one of these is not there. With TRIPTYCH_PICTURES=docs the pictures of the
documentation are taken anew.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import uvicorn

from engine.imaging.decode import Decoder
from engine.records import Item
from generators.phantoms.dicom import write_cohort
from reward_model.journal import Journal
from reward_model.reading_room.access import Access
from reward_model.reading_room.room import Room
from reward_model.reading_room.server import create_app
from reward_model.verdicts import current
from tests.drawn_workspace import answered
from tests.engine.imaging.datasets import grey, ingest, ramp, save
from tests.reward_model.reading_room.rooms import (
    HOSTILE,
    images_of,
    items_of,
    made,
    opened,
    rows_of,
)

sync = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = Path(os.environ.get("TRIPTYCH_AXE", "axe.min.js"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


@contextmanager
def serving(room: Room, access: Access, port: int = 0) -> Iterator[str]:
    """A room on a port of this machine, in a thread; gives its address."""
    listening = socket.create_server(("127.0.0.1", port), reuse_port=False)
    config = uvicorn.Config(create_app(room, access), log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page that fails the test where its script fails, or asks another server."""
    context = chromium.new_context(viewport={"width": 1400, "height": 860})
    shown = context.new_page()
    faults: list[str] = []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda line: faults.append(line.text) if "Refused" in line.text else None)
    shown.on("request", lambda asked: _ours(asked.url, faults))
    yield shown
    context.close()
    assert faults == []


def _ours(url: str, faults: list[str]) -> None:
    if not url.startswith("http://127.0.0.1:"):
        faults.append(f"asked {url}")


def mixed(root: Path) -> list[Item]:
    """Verdicts with options and without, and a preference, of patients with two images each."""
    images = images_of(4, size=256)
    rows = [rows_of(images[0], 1)[0], rows_of(images[2], 3)[2], *rows_of(images[4], 1)]
    other = answered(images[4], rows[2].question, "no", rationale="No.", writer="b", sample=9)
    items = [
        *items_of(rows[:2]),
        Item.make(rows[2], other, "informative", 1, 2, 1),
        *items_of(rows_of(images[6], 2), first=3),
    ]
    made(root, images, [*rows, other, *rows_of(images[6], 2)], items)
    return items


def go(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("#reading:not([hidden])")


def until(page: Any, true: str) -> None:
    """Wait for an expression; the page's policy lets the browser's own waiting evaluate nothing."""
    end = time.monotonic() + 15
    while not page.evaluate(true):
        assert time.monotonic() < end, (true, page.inner_text("body"))
        time.sleep(0.05)


def answers_shown(page: Any, number: int) -> None:
    until(page, f"document.getElementById('progress').textContent.startsWith('{number} ')")


def test_everything_goes_by_keys(page: Any, tmp_path: Path) -> None:
    mixed(tmp_path / "w")
    with serving(*opened(tmp_path / "w")) as url:
        go(page, url)
        page.keyboard.press("r")
        page.keyboard.press("2")
        page.keyboard.press("8")
        page.keyboard.press("c")
        page.keyboard.press("ArrowDown")  # to the other option
        page.keyboard.press("Enter")
        answers_shown(page, 1)
        assert page.evaluate("document.activeElement.id") == "question"
        page.keyboard.press("m")
        page.keyboard.type("hard to see: are these two?")  # no key acts in a field
        page.keyboard.press("Escape")
        page.keyboard.press("r")
        page.keyboard.press("c")
        page.keyboard.type("infarct")
        page.keyboard.press("Enter")
        answers_shown(page, 2)
        for key in ("1", "3", "4", "Enter"):
            page.keyboard.press(key)
        answers_shown(page, 3)
        page.keyboard.press("u")
        answers_shown(page, 2)
        assert not page.is_hidden("#two")
        for key in ("2", "5", "3", "Enter"):
            page.keyboard.press(key)
        answers_shown(page, 3)
        page.keyboard.press("a")
        answers_shown(page, 4)
        page.keyboard.press("t")
        page.wait_for_selector("#nothing:not([hidden])")
        assert "triptych run CONFIG" in page.inner_text("#advice")
    said = current(Journal(tmp_path / "w").answers())
    assert [a.verdict for a in said] == ["reject", "reject", "", "accept", "cannot tell"]
    assert said[0].reasons == ("wrong side", "reasoning wrong")
    assert [a.correction for a in said[:2]] == ["no", "infarct"]
    assert said[1].comment == "hard to see: are these two?"
    assert set(said[2].preferences.values()) <= {"first", "second", "cannot tell", "tie"}
    assert all(a.seconds is not None and a.seconds < 30 for a in said)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_wrote_is_text_on_the_page(page: Any, tmp_path: Path, text: str) -> None:
    (image,) = images_of(1, each=1)
    plain = answered(image, "Is it?", "yes", sample=len(text))
    row = replace(plain, question=text, answer=text, options=(text, "no"), rationale=text * 3)
    made(tmp_path / "w", [image], [row], items_of([row]))
    with serving(*opened(tmp_path / "w")) as url:
        go(page, url)
        elements = page.evaluate("document.querySelectorAll('#reading *').length")
        assert page.title() == "Reading room"
        for place in ("question", "answer", "rationale"):
            assert page.evaluate(f"document.getElementById('{place}').childElementCount") == 0
        assert text.split("\u202e")[0].split("\x1b")[-1][:6] in page.inner_text("#question")
        page.keyboard.press("r")
        assert page.evaluate("document.querySelectorAll('#reading *').length") == elements


def test_a_text_of_100_kb_breaks_no_layout(page: Any, tmp_path: Path) -> None:
    (image,) = images_of(1, each=1)
    row = answered(image, "w" * 3000, "yes", rationale="word" * 25_000)
    made(tmp_path / "w", [image], [row], items_of([row]))
    with serving(*opened(tmp_path / "w")) as url:
        for width in (1400, 360):
            page.set_viewport_size({"width": width, "height": 740})
            go(page, url)
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_mouse_zooms_pans_and_turns_the_window(page: Any, tmp_path: Path) -> None:
    path = save(
        grey(ramp(), Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40,
             WindowWidth=400),
        tmp_path / "a.dcm",
    )  # fmt: skip
    with Decoder() as decoder:
        (image,), _ = ingest(decoder, path)
    image = replace(image, group="g", split="train")
    rows = rows_of(image, 1)
    made(tmp_path / "w", [image], rows, items_of(rows))
    access = opened(tmp_path / "w")[1]
    room = Room(tmp_path / "w", access.readers.secret, source=lambda _: (path, 0))
    room.open()
    with serving(room, access) as url:
        go(page, url)
        until(page, "document.getElementById('drawn-from').textContent.startsWith('Source')")
        assert page.inner_text("#window") == "40 · 400 HU"
        page.click("#presets button:has-text('bone')")
        page.wait_for_selector("#drawn:not([hidden])")
        drawn = page.evaluate(
            "[...document.getElementById('drawn').getContext('2d')"
            ".getImageData(0, 0, 64, 64).data].filter((_, n) => n % 4 === 0)"
        )
        grey_frame = room.pictures.grey(image)
        assert drawn == grey_frame.windowed(300, 1500)[grey_frame.index].ravel().tolist()
        before = page.evaluate("document.getElementById('drawn').style.transform")
        page.mouse.move(400, 300)
        page.mouse.wheel(0, -500)
        page.mouse.down()
        page.mouse.move(430, 320, steps=4)
        page.mouse.up()
        page.mouse.down(button="right")
        page.mouse.move(500, 320, steps=4)
        page.mouse.up(button="right")
        assert page.evaluate("document.getElementById('drawn').style.transform") != before
        assert page.inner_text("#window") != "300 · 1,500 HU"
        page.keyboard.press("w")
        assert page.inner_text("#window") == "40 · 400 HU"
        page.keyboard.press("0")
        assert page.evaluate("document.getElementById('drawn').style.transform") == before


def test_an_answer_is_sent_again_when_the_server_comes_back(page: Any, tmp_path: Path) -> None:
    mixed(tmp_path / "w")
    room, access = opened(tmp_path / "w")
    with serving(room, access) as url:
        go(page, url)
    page.keyboard.press("a")
    page.wait_for_selector("#error:not([hidden])")
    assert "Not saved yet" in page.inner_text("#error")
    assert page.is_disabled("#accept")
    port = int(url.rsplit(":", 1)[1].strip("/"))
    time.sleep(1)
    with serving(*opened(tmp_path / "w"), port=port):
        answers_shown(page, 1)
        assert page.is_hidden("#error")
    assert len(Journal(tmp_path / "w").answers()) == 1


def test_at_a_phones_width_nothing_is_cut_off(page: Any, tmp_path: Path) -> None:
    mixed(tmp_path / "w")
    page.set_viewport_size({"width": 360, "height": 740})
    with serving(*opened(tmp_path / "w")) as url:
        go(page, url)
        for number in range(1, 4):
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            small = page.evaluate(
                "[...document.querySelectorAll('#panel button, header button')]"
                ".filter((b) => b.offsetParent && b.getBoundingClientRect().height < 30).length"
            )
            assert small == 0
            if number < 3:
                page.click("#accept")
                answers_shown(page, number)


@pytest.mark.skipif(not AXE.is_file(), reason="TRIPTYCH_AXE names no axe.min.js")
def test_axe_finds_no_serious_fault(page: Any, tmp_path: Path) -> None:
    mixed(tmp_path / "w")
    room, access = opened(tmp_path / "w", "anna")
    found: dict[str, list[str]] = {}

    def look(state: str) -> None:
        page.evaluate(AXE.read_text("utf-8"))
        result = page.evaluate("axe.run(document)")
        for fault in result["violations"]:
            nodes = [node["target"] for node in fault["nodes"]]
            found.setdefault(f"{fault['impact']}: {fault['id']}", []).append(f"{state} {nodes}")

    with serving(room, access) as url:
        page.goto(url)
        look("closed")
        page.goto(f"{url}enter?token={access.readers.tokens['anna']}")
        look("enter")
        for width in (1400, 360):
            page.set_viewport_size({"width": width, "height": 860})
            go(page, url)
            look(f"verdict {width}")
            page.keyboard.press("r")
            page.keyboard.press("1")
            look(f"rejecting {width}")
            page.keyboard.press("n")
            look(f"another image {width}")
            for opener in ("#open-help", "#open-counts"):
                page.click(opener)
                look(f"{opener} {width}")
                page.keyboard.press("Escape")
        page.click("#send-reject")
        answers_shown(page, 1)
        page.keyboard.press("r")
        look("free text")
        page.keyboard.press("a")
        answers_shown(page, 2)
        page.keyboard.press("1")
        look("preference")
        page.keyboard.press("Enter")
        look("an error")
        for key in ("1", "1", "Enter"):
            page.keyboard.press(key)
        answers_shown(page, 3)
        for number in (4, 5):
            page.keyboard.press("a")
            answers_shown(page, number)
        look("nothing")
    print(json.dumps(found, indent=1))
    assert [fault for fault in found if fault.startswith(("serious", "critical"))] == []
    assert found == {}


@pytest.mark.skipif("TRIPTYCH_PICTURES" not in os.environ, reason="no pictures are asked for")
def test_pictures_for_the_documentation(page: Any, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    drawn = list(write_cohort(studies, {"CT": 2, "X-ray": 2}, 512, 3, 0.3, None, {}))
    with Decoder() as decoder:
        images = {
            path: replace(ingest(decoder, path)[0][0], group=path.parent.name, split="train",
                          patient=path.parent.name)
            for path in drawn
        }  # fmt: skip
    head, chest = (next(i for i in images.values() if i.modality == m) for m in ("CT", "X-ray"))
    options = ("hemorrhage", "infarct", "tumor", "no finding")
    reasoning = "A bright, sharply bordered area lies in the brain: the density of fresh blood."
    one = answered(head, "Which finding is shown?", options[0], options, rationale=reasoning)
    told = ("The lower left lung field is white up to a curved edge.", "Both lungs are clear.")
    pair = [
        answered(chest, "Is there a finding in the lungs?", a, rationale=r, sample=n)
        for n, (a, r) in enumerate(zip(("yes", "no"), told))
    ]
    items = [*items_of([one]), Item.make(*pair, "informative", 1, 1, 1)]
    made(tmp_path / "w", list(images.values()), [one, *pair], items)
    access = opened(tmp_path / "w")[1]
    files = {image.id: path for path, image in images.items()}
    room = Room(tmp_path / "w", access.readers.secret, source=lambda i: (files[i.id], 0))
    room.open()
    folder = Path(os.environ["TRIPTYCH_PICTURES"])

    def take(name: str) -> None:
        until(page, "document.getElementById('drawn-from').textContent.startsWith('Source')")
        until(page, "[...document.images].every((i) => i.complete)")
        shot = PIL.Image.open(io.BytesIO(page.screenshot()))
        shot.convert("P", palette=PIL.Image.Palette.ADAPTIVE, colors=64).save(
            folder / name, optimize=True
        )

    page.set_viewport_size({"width": 1200, "height": 740})
    with serving(room, access) as url:
        go(page, url)
        page.keyboard.press("r")
        page.keyboard.press("1")
        take("reading-room.png")
        page.set_viewport_size({"width": 360, "height": 700})
        page.evaluate("scrollTo(0, 0)")
        take("reading-room-phone.png")
        page.set_viewport_size({"width": 1200, "height": 740})
        page.keyboard.press("a")
        answers_shown(page, 1)
        for key in ("1", "1"):
            page.keyboard.press(key)
        take("reading-room-pair.png")
