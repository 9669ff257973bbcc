"""Bytes that are not those of the commit are noticed by whoever reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import TriptychError
from engine.hub.export import export
from engine.lineage.opening import maintaining
from engine.records import Image, Triplet
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw
from tests.commands import Done, command
from tests.engine.lineage.record import flip, problems, written_over


def one_line(done: Done) -> str:
    """The one line with which a command refuses."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.strip().count("\n") == 0, done.stderr
    return done.stderr


def test_a_flipped_byte_in_a_committed_shard_is_noticed_by_whoever_reads_it(
    copy: Workspace,
) -> None:
    shard = next(copy.events.glob("*-generate-r1/triplets-*.parquet"))
    whole = shard.read_bytes()
    flip(shard)
    with maintaining(copy.root) as workspace:
        with pytest.raises(TriptychError, match=f"{shard.parent.name}.*{shard.name}") as told:
            workspace.read(Triplet)
        assert "lineage rebuild" in str(told.value)
        assert workspace.read(Triplet, "compare")
    line = one_line(command("lineage", "withdraw", copy.read(Image)[0].id, "-w", copy.root))
    assert shard.name in line
    assert command("lineage", "rebuild", "-w", copy.root).returncode == 0
    assert shard.read_bytes() == whole
    assert problems(copy) == set()


def test_a_flipped_byte_of_a_picture_cannot_be_put_back_and_stops_with_one_line(
    copy: Workspace,
) -> None:
    shard = next(copy.events.glob("*/pictures-*.parquet"))
    flip(shard)
    assert "restore it from a backup" in one_line(command("lineage", "rebuild", "-w", copy.root))
    assert shard.name in one_line(command("export", "-w", copy.root))


def test_a_ledger_is_not_made_from_a_changed_shard(copy: Workspace) -> None:
    flip(next(copy.events.glob("*-select-r1/decisions-*.parquet")))
    before = (copy.root / "ledger.duckdb").read_bytes()
    with pytest.raises(TriptychError, match="not what was committed"):
        copy.ledger().rebuild(copy.events)
    assert (copy.root / "ledger.duckdb").read_bytes() == before


CUT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "no UTF-8": lambda data: b"\xff" + data,
    "a list": lambda data: b"[]",
    "a number": lambda data: b"3",
    "another's": lambda data: b'{"hello": "world"}',
    "deep": lambda data: b"[" * 100_000,
}


COMMANDS = [["export"], ["report"], ["card"], ["lineage", "rebuild"], ["lineage", "prov"]]


@pytest.mark.parametrize("damage", CUT)
@pytest.mark.parametrize("name", ["workspace.json", "events/00003-compare-r0/commit.json"])
def test_json_that_was_cut_is_one_line_whoever_reads_it(
    copy: Workspace, name: str, damage: str
) -> None:
    path = copy.root / name
    path.write_bytes(CUT[damage](path.read_bytes()))
    for words in COMMANDS:
        assert name in one_line(command(*words, "-w", copy.root)), words
    told = command("lineage", "verify", "-w", copy.root)
    assert told.returncode == 1
    assert Path(name).name in told.stdout
    assert "Traceback" not in told.stdout + told.stderr


def test_a_commit_json_names_its_shards_and_no_other_file_is_read(copy: Workspace) -> None:
    folder = next(copy.events.glob("*-generate-r1"))
    before = len(copy.read(Triplet))
    shutil.copy(next(folder.glob("triplets-*.parquet")), folder / "triplets-999.parquet")
    assert len(copy.read(Triplet)) == before
    assert any("is not of this commit" in what for what in problems(copy))
    assert json.loads((folder / "commit.json").read_text())["shards"]


def test_a_withdrawal_whose_list_of_files_was_cut_stops_with_one_line(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("engine.lineage.redaction.finish", lambda workspace: False)
        with maintaining(copy.root) as workspace:
            withdraw(workspace, workspace.read(Image)[0].id)
    listed = next(copy.root.glob("redacting/*/remove.json"))
    whole = listed.read_bytes()
    listed.write_bytes(b"")
    assert "remove.json" in one_line(command("lineage", "rebuild", "-w", copy.root))
    listed.write_bytes(whole)
    assert command("lineage", "rebuild", "-w", copy.root).returncode == 0
    assert problems(copy) == set()


def test_rows_in_another_order_are_the_same_rows_though_no_index_leads_to_them(
    copy: Workspace, tmp_path: Path
) -> None:
    written_over(
        copy,
        "CREATE TEMP TABLE held AS FROM triplets; DELETE FROM triplets; "
        "INSERT INTO triplets FROM held ORDER BY id DESC",
    )
    assert export(copy, tmp_path / "dataset", "demo")["train"] > 0
    assert problems(copy) == {"the ledger contradicts itself"}
