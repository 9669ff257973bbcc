"""The reading room under load: how long it takes, and that no answer is lost when it is killed.

    python -m benchmarks.reading_room [--items 10000] [--readers 20] [--kills 20] [--keep FOLDER]

Readers read over HTTP in a workspace of drawn images, with a server of its own process: first at a
pace (a second or so for each answer), then as fast as they can, then while the server is killed
(SIGKILL) at random moments and started again. Each answer has a mark of its own in its comment; a
reader who gets no reply sends the same answer again, and takes one in twenty back. In the end the
journal is read: every acknowledged answer is in it once, and what was taken back does not count.

Two tables and a line of JSON; the exit status is 1 where an answer was lost or counted twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from engine.imaging.ingest import picture_of
from engine.lineage.opening import writing
from engine.pixels import pixels_id
from engine.records import Image, Item, Picture, Row, Triplet, content_id
from engine.workspace import Workspace
from reward_model.journal import Journal
from reward_model.verdicts import REASONS, UNDO, current

ASKED = 20  # questions of an image
SIDE = 256
PACE = 1.0  # seconds from one answer to the next, on average, of a reader who takes their time
MEDIAN_MS = 100  # what the page and an answer are to stay below


def images(number: int) -> Iterator[tuple[Image, Picture]]:
    """Blurred noise, two images of a patient."""
    for n in range(number):
        rng = np.random.default_rng(n)
        coarse = rng.integers(0, 255, (SIDE // 8, SIDE // 8), dtype=np.uint8)
        pixels = np.kron(coarse, np.ones((8, 8), np.uint8))
        image = Image(
            id=pixels_id(pixels), width=SIDE, height=SIDE, modality="MR", anatomy="brain",
            group=f"group-{n // 2}", split="train", source=f"MR/{n:05d}.dcm", rendering="{}",
            deidentification="drawn", is_synthetic=True, patient=f"patient-{n // 2}",
        )  # fmt: skip
        yield image, picture_of(image.id, pixels)


def row_of(image: Image, n: int) -> Triplet:
    """An answer about an image; every fourth question has no options."""
    return Triplet(
        id=content_id("load", image.id, n), image_id=image.id, generator_id="load", task_id="",
        prompt_hash="", seed=0, sample=n, round=1, question=f"Is finding {n} on the left?",
        options=() if n % 4 == 3 else ("yes", "no"), answer="yes",
        rationale="It lies to the left of the midline, and its border is sharp.", raw="",
        logprob=-0.5,
    )  # fmt: skip


def make(root: Path, number: int) -> None:
    """A workspace in which `number` items wait for two readers each; every fifth compares two."""
    drawn = list(images(-(-number // ASKED)))
    rows = [row_of(image, n) for image, _ in drawn for n in range(ASKED)]
    streams = ("random", "informative", "test")
    items = [
        Item.make(row, rows[n - 1] if n % 5 == 4 else None, streams[n % 3], 1, n, 2)
        for n, row in enumerate(rows[:number])
    ]
    values = {"name": "load", "seed": 0, "expert": {"kind": "people"},
              "select": {"guarantee": {}}}  # fmt: skip
    with writing(root, "load", values) as workspace:
        commit(workspace, "ingest", [i for i, _ in drawn], [p for _, p in drawn])
        commit(workspace, "generate", rows)
        commit(workspace, "consult", items)


def commit(workspace: Workspace, name: str, *tables: list[Any]) -> None:
    """Rows as one stage."""
    stage = workspace.begin(name, 1, content_id("load", name))
    for rows in tables:
        kind: type[Row] = type(rows[0])
        stage.write(kind, rows)
    workspace.commit(stage)


class Server:
    """The command in a process, which can be killed and started again at the same port."""

    def __init__(self, root: Path, readers: list[str]) -> None:
        self.root, self.readers = root, readers
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts: list[float] = []
        self.links: dict[str, str] = {}
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and wait until it serves."""
        began = time.monotonic()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "annotate", "-w", str(self.root),
             "--readers", ",".join(self.readers), "--port", str(self.port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"COLUMNS": "300"},
        )  # fmt: skip
        assert self._child.stdout is not None
        told = []
        for line in self._child.stdout:
            told.append(line)
            if found := re.match(r"(\S+): http\S+token=(\S+)", line):
                self.links[found[1]] = found[2]
            if line.startswith("Every answer"):
                self.starts.append(time.monotonic() - began)
                return
        raise SystemExit("the reading room did not open: " + "".join(told))

    def kill(self) -> None:
        """End it at once, whatever it is at."""
        assert self._child is not None
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()


@dataclass
class Ledger:
    """What was acknowledged, and how long things took in each phase (seconds)."""

    phase: str = ""
    acknowledged: list[str] = field(default_factory=list)  # marks of answers
    undone: set[str] = field(default_factory=set)
    resent: int = 0
    times: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def took(self, what: str, seconds: float) -> None:
        self.times[self.phase][what].append(seconds)


