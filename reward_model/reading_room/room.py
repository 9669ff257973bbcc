"""A workspace's reading room: what readers are shown, and what they say, without HTTP.

What leaves it are plain dictionaries of what a reader may see: no model, score, stream, round or
other reader's opinion is in any of them.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from engine.config.select import Guarantee
from engine.errors import TriptychError, printable
from engine.records import Image, Triplet, content_id
from engine.workspace import Workspace, utc
from reward_model.journal import Journal
from reward_model.reading_room.answers import Refused, answer_of, criteria_of, same
from reward_model.reading_room.pictures import Pictures, Source
from reward_model.reading_room.queue import Progress, Queue, Showing
from reward_model.reading_room.record import Record
from reward_model.reading_room.saving import Saver
from reward_model.verdicts import INFORMATIVE, RANDOM, TEST, UNDO, Answer

LOOK = 5.0  # seconds from one look at the record and the journal to the next
MOST = 20_000  # characters of a text that are shown
OTHERS = 60  # of a patient's other images
PURPOSES = {  # what a stream's answers are for, in words that a reader may know
    INFORMATIVE: "teach the judge",
    RANDOM: "measure how good the chosen rows are",
    TEST: "make the test set",
}
ALL_DONE = "Nothing is waiting for you."
GO_ON = (
    "Give `triptych run CONFIG` again: it goes on with what was answered. New questions appear "
    "here by themselves."
)
OTHERS_WANTED = (
    "Answers that are still wanted, of other readers: {}. A question that wants two gets them from "
    "two."
)
OTHERS_READ = "Other readers have the last questions open. They come here if they are left."


class Conflict(Exception):
    """What a reader asks for cannot be done any more; the message is for them."""


class Room:
    """Readers' questions and answers. All but `open` runs in one event loop."""

    def __init__(
        self,
        root: Path,
        secret: bytes,
        repeats: float = 0.0,
        guarantee: Guarantee | None = None,
        source: Source | None = None,
    ) -> None:
        """`repeats` is the share of a reader's items that are shown again; `source` finds the files
        that images came from.
        """
        self.queue = Queue(secret, repeats, guarantee)
        self.pictures = Pictures(root, source)
        self._record = Record(Workspace.existing(root))
        self._saver = Saver(Journal(root), self.queue.add)
        self._looked = 0.0
        self._looking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Read record and journal; raises TriptychError where one cannot be read."""
        self.queue.add(*self._saver.load())
        self.queue.see(self._record.read())
        self._looked = time.monotonic()

    async def look(self) -> None:
        """See what was committed, and what others have answered, since."""
        if await asyncio.to_thread(self._record.changed):
            snapshot = await asyncio.to_thread(self._record.read)
            self.pictures.renew()
            self.queue.see(snapshot)
        await self._saver.look()

    def _look_sometimes(self) -> None:
        """Look in the background, unless that was done a moment ago."""
        idle = self._looking is None or self._looking.done()
        if idle and time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._looking = asyncio.create_task(self._look_quietly())

    async def _look_quietly(self) -> None:
        try:
            await self.look()
        except (TriptychError, OSError) as error:  # a withdrawal is writing: the next look sees it
            print(f"triptych: the record is looked at again in a moment: {printable(str(error))}")

    # What a reader asks for

    def item(self, reader: str) -> dict[str, Any]:
        """What a reader is shown now."""
        self._look_sometimes()
        showing = self.queue.next(reader)
        last = self.queue.last(reader)
        about: dict[str, Any] = {
            "undo": self.queue.mark(last) if last else None,
            "progress": _told(self.queue.progress(reader)),
        }
        if showing is None:
            waits = self.queue.waits_for_others(reader)
            wanted = self.queue.wanted()
            advice = OTHERS_WANTED.format(wanted) if wanted else GO_ON
            told = (OTHERS_READ, "") if waits else (ALL_DONE, advice)
            if not waits:  # repeats that would come too soon after their first are left out
                about["progress"]["left"] = 0
            return about | {"kind": "none", "message": told[0], "advice": told[1]}
        return about | self._shown(showing)

    def _shown(self, showing: Showing) -> dict[str, Any]:
        snapshot, item = self.queue.snapshot, showing.item
        rows = self._rows(showing)
        both = [row for row in rows if row is not None]
        criteria = criteria_of(both[0], both[1]) if len(both) == 2 else ()
        if showing.flipped and len(both) == 2:
            both.reverse()
        others = snapshot.others(item.image_id)[:OTHERS]
        return {
            "kind": item.kind,
            "key": self.queue.key(showing),
            "image": image_told(snapshot.images[item.image_id]),
            "others": [image_told(snapshot.images[other]) for other in others],
            "rows": [row_told(row) for row in both],
            "criteria": list(criteria),
        }

    def _rows(self, showing: Showing) -> tuple[Triplet, Triplet | None]:
        rows, item = self.queue.snapshot.rows, showing.item
        return rows[item.triplet_id], rows[item.other_id] if item.other_id else None

    async def answer(self, reader: str, body: Any) -> None:
        """Take an answer, which is on disk when this returns.

        The same answer sent again is taken once. Raises Refused for one that makes no sense, and
        Conflict where its question is gone or was answered otherwise.
        """
        showing = self.queue.find(reader, _key(body))
        if showing is None:
            raise Conflict("This question is gone: it was withdrawn, or is another reader's.")
        row, other = self._rows(showing)
        answer = answer_of(body, showing, row, other, self.queue.elapsed(showing))
        before = self.queue.standing.given(answer.id)
        if before is None and showing.number == self.queue.times(showing):
            await self._saver.save(answer)
            before = self.queue.standing.given(answer.id)
        if before is None or not same(before, answer):
            raise Conflict("This question was answered already, in another window. Undo is there.")

    async def undo(self, reader: str, body: Any) -> None:
        """Take a reader's newest answer back, which is on disk when this returns, and show its
        item again. Raises Conflict where that cannot be undone any more."""
        key, last = _key(body), self.queue.last(reader)
        if self.queue.was_undone(reader, key):
            return  # a request that is sent again
        if last is None or self.queue.mark(last) != key:
            raise Conflict("This answer cannot be undone any more: it is part of the record.")
        undone = Answer(
            id=content_id("undo", last.id), kind=UNDO, reader=reader, at=utc(), undoes=last.id
        )
        await self._saver.save(undone)
        self.queue.show_again(last)


def _key(body: Any) -> str:
    key = body.get("key") if isinstance(body, dict) else None
    if not isinstance(key, str) or not key:
        raise Refused("Which question? An answer names its key.")
    return key


def image_told(image: Image) -> dict[str, Any]:
    """What is said of an image beside its pixels."""
    return {
        "id": image.id,
        "width": image.width,
        "height": image.height,
        "modality": text_shown(image.modality),
        "anatomy": text_shown(image.anatomy),
    }


def row_told(row: Triplet) -> dict[str, Any]:
    """What is said of a row."""
    return {
        "question": text_shown(row.question),
        "options": [text_shown(option) for option in row.options],
        "answer": text_shown(row.answer),
        "chosen": row.options.index(row.answer) if row.answer in row.options else None,
        "rationale": text_shown(row.rationale),
    }


def text_shown(text: str) -> str:
    """A text as it is shown: no mark turns the direction of reading, and its length has an end."""
    shown = printable(text[:MOST])
    return f"{shown} … ({len(text) - MOST:,} more characters)" if len(text) > MOST else shown


def _told(progress: Progress) -> dict[str, Any]:
    """Progress in words and numbers that do not tell what an item is for."""
    purposes = [
        {"purpose": PURPOSES.get(stream, stream), "given": given, "wanted": wanted}
        for stream, (given, wanted) in sorted(progress.by_stream.items())
    ]
    missing = progress.missing
    certificate = None
    if missing is not None and missing.verdicts:
        certificate = (
            f"The certificate lacks at least {missing.verdicts} accepted rows, each of another "
            f"patient. Questions waiting that count: {missing.waiting}."
        )
    elif missing is not None:
        certificate = (
            "There are accepted rows enough for a certificate, if few others were rejected."
        )
    return {
        "answered": progress.answered,
        "left": progress.left,
        "purposes": purposes,
        "certificate": certificate,
    }
