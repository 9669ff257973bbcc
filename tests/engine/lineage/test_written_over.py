"""A ledger that was written over is noticed, and nothing leaves by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import TriptychError
from engine.hub.card import card
from engine.hub.export import export
from engine.hub.model_card import model_card
from engine.lineage import agreement
from engine.lineage.agreement import agreed
from engine.lineage.opening import maintaining, writing
from engine.lineage.prov import prov
from engine.records import Image, Model, Triplet
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw
from pipelines.report.page import write_report
from tests.commands import command
from tests.engine.lineage.record import flip, problems, written_over
from tests.lineage_workspace import commit, make_image, make_triplet

OVER = [
    "UPDATE triplets SET answer = 'tampered'",
    "UPDATE triplets SET logprob = logprob + 1e-9 WHERE rowid = 3",
    "UPDATE triplets SET sequence = 0 WHERE sequence = (SELECT max(sequence) FROM triplets)",
    "UPDATE triplets SET sequence = 999 WHERE rowid = 0",
    "UPDATE decisions SET keep = NOT keep WHERE rowid = 0",
    "UPDATE images SET split = 'test' WHERE split = 'val'",
    "UPDATE models SET metrics = '{\"auc\": 0.99}' WHERE role = 'judge'",
    "DELETE FROM withdrawals",
    "DELETE FROM consumption WHERE rowid = 0",
    "INSERT INTO evaluations SELECT * FROM evaluations LIMIT 1",
    "UPDATE commits SET metrics = '{}' WHERE stage = 'select'",
    "DELETE FROM commits WHERE stage = 'select'",
    "UPDATE tombstones SET row_id = 'x'",
    "CREATE MACRO arg_max(a, b) AS true",
    "CREATE MACRO hash(x) AS 7",
    "CREATE MACRO duckdb_functions() AS TABLE SELECT 1",
    "ALTER TABLE triplets RENAME TO aside; CREATE VIEW triplets AS FROM aside",
    "ALTER TABLE images RENAME width TO aside; ALTER TABLE images RENAME height TO width; "
    "ALTER TABLE images RENAME aside TO height",
    "ALTER TABLE triplets ADD COLUMN more VARCHAR",
    "CREATE SCHEMA aside",
]


@pytest.mark.parametrize("statement", OVER)
def test_a_ledger_that_was_written_over_is_noticed(
    place: Workspace, tmp_path: Path, statement: str
) -> None:
    written_over(place, statement)
    with pytest.raises(TriptychError, match=r"^the ledger .*lineage rebuild"):
        export(place, tmp_path / "dataset", "demo")
    assert not (tmp_path / "dataset").exists()


def test_verify_sees_a_ledger_that_was_written_over_and_rebuild_makes_it_again(
    place: Workspace, tmp_path: Path
) -> None:
    assert problems(place) == set()
    written_over(place, OVER[0])
    assert problems(place) == {"the ledger differs from the record"}
    assert "differs from the record" in command("lineage", "verify", "-w", place.root).stdout
    assert command("lineage", "rebuild", "-w", place.root).returncode == 0
    assert export(place, tmp_path / "dataset", "demo")["train"] > 0


LEAVING: dict[str, Callable[[Workspace, Path], Any]] = {
    "export": lambda workspace, out: export(workspace, out, "demo"),
    "card": lambda workspace, out: card(workspace, "demo"),
    "model card": lambda workspace, out: model_card(workspace, workspace.read(Model)[1].id),
    "prov": lambda workspace, out: prov(workspace),
    "prov of a row": lambda workspace, out: prov(workspace, workspace.read(Triplet)[0].id),
    "report": lambda workspace, out: write_report(workspace, out),
}


@pytest.mark.parametrize("way", LEAVING)
def test_nothing_leaves_by_a_ledger_that_was_written_over_nor_from_a_changed_record(
    copy: Workspace, tmp_path: Path, way: str
) -> None:
    LEAVING[way](copy, tmp_path / "before")
    written_over(copy, "UPDATE triplets SET answer = 'tampered'")
    with pytest.raises(TriptychError, match="differs from the record") as refused:
        LEAVING[way](copy, tmp_path / "out")
    assert "\n" not in str(refused.value)
    copy.ledger().rebuild(copy.events)
    flip(next(copy.events.glob("*-select-r1/decisions-*.parquet")))
    with pytest.raises(TriptychError, match="not what was committed"):
        LEAVING[way](copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_withdrawn_by_a_ledger_that_was_written_over(copy: Workspace) -> None:
    image = copy.read(Image)[0].id
    for statement in (
        "DELETE FROM triplets WHERE rowid = 0",
        "UPDATE index_triplets_id SET row = 0",
        "DELETE FROM uses",
        "INSERT INTO derivations SELECT id, image_id, sequence FROM triplets LIMIT 1",
        "UPDATE makers SET maker = 'nobody'",
    ):
        written_over(copy, statement)
        with maintaining(copy.root) as workspace:
            with pytest.raises(TriptychError, match="lineage rebuild"):
                withdraw(workspace, image)
            workspace.ledger().rebuild(workspace.events)
    assert image in {row.id for row in copy.read(Image)}


def test_a_stage_that_a_busy_ledger_missed_is_in_the_export(copy: Workspace) -> None:
    old = (copy.root / "ledger.duckdb").read_bytes()
    with maintaining(copy.root) as workspace:
        commit(workspace, "ingest", 7, [make_image(77, "group77")])
        (copy.root / "ledger.duckdb").write_bytes(old)
        write_report(workspace, copy.root / "report")
        assert workspace.ledger().sql("SELECT * FROM commits WHERE round = 7")


def test_a_stage_is_compared_a_few_shards_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    equal = agreement._is_equal

    def watched(db: Any, kind: Any, part: dict[Path, int], first: int) -> bool:
        compared.extend([sum(part.values())] if kind is Triplet else [])
        return equal(db, kind, part, first)

    monkeypatch.setattr(agreement, "PART", 10)
    monkeypatch.setattr(agreement, "_is_equal", watched)
    with writing(tmp_path / "w", "large", {}) as workspace:
        stage = workspace.begin("generate", 1, "generate")
        for shard in range(8):
            images = [make_image(4 * shard + n, "g") for n in range(4)]
            rows = [make_triplet(image, "model", 0, 1) for image in images]
            stage.write(Triplet, rows, f"{shard:03d}")
        workspace.commit(stage)
    with agreed(workspace):
        assert compared == [8, 8, 8, 8]
    for row in (0, 17, 31):
        written_over(workspace, f"UPDATE triplets SET answer = 'tampered' WHERE rowid = {row}")
        with pytest.raises(TriptychError, match="triplets: 1 rows are others"), agreed(workspace):
            pass
        workspace.ledger().rebuild(workspace.events)
    otherwise = "CREATE TEMP TABLE t AS FROM triplets ORDER BY id; DELETE FROM triplets"
    written_over(workspace, f"{otherwise}; INSERT INTO triplets FROM t")
    with agreed(workspace):  # the same rows in another order
        pass