class Load:
    """One reader's browser, which does what the page's script does."""

    def __init__(self, name: str, server: Server, ledger: Ledger) -> None:
        self.name, self.server, self.ledger = name, server, ledger
        self.random = random.Random(name)
        self.number = 0
        self.http = httpx.AsyncClient(
            base_url=server.url, timeout=30, headers={"Origin": server.url}
        )

    async def ask(self, method: str, path: str, what: str, body: Any = None) -> httpx.Response:
        """A request, again until there is a reply."""
        while True:
            began = time.monotonic()
            try:
                reply = await self.http.request(method, path, json=body)
            except httpx.TransportError:
                self.ledger.resent += method == "POST"
                await asyncio.sleep(0.2)
                continue
            self.ledger.took(what, time.monotonic() - began)
            return reply

    async def read(self, until: asyncio.Event, pace: float) -> None:
        """Answer what is shown until told to stop; an answer that was begun is seen through."""
        token = self.server.links[self.name]
        await self.ask("GET", f"/enter?token={token}", "enter")
        await self.ask("GET", "/", "page")
        item = (await self.ask("GET", "/item", "item")).json()
        while not until.is_set() and item["kind"] != "none":
            await self.ask("GET", f"/picture/{item['image']['id']}", "picture")
            if pace:
                with suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), self.random.expovariate(1 / pace))
            item = await self.answer(item)
            if self.random.random() < 0.05:
                item = await self.undo(item)
            if self.random.random() < 0.05:
                await self.ask("GET", "/", "page")
                item = (await self.ask("GET", "/item", "item")).json()

    async def answer(self, item: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        mark = f"{self.name}-{self.number}"
        said: dict[str, Any] = {"key": item["key"], "seconds": 2.5, "comment": mark}
        if item["kind"] == "preference":
            said["preferences"] = {c: self.random.choice(("left", "tie")) for c in item["criteria"]}
        elif self.random.random() < 0.3:
            said |= {"verdict": "reject", "reasons": [self.random.choice([*REASONS])]}
        else:
            said["verdict"] = "accept"
        reply = await self.ask("POST", "/answer", "answer", said)
        if reply.status_code != 200:
            raise SystemExit(f"{mark}: {reply.status_code} {reply.text}")
        self.ledger.acknowledged.append(mark)
        return dict(reply.json())

    async def undo(self, item: dict[str, Any]) -> dict[str, Any]:
        """Take the answer back that was just given."""
        reply = await self.ask("POST", "/undo", "undo", {"key": item["undo"]})
        if reply.status_code != 200:
            raise SystemExit(f"undo: {reply.status_code} {reply.text}")
        self.ledger.undone.add(self.ledger_mark())
        return dict(reply.json())

    def ledger_mark(self) -> str:
        """The mark of the answer given last."""
        return f"{self.name}-{self.number}"


async def measure(server: Server, loads: list[Load], ledger: Ledger, args: Any) -> int:
    """The three phases; returns how often the server was killed."""
    for phase, pace in (("paced", PACE), ("flat out", 0.0)):
        ledger.phase = phase
        await run(loads, pace, asyncio.sleep(args.seconds))
    ledger.phase = "killed"

    async def killing() -> None:
        chance = random.Random(0)
        for _ in range(args.kills):
            await asyncio.sleep(chance.uniform(0.3, 2.5))
            server.kill()
            await asyncio.to_thread(server.start)
        await asyncio.sleep(1)

    await run(loads, 0.0, killing())
    return int(args.kills)


async def run(loads: list[Load], pace: float, while_: Any) -> None:
    """All readers at once, for as long as something takes."""
    over = asyncio.Event()
    reading = [asyncio.create_task(load.read(over, pace)) for load in loads]
    await while_
    over.set()
    await asyncio.gather(*reading)


def check(root: Path, ledger: Ledger) -> dict[str, int]:
    """What the journal says of what was acknowledged."""
    answers = Journal(root).answers()
    marks = Counter(a.comment for a in answers if a.kind != UNDO)
    lines = Counter(
        json.loads(line)["id"] for line in Journal(root).path.read_bytes().splitlines() if line
    )
    counting = {a.comment for a in current(answers)}
    acknowledged = set(ledger.acknowledged)
    return {
        "acknowledged": len(ledger.acknowledged),
        "lost": len(acknowledged - set(marks)),
        "counted_twice": sum(n > 1 for n in marks.values()) + sum(n > 1 for n in lines.values()),
        "undone_that_count": len(ledger.undone & counting),
        "not_undone_that_do_not_count": len(acknowledged - ledger.undone - counting),
        "never_acknowledged": len(set(marks) - acknowledged),
    }


def table(ledger: Ledger) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds at the median and the 95th percentile, by phase and request; printed too."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':10}{'request':10}{'number':>8}{'median ms':>11}{'95 % ms':>9}")
    for phase, kinds in ledger.times.items():
        for what in ("page", "item", "picture", "answer", "undo"):
            if not (taken := kinds.get(what)):
                continue
            middle, most = (1000 * float(np.percentile(taken, p)) for p in (50, 95))
            print(f"{phase:10}{what:10}{len(taken):>8}{middle:>11.1f}{most:>9.1f}")
            found.setdefault(phase, {})[what] = {"median": round(middle, 1), "p95": round(most, 1)}
    return found


def main() -> None:
    """Print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=25, help="of each of two phases")
    parser.add_argument("--keep", type=Path, help="where the workspace stays")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp(prefix="triptych-reading-"))
    root = folder / "w"
    try:
        make(root, args.items)
        names = [f"reader{n:02d}" for n in range(args.readers)]
        server, ledger = Server(root, names), Ledger()
        server.start()
        loads = [Load(name, server, ledger) for name in names]
        try:
            kills = asyncio.run(measure(server, loads, ledger, args))
        finally:
            server.kill()
        times, found = table(ledger), check(root, ledger)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print()
    for name, number in found.items():
        print(f"{name.replace('_', ' '):32}{number:>8}")
    bad = ("lost", "counted_twice", "undone_that_count", "not_undone_that_do_not_count")
    whole = not any(found[name] for name in bad)
    start = round(float(np.median(server.starts)), 1)
    line = {
        "items": args.items, "readers": args.readers, "kills": kills, "resent": ledger.resent,
        "start_seconds": start, "milliseconds": times, "target_median_ms": MEDIAN_MS,
        "whole": whole,
    }  # fmt: skip
    print(json.dumps(line | found))
    sys.exit(not whole)


if __name__ == "__main__":
    main()
