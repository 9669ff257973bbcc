"""The journal of answers: what was acknowledged is there, once, whoever else writes or dies."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from engine.errors import TriptychError
from engine.records import Item
from reward_model.journal import Journal
from reward_model.verdicts import UNDO, Answer, current, wanted


def said(number: int, reader: str = "r1", **more: object) -> Answer:
    values: dict[str, object] = {"item_id": f"i{number}", "triplet_id": f"t{number}"}
    return Answer(
        id=f"{reader}-{number}",
        kind="verdict",
        reader=reader,
        at="2026-01-01T00:00:00.000Z",
        verdict="accept",
        **(values | more),  # type: ignore[arg-type]
    )


def test_answers_come_back_as_they_were_given_and_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    odd = said(2, comment='"quoted"\nÄ – 脳 \ud800'[:-1], reasons=("wrong side",), seconds=1.5)
    assert journal.append([said(1), odd, said(1)]) == 2
    assert journal.append([said(1)]) == 0
    assert journal.answers() == [said(1), odd]
    assert Journal(tmp_path).answers() == [said(1), odd]


def test_another_writer_is_heard(tmp_path: Path) -> None:
    one, other = Journal(tmp_path), Journal(tmp_path)
    one.append([said(1)])
    other.append([said(2)])
    assert one.append([said(2), said(3)]) == 1
    assert other.answers() == one.answers() == [said(1), said(2), said(3)]


def test_a_line_that_was_cut_off_is_passed_over_and_the_next_stands_on_its_own(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path)
    journal.append([said(1), said(2)])
    whole = journal.path.read_bytes()
    for cut in range(whole.index(b"\n") + 2, len(whole) - 1):
        journal.path.write_bytes(whole[:cut])
        again = Journal(tmp_path)
        assert again.answers() == [said(1)], cut
        assert again.append([said(3)]) == 1
        assert Journal(tmp_path).answers() == [said(1), said(3)], cut


def test_a_whole_line_that_is_no_answer_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([said(1)])
    with journal.path.open("ab") as file:
        file.write(b'{"id": "x"}\n')
    with pytest.raises(TriptychError, match="no answer"):
        Journal(tmp_path).answers()


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([said(1)])
    assert journal.path.stat().st_mode & 0o077 == 0
    assert journal.path.parent.stat().st_mode & 0o077 == 0


def _write(root: Path, reader: str, told: Path) -> None:
    journal = Journal(root)
    with told.open("a") as file:
        for number in range(10_000):
            answer = said(number, reader)
            journal.append([answer])
            print(answer.id, file=file, flush=True)


def test_what_was_acknowledged_survives_kill_9_and_is_there_once(tmp_path: Path) -> None:
    rng = random.Random(0)
    context = multiprocessing.get_context("fork")
    for turn in range(6):
        writers = [
            context.Process(
                target=_write, args=(tmp_path, f"r{turn}-{n}", tmp_path / f"{turn}-{n}")
            )
            for n in range(3)
        ]
        for writer in writers:
            writer.start()
        time.sleep(0.15 + 0.2 * rng.random())
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join()
    acknowledged = [
        line for path in tmp_path.glob("[0-9]-*") for line in path.read_text().split("\n")[:-1]
    ]
    found = [answer.id for answer in Journal(tmp_path).answers()]
    assert len(acknowledged) > 20
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + 18  # written, and killed before it said so


def test_the_last_answer_of_a_reader_counts_and_an_undone_one_does_not() -> None:
    first, other = said(1), said(1, "r2")
    changed = Answer(**{**_fields(first), "id": "later", "verdict": "reject"})
    repeat = Answer(**{**_fields(first), "id": "again", "repeat": True})
    assert current([first, other, changed]) == [other, changed]
    assert current([first, repeat]) == [first, repeat]
    undo = Answer(id="u", kind=UNDO, reader="r1", at="", undoes=first.id)
    assert current([first, undo, other]) == [other]
    assert current([first, undo, changed]) == [changed]
    stranger = Answer(id="u", kind=UNDO, reader="r2", at="", undoes=first.id)
    assert current([first, stranger]) == [first]


def _fields(answer: Answer) -> dict[str, object]:
    return {name: getattr(answer, name) for name in answer.__dataclass_fields__}


def test_what_is_wanted_counts_different_readers_and_no_repeats() -> None:
    items = [
        Item(
            id=f"i{n}", kind="verdict", triplet_id=f"t{n}", other_id="", image_id="x",
            stream="test", round=0, place=n, readers=2,
        )
        for n in (1, 2)
    ]  # fmt: skip
    assert wanted(items, []) == {"i1": 2, "i2": 2}
    twice = [said(1), said(1, "r1", repeat=True), said(2), said(2, "r2")]
    assert wanted(items, twice) == {"i1": 1}
