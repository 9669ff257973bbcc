"""What a reader is shown next: items that still want an answer, in order, and now and then again.

Several readers work at once: what one has open goes to no other while there is enough else. What is
shown a second time, for self-agreement, is decided by reader and item together, so that it is the
same after the server was started again, and differs from reader to reader.

A showing has an answer's id before it is answered, so that an answer that is sent twice is one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.config.select import Guarantee
from engine.records import Item, content_id
from reward_model.certificate import least_verdicts
from reward_model.patient_sets import REPORT, set_of
from reward_model.reading_room.keys import Keys
from reward_model.reading_room.record import Snapshot
from reward_model.verdicts import ACCEPT, RANDOM, UNDO, Answer, Standing

LEASE = 600.0  # seconds for which an open item is kept for its reader
GAP, SPREAD, LEAST = 20, 20, 5  # answers between an item and its repeat, and the least of them
COUNTED = 10  # answers from one count by purpose to the next
FRESH = 5.0  # seconds for which the number left is counted down and not counted again


@dataclass(frozen=True, slots=True)
class Showing:
    """An item before a reader: for the `number`th time in its place, or as a repeat."""

    item: Item
    reader: str
    repeat: bool = False
    number: int = 0
    spell: int = 0  # how often the reader was withdrawn: what is answered since is another answer
    since: float | None = None  # when it was shown, by the queue's clock; None: before a restart

    @property
    def answer_id(self) -> str:
        about = (self.reader, self.item.id, self.repeat, self.number, self.spell)
        return content_id("answer", *about)

    @property
    def flipped(self) -> bool:
        """Whether a preference's first row stands on the right."""
        side = content_id("side", self.reader, self.item.id, self.repeat)
        return int(side[:8], 16) % 2 == 1


