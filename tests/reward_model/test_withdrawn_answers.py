"""Answers taken out of the journal: they are gone, and no other is lost, whoever has it open."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path

from engine.lines import meant, without
from reward_model.journal import Journal
from reward_model.verdicts import Answer


def answer(number: int, reader: str = "R1", **more: object) -> Answer:
    values = {"id": f"a{number}", "kind": "verdict", "at": "2026-11-26T10:00:00Z"}
    return Answer(**values | {"reader": reader, "triplet_id": f"t{number}"} | more)  # type: ignore[arg-type]


def ids(journal: Journal) -> list[str]:
    return [a.id for a in journal.answers()]


def test_what_is_taken_out_is_gone_for_whoever_has_it_open(tmp_path: Path) -> None:
    room = Journal(tmp_path)
    room.append([answer(n, "R1" if n % 2 else "R2") for n in range(40)])
    room.append([answer(90, "R1", kind="undo", undoes="a0"), answer(91, "R1", kind="undo")])
    assert len(ids(room)) == 42
    assert meant(room.path, {"reader": ["R2"]}) == 21
    assert without(room.path, {"reader": ["R2"]}) == 21
    left = [f"a{n}" for n in range(1, 40, 2)]
    assert ids(room) == [*left, "a91"]
    assert room.append([answer(50), answer(1)]) == 1
    assert ids(room) == ids(Journal(tmp_path)) == [*left, "a91", "a50"]
    assert stat.S_IMODE(room.path.stat().st_mode) == 0o600
    assert b"R2" not in room.path.read_bytes()


def test_all_can_be_taken_out(tmp_path: Path) -> None:
    room = Journal(tmp_path)
    room.append([answer(1), answer(2)])
    assert ids(room) == ["a1", "a2"]
    assert without(room.path, {"triplet_id": ["t1", "t2", "t3"]}) == 2
    assert ids(room) == []
    room.append([answer(3)])
    assert ids(room) == ["a3"]


def test_what_was_cut_off_goes_with_what_is_taken_out(tmp_path: Path) -> None:
    room = Journal(tmp_path)
    room.append([answer(1)])
    with room.path.open("ab") as file:
        file.write(b'{"comment":"about the patient wi')
    assert without(room.path, {"reader": ["nobody"]}) == 0
    assert b"patient" not in room.path.read_bytes()
    assert ids(room) == ["a1"]


def keep_adding(folder: Path, reader: str, number: int) -> None:
    journal = Journal(folder)
    for n in range(number):
        journal.append([answer(n, reader, id=f"{reader}-{n}")])


def test_no_answer_is_lost_while_lines_are_taken_out(tmp_path: Path) -> None:
    Journal(tmp_path).append([answer(n, "gone", id=f"g{n}") for n in range(50)])
    path = Journal(tmp_path).path
    fork = multiprocessing.get_context("fork")
    adding = [fork.Process(target=keep_adding, args=(tmp_path, f"R{n}", 60)) for n in range(3)]
    for process in adding:
        process.start()
    times = 0
    while any(process.is_alive() for process in adding):
        without(path, {"id": [f"g{times}"]})
        times += 1
    for process in adding:
        process.join()
    found = [json.loads(line)["id"] for line in path.read_bytes().splitlines() if line]
    assert times > 3
    kept = [f"g{n}" for n in range(times, 50)]
    assert sorted(found) == sorted([*kept, *(f"R{r}-{n}" for r in range(3) for n in range(60))])
