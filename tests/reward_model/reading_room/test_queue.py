"""The queue against the plain rules of `reward_model.verdicts`, whatever readers do in turn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config.select import Guarantee
from engine.records import Item, content_id
from reward_model.patient_sets import REPORT, set_of
from reward_model.reading_room.keys import Keys
from reward_model.reading_room.queue import LEAST, Queue, Showing
from reward_model.reading_room.record import Snapshot
from reward_model.verdicts import ACCEPT, UNDO, VERDICT, Answer, current, wanted
from tests.lineage_workspace import make_image, make_triplet

STREAMS = ("random", "informative", "test")
IMAGES = [make_image(n, f"g{n}") for n in range(12)]
ROWS = [make_triplet(image, "writer", 0, 1) for image in IMAGES]


def snapshot_of(number: int, readers: int) -> Snapshot:
    rows, images = ROWS[:number], IMAGES[:number]
    items = [Item.make(row, None, STREAMS[n % 3], 1, n, readers) for n, row in enumerate(rows)]
    by_id = {item.id: item for item in items}
    return Snapshot(by_id, {row.id: row for row in rows}, {image.id: image for image in images})


def said(showing: Showing) -> Answer:
    return Answer(
        id=showing.answer_id, kind=VERDICT, reader=showing.reader, at="", verdict=ACCEPT,
        item_id=showing.item.id, triplet_id=showing.item.triplet_id, repeat=showing.repeat,
    )  # fmt: skip


def undone(answer: Answer) -> Answer:
    identity = content_id("undo", answer.id)
    return Answer(id=identity, kind=UNDO, reader=answer.reader, at="", undoes=answer.id)


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("answer", "undo", "look"))))


@settings(max_examples=150)
@given(STEPS, st.integers(1, 3), st.sampled_from((0.0, 0.3, 0.9)), st.booleans())
def test_what_is_wanted_is_what_the_answers_that_count_leave(
    steps: list[tuple[str, str]], readers: int, repeats: float, split: bool
) -> None:
    snapshot = snapshot_of(8, readers)
    queue = Queue(b"secret", repeats, Guarantee(), clock=lambda: 0.0)
    queue.see(replace(snapshot, items=dict([*snapshot.items.items()][:5])) if split else snapshot)
    journal: list[Answer] = []
    for reader, step in steps:
        last, showing = queue.last(reader), queue.next(reader)
        if step == "look":
            queue.see(snapshot)
        elif step == "undo" and last is not None:
            journal.append(undone(last))
            queue.add(journal[-1:])
            queue.show_again(last)
        elif step == "answer" and showing is not None:
            assert queue.find(reader, queue.key(showing)) == showing
            journal.append(said(showing))
            queue.add(journal[-1:])
    queue.see(snapshot)
    items, counting = list(snapshot.items.values()), current(journal)
    open_ = wanted(items, counting)
    assert queue.wanted() == sum(open_.values())
    assert len({answer.id for answer in journal}) == len(journal)
    per_reader = Counter((a.reader, a.item_id, a.repeat) for a in counting)
    assert max(per_reader.values(), default=1) == 1
    given_to = Counter(a.item_id for a in counting if not a.repeat)
    assert all(number <= readers for number in given_to.values())
    firsts = {(a.reader, a.item_id) for a in counting if not a.repeat}
    told = queue.progress("a").by_stream
    assert sum(total - answered for answered, total in told.values()) == sum(open_.values())
    again = Queue(b"secret", repeats, Guarantee(), clock=lambda: 0.0)  # as after a restart
    again.add(journal)
    again.see(snapshot)
    assert again.wanted() == queue.wanted()
    for reader in "abc":
        assert again.last(reader) == queue.last(reader)
        assert again._left(reader) == queue._left(reader)
        mine = [a for a in counting if a.reader == reader]
        assert again.progress(reader).answered == len(mine)
        shown = again.next(reader)
        if shown is not None and shown.repeat:
            assert (reader, shown.item.id) in firsts
            assert shown.item.id not in [a.item_id for a in mine[-LEAST:] if not a.repeat]
        elif shown is not None:
            assert shown.item.id in open_
            assert (reader, shown.item.id) not in firsts


def test_what_a_certificate_lacks_counts_all_patients_but_those_reported() -> None:
    snapshot = snapshot_of(12, 1)
    queue = Queue(b"s", guarantee=Guarantee(precision=0.95, confidence=0.9), clock=lambda: 0.0)
    queue.see(snapshot)
    counting = [
        item for item in snapshot.items.values()
        if item.stream == "random" and set_of(snapshot.images[item.image_id].group) != REPORT
    ]  # fmt: skip
    missing = queue.progress("a").missing
    assert missing is not None
    assert (missing.verdicts, missing.waiting) == (45, len(counting))  # 0.95 ** 45 < 0.1
    while (showing := queue.next("a")) is not None:
        queue.add([said(showing)])
    missing = queue.progress("a").missing
    assert missing is not None
    assert (missing.verdicts, missing.waiting) == (45 - len(counting), 0)
    later = [replace(item, round=2, id=content_id(item.id, 2)) for item in counting]
    queue.see(replace(snapshot, items=snapshot.items | {item.id: item for item in later}))
    missing = queue.progress("a").missing
    assert missing is not None
    assert (missing.verdicts, missing.waiting) == (45, len(counting))  # a round has its own
    assert counting


def test_a_key_tells_nothing_and_nobody_makes_one_up() -> None:
    keys, item = Keys(b"secret"), content_id("item")
    made = {
        (reader, repeat, number, spell): keys.seal(reader, item, repeat, number, spell)
        for reader, repeat, number, spell in product("ab", (False, True), (0, 1), (0, 1))
    }  # fmt: skip
    assert len(set(made.values())) == 16
    assert len({len(key) for key in made.values()}) == 1
    for (reader, *shown), key in made.items():
        assert keys.open(reader, key) == (item, *shown)
        assert keys.open("c", key) is None
        assert Keys(b"other").open(reader, key) is None
        assert item[:8] not in key
        for place in range(0, len(key), 7):
            turned = "0" if key[place] != "0" else "1"
            assert keys.open(reader, key[:place] + turned + key[place + 1 :]) is None
    for nothing in ("", "zz", "00" * 36, "00" * 37, "\ud800"):
        assert keys.open("a", nothing) is None
