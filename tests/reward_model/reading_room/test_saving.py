"""Answers that wait together are written in one go, and each hears of its own fate alone."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from engine.errors import TriptychError
from reward_model.journal import Journal
from reward_model.reading_room.saving import Saver
from reward_model.verdicts import ACCEPT, VERDICT, Answer


def said(number: int) -> Answer:
    return Answer(id=f"{number:032d}", kind=VERDICT, reader="anna", at="", item_id=f"i{number}",
                  verdict=ACCEPT)  # fmt: skip


def test_many_at_once_cost_few_writes_and_are_taken_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Answer] = []
    written, sync = [], os.fsync

    def slow(handle: int) -> None:
        written.append(handle)
        time.sleep(0.02)
        sync(handle)

    async def many() -> None:
        saver = Saver(Journal(tmp_path), lambda answers, anew: taken.extend(answers))
        await asyncio.gather(*(saver.save(said(n)) for n in range(50)))

    monkeypatch.setattr(os, "fsync", slow)
    asyncio.run(many())
    assert [a.id for a in taken] == [said(n).id for n in range(50)]
    assert Journal(tmp_path).answers() == taken
    assert len(written) <= 5


def test_what_cannot_be_written_fails_for_those_who_wait_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    async def two() -> list[object]:
        saver = Saver(Journal(tmp_path), lambda answers, anew: None)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda handle, data: write(handle, data[:9]) and 1 / 0)
            failed = await asyncio.gather(saver.save(said(1)), return_exceptions=True)
        await saver.save(said(2))
        await saver.save(said(1))
        return list(failed)

    (failure,) = asyncio.run(two())
    assert isinstance(failure, ZeroDivisionError)
    assert [a.id for a in Journal(tmp_path).answers()] == [said(2).id, said(1).id]


def test_lines_that_a_withdrawal_takes_out_make_it_read_all_anew(tmp_path: Path) -> None:
    heard: list[tuple[int, bool]] = []

    async def withdrawn() -> None:
        saver = Saver(Journal(tmp_path), lambda answers, anew: heard.append((len(answers), anew)))
        for number in range(3):
            await saver.save(said(number))
        lines = saver.journal.path.read_bytes().splitlines(keepends=True)
        other = saver.journal.path.with_name("other")
        other.write_bytes(b"".join(lines[1:]))
        other.replace(saver.journal.path)
        await saver.look()
        await saver.save(said(7))

    asyncio.run(withdrawn())
    assert heard == [(1, False), (1, False), (1, False), (2, True), (1, False)]


def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([said(1)])
    with journal.path.open("ab") as out:
        out.write(b'{"no": "answer"}\n')
    with pytest.raises(TriptychError, match="no answer"):
        Saver(Journal(tmp_path), lambda answers, anew: None).load()
