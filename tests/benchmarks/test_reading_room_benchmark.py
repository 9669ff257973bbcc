"""The check at the end of `benchmarks.reading_room` sees what it is there to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reading_room import Ledger, check, make
from engine.records import Item
from engine.workspace import Workspace
from reward_model.journal import Journal
from reward_model.reading_room.record import Record
from reward_model.verdicts import ACCEPT, UNDO, VERDICT, Answer

BAD = ("lost", "counted_twice", "undone_that_count", "not_undone_that_do_not_count")


def said(number: int, mark: str = "") -> Answer:
    return Answer(id=f"{number:032d}", kind=VERDICT, reader="r", at="", item_id=f"i{number}",
                  verdict=ACCEPT, comment=mark or f"r-{number}")  # fmt: skip


def undo(number: int) -> Answer:
    return Answer(id=f"u{number}", kind=UNDO, reader="r", at="", undoes=f"{number:032d}")


@pytest.mark.parametrize(
    ("answers", "faults"),
    [
        ([said(1), said(2), undo(2), said(3)], []),
        ([said(1), said(2), undo(2)], ["lost", "not_undone_that_do_not_count"]),
        ([said(1), said(2), undo(2), said(3), said(4, "r-3")], ["counted_twice"]),
        ([said(1), said(2), said(3)], ["undone_that_count"]),
        ([said(1), said(2), undo(2), said(3), undo(3)], ["not_undone_that_do_not_count"]),
    ],
)
def test_a_fault_is_seen(tmp_path: Path, answers: list[Answer], faults: list[str]) -> None:
    Journal(tmp_path).append(answers)
    ledger = Ledger(acknowledged=["r-1", "r-2", "r-3"], undone={"r-2"})
    found = check(tmp_path, ledger)
    assert [name for name in BAD if found[name]] == faults


def test_a_line_that_stands_twice_is_seen(tmp_path: Path) -> None:
    Journal(tmp_path).append([said(1)])
    path = Journal(tmp_path).path
    path.write_bytes(path.read_bytes() * 2)
    assert check(tmp_path, Ledger(acknowledged=["r-1"]))["counted_twice"] == 1


def test_the_workspace_has_as_many_questions_as_are_asked_for(tmp_path: Path) -> None:
    make(tmp_path / "w", 50)
    workspace = Workspace.existing(tmp_path / "w")
    items = Record(workspace).read().items
    assert len(items) == len(workspace.read(Item)) == 50
    assert {item.kind for item in items.values()} == {"verdict", "preference"}