@dataclass(frozen=True, slots=True)
class Missing:
    """What a certificate lacks at least: accepted rows of different patients."""

    verdicts: int
    waiting: int  # how many that count towards it are waiting


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the reading is. `by_stream` counts answers given and answers wanted in all."""

    answered: int
    left: int
    by_stream: dict[str, tuple[int, int]]
    missing: Missing | None


class Queue:
    """Items and answers of a workspace, and who is looking at what. Not for several threads."""

    def __init__(
        self,
        secret: bytes,
        repeats: float = 0.0,
        guarantee: Guarantee | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`repeats` is the share of a reader's items that are shown again."""
        self._keys, self._repeats, self._guarantee = Keys(secret), repeats, guarantee
        self._clock = clock
        self.snapshot = Snapshot()
        self._certifying: dict[str, str] = {}  # item: the patient, of those that certify
        self._wanted: dict[str, int] = {}  # answers by stream
        self._drawn: dict[str, int] = {}  # reader: by what that is drawn
        self._twice: dict[str, set[str]] = {}  # reader: what they are shown again
        self._forget()

    def _forget(self) -> None:
        """Know of no answer."""
        self.standing = Standing()
        self._by: dict[str, set[str]] = defaultdict(set)  # item: its readers, repeats aside
        self._done: dict[str, dict[str, Answer]] = defaultdict(dict)  # reader: first answers
        self._mine: dict[str, dict[tuple[str, bool], Answer]] = defaultdict(dict)  # in order
        self._times: dict[tuple[str, str, bool], int] = defaultdict(int)
        self._undone: dict[str, set[str]] = defaultdict(set)  # reader: marks of answers
        self._given: dict[str, int] = defaultdict(int)  # reader: how many answers count
        self._answered: dict[str, int] = defaultdict(int)  # answers that were wanted, by stream
        self._open: dict[str, Item] = {}
        self._due: dict[str, dict[str, int]] = defaultdict(dict)  # reader: repeats, and from when
        self._shown: dict[str, Showing] = {}
        self._counts: dict[str, tuple[float, int, int]] = {}  # reader: when, given, left
        self._purposes: tuple[int, dict[str, tuple[int, int]], Missing | None] | None = None

    def see(self, snapshot: Snapshot) -> None:
        """Take the record as it is now; what is gone from it is shown to nobody any more."""
        self.snapshot = snapshot
        self._certifying = _certifying(snapshot)
        self._wanted = defaultdict(int)
        self._answered = defaultdict(int)
        for item in snapshot.items.values():
            self._wanted[item.stream] += item.readers
            self._answered[item.stream] += min(len(self._by.get(item.id, ())), item.readers)
        self._reopen()
        self._twice.clear()
        self._counts.clear()
        self._purposes = None
        items = snapshot.items
        self._shown = {r: s for r, s in self._shown.items() if s.item.id in items}

    def add(self, answers: Iterable[Answer], anew: bool = False) -> None:
        """Take in answers, in the order of the journal; `anew`: these are all that there are."""
        if anew:
            self._forget()
            self._reopen()
        for answer in answers:
            changed = self.standing.add(answer)
            if changed is not None and changed.item_id:
                self._count(changed, undone=answer.kind == UNDO)

    def _count(self, answer: Answer, undone: bool) -> None:
        reader, item_id, place = answer.reader, answer.item_id, (answer.item_id, answer.repeat)
        mine = self._mine[reader]
        mine.pop(place, None)
        now = self.standing.at(answer)
        if now is not None:
            mine[place] = now
        if undone:
            self._undone[reader].add(self.mark(answer))
        else:
            self._times[(reader, *place)] += 1
        self._given[reader] = len(mine)
        shown = self._shown.get(reader)
        if shown is not None and (shown.item.id, shown.repeat) == place:
            del self._shown[reader]
        if answer.repeat:
            if now is not None:
                self._due[reader].pop(item_id, None)
            elif item_id in self._done[reader]:
                self._due[reader][item_id] = 0
            return
        item, before = self.snapshot.items.get(item_id), len(self._by[item_id])
        (self._by[item_id].add if now is not None else self._by[item_id].discard)(reader)
        if item is not None:
            change = min(len(self._by[item_id]), item.readers) - min(before, item.readers)
            self._answered[item.stream] += change
        if now is None:
            self._done[reader].pop(item_id, None)
            self._due[reader].pop(item_id, None)
            self._reopen()
            return
        self._done[reader][item_id] = now
        if item is not None and len(self._by[item_id]) >= item.readers:
            self._open.pop(item_id, None)
        if self._is_repeated(reader, item_id) and (item_id, True) not in mine:
            later = int(content_id("repeat", reader, item_id)[:8], 16) % SPREAD
            self._due[reader][item_id] = len(mine) + GAP + later

    def _reopen(self) -> None:
        self._open = {
            item.id: item
            for item in self.snapshot.items.values()
            if len(self._by[item.id]) < item.readers
        }

    def _is_repeated(self, reader: str, item_id: str) -> bool:
        """Whether a reader is shown an item again: a share of the items, others for each reader."""
        if reader not in self._drawn:
            self._drawn[reader] = int(content_id("again", reader)[:8], 16)
        return int(item_id[:8], 16) ^ self._drawn[reader] < self._repeats * 16**8

    def _again(self, reader: str) -> set[str]:
        """Those of the record's items that a reader is shown again."""
        if reader not in self._twice:
            items = self.snapshot.items
            self._twice[reader] = {i for i in items if self._is_repeated(reader, i)}
        return self._twice[reader]

    # What is shown

    def next(self, reader: str) -> Showing | None:
        """What a reader is to answer now: the same until it is answered; None where nothing is."""
        shown = self._shown.get(reader)
        if shown is not None and (shown.repeat or shown.item.id in self._open):
            return shown
        self._shown.pop(reader, None)
        found = self._repeat(reader) or self._fresh(reader) or self._repeat(reader, early=True)
        if found is not None:
            self._shown[reader] = found
        return found

    def _fresh(self, reader: str) -> Showing | None:
        held: dict[str, int] = defaultdict(int)
        for other, shown in self._shown.items():
            kept = shown.since is not None and self._clock() - shown.since < LEASE
            if other != reader and not shown.repeat and kept:
                held[shown.item.id] += 1
        for item in self._open.values():
            readers = self._by[item.id]
            if reader not in readers and len(readers) + held[item.id] < item.readers:
                return self._showing(reader, item, False)
        return None

    def _repeat(self, reader: str, early: bool = False) -> Showing | None:
        given, mine = self._given[reader], list(self._mine[reader])
        for item_id, due in self._due[reader].items():
            item = self.snapshot.items.get(item_id)
            if item is None or not (early or due <= given):
                continue
            if (item_id, False) not in mine[-LEAST:]:
                return self._showing(reader, item, True)
        return None

    def _showing(self, reader: str, item: Item, repeat: bool) -> Showing:
        number = self._times[reader, item.id, repeat]
        return Showing(item, reader, repeat, number, self._spell(reader), self._clock())

    def _spell(self, reader: str) -> int:
        return self.snapshot.withdrawn.get(reader, 0)

    def times(self, showing: Showing) -> int:
        """How often a reader has answered in a showing's place, undone answers among them."""
        return self._times.get((showing.reader, showing.item.id, showing.repeat), 0)

    def elapsed(self, showing: Showing) -> float | None:
        """For how many seconds an item has been before its reader, None where that is not known."""
        return None if showing.since is None else self._clock() - showing.since

    def waits_for_others(self, reader: str) -> bool:
        """Whether all that a reader could answer is open before others."""
        return any(reader not in self._by[item_id] for item_id in self._open)

    # What the page calls things

    def key(self, showing: Showing) -> str:
        """What the page knows a showing by."""
        s = showing
        return self._keys.seal(s.reader, s.item.id, s.repeat, s.number, s.spell)

    def find(self, reader: str, key: str) -> Showing | None:
        """The showing that has a key, of those that a reader has or had before them."""
        opened = self._keys.open(reader, key)
        item = self.snapshot.items.get(opened[0]) if opened else None
        if opened is None or item is None:
            return None
        found = Showing(item, reader, *opened[1:])
        shown = self._shown.get(reader)
        return shown if shown is not None and shown.answer_id == found.answer_id else found

    def mark(self, answer: Answer) -> str:
        """What the page knows an answer by that was given."""
        return self._keys.mark(answer.id)

    def was_undone(self, reader: str, mark: str) -> bool:
        """Whether a reader has taken the answer of this mark back."""
        return mark in self._undone[reader]

    def last(self, reader: str) -> Answer | None:
        """A reader's newest answer that can be undone: it counts, and no stage has read it yet."""
        for (item_id, repeat), answer in reversed(self._mine[reader].items()):
            if item_id in self.snapshot.items:
                is_read = (item_id, reader, repeat) in self.snapshot.collected
                return None if is_read else answer
        return None

    def show_again(self, answer: Answer) -> None:
        """Put what an undone answer was about before its reader."""
        item = self.snapshot.items.get(answer.item_id)
        if item is not None:
            self._shown[answer.reader] = self._showing(answer.reader, item, answer.repeat)

    # Progress

    def progress(self, reader: str) -> Progress:
        """How far a reader is, and all readers together.

        What is left goes down by one with each answer, a repeat's too. Counts by purpose are a few
        answers old, so that none of them tells what an answer was for.
        """
        given = self._given[reader]
        at, before, left = self._counts.get(reader, (0.0, given, -1))
        if left < 0 or self._clock() - at > FRESH:
            left, before = self._left(reader), given
            self._counts[reader] = (self._clock(), given, left)
        left = max(0, left + before - given)
        total = sum(self._given.values())
        if self._purposes is None or not left or abs(total - self._purposes[0]) >= COUNTED:
            streams = {s: (self._answered[s], wanted) for s, wanted in self._wanted.items()}
            self._purposes = total, streams, self._missing()
        return Progress(given, left, *self._purposes[1:])

    def _left(self, reader: str) -> int:
        done, again = self._done[reader], self._again(reader)
        waiting = len(self._open) - sum(item_id in self._open for item_id in done)
        repeats = sum(item_id in self._open and item_id not in done for item_id in again)
        return waiting + repeats + len(self._due[reader])

    def wanted(self) -> int:
        """How many answers are still wanted of all readers together, repeats aside."""
        return sum(self._wanted.values()) - sum(self._answered[s] for s in self._wanted)

    def readers_wanted(self) -> int:
        """How many different readers the questions that are open want at most."""
        return max((item.readers for item in self._open.values()), default=0)

    def _missing(self) -> Missing | None:
        """What the newest round's certificate lacks, at best: rows above one threshold, each of
        another patient, all of them accepted (`reward_model.certificate`)."""
        if self._guarantee is None:
            return None
        given: set[str] = set()
        waiting: set[str] = set()
        for item_id, patient in self._certifying.items():
            said = (self._done[reader].get(item_id) for reader in self._by[item_id])
            if any(a is not None and a.verdict == ACCEPT for a in said):
                given.add(patient)
            elif item_id in self._open:
                waiting.add(patient)
        needed = least_verdicts(self._guarantee.precision, self._guarantee.confidence)
        return Missing(max(0, needed - len(given)), len(waiting - given))


def _certifying(snapshot: Snapshot) -> dict[str, str]:
    """The patient by item, of the newest round's questions of which a certificate is made."""
    random = [item for item in snapshot.items.values() if item.stream == RANDOM]
    newest = max((item.round for item in random), default=0)
    groups = {i.id: snapshot.images[i.image_id].group for i in random if i.round == newest}
    return {item_id: group for item_id, group in groups.items() if set_of(group) != REPORT}
