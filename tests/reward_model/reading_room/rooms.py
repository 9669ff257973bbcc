"""Workspaces with questions for readers, and a room on one that tests speak to over HTTP."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from engine.config.select import Guarantee
from engine.lineage.opening import writing
from engine.records import Image, Item, Judgement, Triplet
from engine.workspace import Workspace
from reward_model.reading_room.access import LOOPBACK, Access, Readers
from reward_model.reading_room.room import Room
from reward_model.reading_room.server import create_app
from tests.drawn_workspace import answered, drawn
from tests.lineage_workspace import TASK, commit, make_judgement, make_model

URL = "http://127.0.0.1:8473"
POST = {"Origin": URL, "Sec-Fetch-Site": "same-origin"}
JSON = {"Content-Type": "application/json"}
HOSTILE = (
    "<script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "left \u202e thgir \u2066 {{ 7*7 }} </textarea><b>bold",
    "\x1b]0;taken\x07\x00 \u200f &lt;i&gt; ${7*7}",
)


def images_of(patients: int, each: int = 2, kind: str = "MR", size: int = 64) -> list[Image]:
    """Drawn images, `each` of a patient; a patient is a group."""
    return [
        replace(
            drawn(kind, patient * each + n, split="train", size=size),
            patient=f"patient-{patient}",
            group=f"group-{patient}",
        )
        for patient in range(patients)
        for n in range(each)
    ]


def rows_of(image: Image, number: int, writer: str = "writer-model") -> list[Triplet]:
    """Answers to questions about an image: of two options, of four, and free."""
    asked = [
        ("Is there a lesion?", "yes", ("yes", "no")),
        ("Which side is the lesion on?", "left", ("left", "right", "both sides", "neither side")),
        ("What is the largest finding?", "tumor", ()),
    ]
    found = []
    for n in range(number):
        question, answer, options = asked[n % 3]
        found.append(
            answered(image, question, answer, options, rationale=f"Step {n}: it is bright.",
                     writer=writer, sample=n, round=1)
        )  # fmt: skip
    return found


def items_of(
    rows: list[Triplet], stream: str = "random", round: int = 1, readers: int = 1, first: int = 0
) -> list[Item]:
    """A question for a verdict on each row."""
    return [Item.make(row, None, stream, round, first + n, readers) for n, row in enumerate(rows)]


def made(root: Path, images: list[Image], rows: list[Triplet], items: list[Item]) -> Workspace:
    """A workspace in which these are committed, with judgements that no reader may see."""
    with writing(root, "read", {"name": "read", "seed": 0, "expert": {"kind": "people"}}) as place:
        commit(place, "ingest", 0, images)
        judge = make_model("judge", "judge", None, 0, 5)
        opinions: list[Judgement] = [
            replace(make_judgement(row, judge), overall=0.61803, probability=0.70711)
            for row in rows
        ]
        commit(place, "generate", 1, [*rows, TASK])
        commit(place, "judge", 1, [*opinions, judge])
        commit(place, "consult", 1, items)
    return Workspace.existing(root)


def ten(root: Path, readers: int = 1, number: int = 10) -> list[Item]:
    """A workspace with `number` questions for verdicts, of a patient each; returns them.

    `root` is two folders below pytest's own, where the first of a kind is kept to be copied.
    """
    kept = root.parents[1] / f"asked-{number}-{readers}"
    if not kept.exists():
        images = images_of(number, each=1)
        rows = [rows_of(image, n % 3 + 1)[-1] for n, image in enumerate(images)]
        made(kept, images, rows, items_of(rows, readers=readers))
    shutil.copytree(kept, root)
    return list(Workspace.existing(root).read(Item))


def access_of(root: Path, *readers: str) -> Access:
    """Without readers one of them, `anna`, needs no token."""
    return Access(Readers.of(root, readers), LOOPBACK, "" if readers else "anna")


def opened(
    root: Path, *readers: str, repeats: float = 0.0, guarantee: Guarantee | None = None
) -> tuple[Room, Access]:
    """A room on a workspace, as the command opens it."""
    access = access_of(root, *readers)
    room = Room(root, access.readers.secret, repeats, guarantee)
    room.open()
    return room, access


class Reader:
    """A reader's browser, as far as the server can see."""

    def __init__(self, room: Room, access: Access, name: str = "") -> None:
        self.http = TestClient(create_app(room, access), base_url=URL, follow_redirects=False)
        self.seen: list[str] = []
        if name:
            self.get(f"/enter?token={access.readers.tokens[name]}")

    def get(self, path: str, **headers: str) -> Any:
        reply = self.http.get(path, headers=headers)
        self.seen.append(f"{reply.headers}\n{reply.content.decode('utf-8', 'replace')}")
        return reply

    def item(self) -> dict[str, Any]:
        """What is shown."""
        reply = self.get("/item")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def post(self, path: str, body: Any, **headers: str) -> Any:
        reply = self.http.post(path, content=json.dumps(body), headers=POST | JSON | headers)
        self.seen.append(f"{reply.headers}\n{reply.text}")
        return reply

    def says(self, item: dict[str, Any], code: int = 200, **said: Any) -> dict[str, Any]:
        """Answer an item, by default with `accept` or a tie."""
        if not said and item["kind"] == "preference":
            said = {"preferences": dict.fromkeys(item["criteria"], "tie")}
        body = {"key": item["key"], "seconds": 1.5, **(said or {"verdict": "accept"})}
        reply = self.post("/answer", body)
        assert reply.status_code == code, reply.text
        return dict(reply.json())

    def undoes(self, item: dict[str, Any], code: int = 200) -> dict[str, Any]:
        """Take the last answer back."""
        reply = self.post("/undo", {"key": item["undo"]})
        assert reply.status_code == code, reply.text
        return dict(reply.json())
