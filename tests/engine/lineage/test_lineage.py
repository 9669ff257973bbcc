"""Questions to the record: trace, why-not, diff, sql, verify; rebuild, versions, schema page."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lineage import measure
from engine.errors import TriptychError
from engine.hub.selection import SELECTED, selecting
from engine.lineage import chain, questions, schema
from engine.lineage.ledger import INDEXED
from engine.lineage.opening import maintaining, writing
from engine.lineage.trace import trace
from engine.lineage.verify import verify
from engine.records import (
    ROW_TYPES,
    Consumption,
    Decision,
    Image,
    Picture,
    Refusal,
    Review,
    Triplet,
)
from engine.trainer import first_use
from engine.workspace import SCHEMA_VERSION, Workspace
from pipelines.report.page import contents
from tests.lineage_workspace import (
    CONFIG,
    TASK,
    as_version_1,
    cli,
    commit,
    made,
    make_image,
    make_triplet,
)
from tests.pictures import picture

ROOT = Path(__file__).parents[3]


def everything(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    ledger = workspace.ledger()
    names = ["commits", "makers", "uses", *(t.table for t in ROW_TYPES)]
    with ledger.reading():
        return {n: ledger.sql(f"SELECT * FROM {n} ORDER BY ALL") for n in names}


# trace


def test_a_row_is_traced_from_its_image_to_the_exports_and_the_checkpoints_that_saw_it(
    original: Workspace,
) -> None:
    row = next(d.triplet_id for d in original.read(Decision, round=1) if d.keep)
    told = trace(original.ledger(), row)
    assert told["image"]["source"].startswith("MR/")
    assert told["image"]["deidentification"] == "strict"
    assert told["generator"]["role"] == "generator"
    assert told["prompt"]["text"] == "Ask."
    assert told["seed"] == 1
    assert told["judgements"][0]["judge"]["role"] == "judge"
    assert told["decisions"][0]["reason"] == "kept"
    assert told["datasets"][0]["split"] == "train"
    assert told["runs"][0]["version"]
    assert {m["role"]: m["first_step"] for m in told["used_by"]} == {"sft": 1, "policy": 1}
    assert json.loads(cli("trace", row, "-w", original.root, "--json")) == told


def test_the_beginning_of_an_id_is_enough(original: Workspace) -> None:
    row = original.read(Triplet)[7].id
    assert trace(original.ledger(), row[:10]) == trace(original.ledger(), row)


def test_a_dataset_is_traced_to_its_files(original: Workspace) -> None:
    found = questions.ask(original.ledger(), "SELECT id, rows FROM datasets")[0]
    told = trace(original.ledger(), found["id"])
    assert "README.md" in told["files"]
    assert sum(split["rows"] for split in told["splits"]) == found["rows"]


# why-not


def test_why_not_names_the_reason_of_the_latest_decision(original: Workspace) -> None:
    rejected = next(d for d in original.read(Decision) if not d.keep)
    told = questions.why_not(original.ledger(), rejected.triplet_id)
    assert (told["in_data"], told["why"]) == (False, "below the threshold")
    assert "below the threshold" in cli("why-not", rejected.triplet_id, "-w", original.root)


def test_why_not_of_an_image_a_refused_file_and_an_undecided_row(original: Workspace) -> None:
    ledger = original.ledger()
    unasked = next(i for i in original.read(Image) if i.split == "test")
    assert "no question was asked" in questions.why_not(ledger, unasked.id)["why"]
    assert questions.why_not(ledger, "bad/a.dcm")["why"].startswith("refused: burned-in text")
    candidate = original.read(Triplet, "compare")[0]
    assert "no stage has decided" in questions.why_not(ledger, candidate.id)["why"]
    with pytest.raises(TriptychError, match="no triplet"):
        questions.why_not(ledger, "nobody")


def test_why_not_agrees_with_the_export(tmp_path: Path) -> None:
    asked, released = make_image(1, "g"), make_image(2, "g")

    def frame(path: str, number: int, status: str, picture: str) -> Refusal:
        identity = f"{path} {number} {picture}"
        return Refusal(id=identity, path=path, frame=number, reason=f"{status}: text",
                       status=status, image_id=picture)  # fmt: skip

    refusals = [
        frame(released.source, 0, "quarantined", released.id),
        frame("copy.dcm", 0, "duplicate", asked.id),
        frame(asked.source, 7, "refused", ""),
        frame("waits.dcm", 0, "quarantined", "waiting picture"),
        frame("gone.dcm", 0, "quarantined", "dropped picture"),
    ]
    reviews = [
        Review(id=verdict, image_id=picture, verdict=verdict, reason="text", reviewer="R",
               decided="2026-01-01T00:00:00Z")
        for verdict, picture in (("released", released.id), ("dropped", "dropped picture"))
    ]  # fmt: skip
    with writing(tmp_path / "w", "t", CONFIG) as workspace:
        commit(workspace, "ingest", 0, [asked, *refusals])
        commit(workspace, "review", 0, [*reviews, released])
        rows = [make_triplet(image, "expert", 0, 0) for image in (asked, released)]
        commit(workspace, "seed", 0, [*rows, TASK])
    with selecting(workspace) as ledger:
        assert {r["image_id"] for r in ledger.sql(SELECTED)} == {asked.id, released.id}
    for row in (asked.id, released.id, asked.source, released.source, "copy.dcm"):
        told = questions.why_not(ledger, row)
        assert told["in_data"], told
        assert "1 of 1 rows about it were kept" in told["why"]
    for row, why in (
        ("waits.dcm", "quarantined: text (frame 0)"),
        ("gone.dcm", "dropped: quarantined: text (frame 0)"),
        ("waiting", "quarantined: text (waits.dcm, frame 0)"),
        ("dropped picture", "dropped: quarantined: text (gone.dcm, frame 0)"),
    ):
        told = questions.why_not(ledger, row)
        assert (told["in_data"], told["why"]) == (False, why)
    told = contents(workspace)
    assert ("files not used", "3") in told["tiles"]
    assert [r["path"] for r in told["refusals"]] == [
        asked.source, "copy.dcm", "gone.dcm", "waits.dcm",
    ]  # fmt: skip
    assert told["refused"] == 4


# sql


def test_sql_reads_and_does_nothing_else(original: Workspace, tmp_path: Path) -> None:
    assert questions.ask(original.ledger(), "SELECT count(*) AS n FROM images") == [{"n": 16}]
    for query in (
        "DELETE FROM images",
        f"COPY images TO '{tmp_path}/out.csv'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT nothing FROM images",
    ):
        with pytest.raises(TriptychError, match="cannot answer") as refused:
            questions.ask(original.ledger(), query)
        assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


# diff


def test_diff_of_a_run_with_itself_is_empty(original: Workspace) -> None:
    told = questions.diff(original.ledger(), original.ledger())
    assert told == {"added": [], "dropped": [], "changed": [], "metrics": []}


def test_diff_tells_rows_decisions_and_metrics(original: Workspace, tmp_path: Path) -> None:
    longer = made(tmp_path / "longer", rounds=3)
    told = questions.diff(original.ledger(), longer.ledger())
    assert len(told["added"]) == 16
    assert told["dropped"] == []
    assert {m["stage"] for m in told["metrics"]} == {"select", "export"}
    other = made(tmp_path / "other", seed=1)
    told = questions.diff(original.ledger(), other.ledger())
    changed = told["changed"][0]
    assert {changed["why_before"], changed["why_after"]} == {"kept", "below the threshold"}
    assert "decisions changed" in cli("diff", original.root, other.root)


# verify


def test_a_sound_workspace_has_no_problem(original: Workspace) -> None:
    report = verify(original)
    assert report.problems == []
    assert report.rows == sum(sum(c["rows"].values()) for c in original.commits())
    assert "no problems" in cli("verify", "-w", original.root)


def problems(workspace: Workspace) -> set[str]:
    return {p["what"] for p in verify(workspace).problems}


def test_verify_finds_what_was_changed(copy: Workspace) -> None:
    shard = next(copy.events.glob("*-generate-r1/triplets-*.parquet"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-20])
    assert {f"{shard.name} was changed", f"{shard.name} is torn"} <= problems(copy)
    shard.unlink()
    assert f"{shard.name} is missing" in problems(copy)
    shard.write_bytes(whole)
    (shard.parent / "triplets-009.parquet").write_bytes(whole)
    assert "triplets-009.parquet is not of this commit" in problems(copy)
    (shard.parent / "triplets-009.parquet").unlink()
    (copy.root / "dataset" / "README.md").write_text("nicer")
    assert problems(copy) == {"the export was changed"}
    shutil.rmtree(shard.parent)
    found = problems(copy)
    assert any("an event was removed" in what for what in found)
    assert "the ledger has a stage that the record has not" in found
    cli("verify", "-w", copy.root, code=1)


def test_verify_finds_an_image_that_is_not_what_its_id_says(tmp_path: Path) -> None:
    image, other = make_image(1, "g"), make_image(2, "g")
    with writing(tmp_path, "t", CONFIG) as workspace:
        stage = workspace.begin("ingest", 0, "wrong")
        stage.write(Image, [image, other])
        stage.write(Picture, [replace(picture(other.id), id=image.id)])
        workspace.commit(stage)
    assert problems(workspace) == {"an image's id is not of its pixels", "an image has no picture"}


def test_verify_finds_a_reference_that_leads_nowhere(copy: Workspace) -> None:
    from tests.lineage_workspace import make_decision

    stray = make_decision(make_triplet(make_image(99, "g"), "expert", 0, 1), True, 9)
    with maintaining(copy.root) as workspace:
        commit(workspace, "select", 9, [stray])
    found = verify(copy).problems
    assert [p["where"] for p in found] == ["decisions.triplet_id"]
    assert stray.triplet_id in found[0]["detail"]


def test_verify_finds_a_ledger_that_is_behind_or_damaged(copy: Workspace) -> None:
    path = copy.root / "ledger.duckdb"
    path.write_bytes(path.read_bytes()[:20000])
    assert problems(copy) & {"the ledger cannot be read", "the ledger is damaged"}
    path.unlink()
    assert problems(copy) == {"the ledger cannot be read"}
    with maintaining(copy.root):
        pass
    assert problems(copy) == set()


# the ledger and its versions


def test_rebuild_gives_the_same_answers(copy: Workspace) -> None:
    before = everything(copy)
    cli("rebuild", "-w", copy.root)
    assert everything(copy) == before


def test_a_ledger_built_stage_by_stage_equals_one_built_at_once(copy: Workspace) -> None:
    """`original` was synced at each commit; the indexes find the same rows in both."""
    rows = [t.id for t in copy.read(Triplet)][::7]
    grown = [copy.ledger().find("judgements", "triplet_id", [row]) for row in rows]
    copy.ledger().rebuild(copy.events)
    assert [copy.ledger().find("judgements", "triplet_id", [row]) for row in rows] == grown


def test_an_index_leads_to_every_row_of_its_table(copy: Workspace) -> None:
    """Also where stages came one by one: rows have provisional numbers when they are indexed."""
    for table, column in INDEXED:
        missed = copy.ledger().sql(
            f"SELECT count(*) AS n FROM {table} t ANTI JOIN index_{table}_{column} i "
            f"ON i.row = t.rowid AND i.key = hash({column}) AND i.sequence = t.sequence"
        )
        assert missed == [{"n": 0}], table


def test_what_a_training_stood_on_is_the_same_by_a_sample_and_by_all_rows(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = everything(copy)["uses"]
    assert {u["row_table"] for u in uses} >= {"triplets", "decisions", "preferences"}
    for rows_of_the_sample in ("true", "i.row % 2 = 0", "false"):
        monkeypatch.setattr("engine.lineage.ledger._SAMPLE", rows_of_the_sample)
        copy.ledger().rebuild(copy.events)
        assert everything(copy)["uses"] == uses


def test_version_1_is_read_and_answered_after_its_migration(copy: Workspace) -> None:
    as_version_1(copy.root)
    with pytest.raises(TriptychError, match="lineage rebuild"):
        trace(copy.ledger(), "x")
    with writing(copy.root, "made", CONFIG):
        pass
    assert json.loads((copy.root / "workspace.json").read_text())["schema"] == SCHEMA_VERSION
    report = verify(copy)
    assert (report.problems, report.unchained) == ([], len(copy.commits()))
    assert all(use.first_step is None for use in copy.read(Consumption))
    assert all(row.derived_from == () for row in copy.read(Triplet))
    row = next(d.triplet_id for d in copy.read(Decision) if d.keep)
    told = trace(copy.ledger(), row)
    assert {m["role"] for m in told["used_by"]} == {"sft", "policy"}
    once = (copy.root / "workspace.json").read_bytes()
    with maintaining(copy.root):
        pass
    assert (copy.root / "workspace.json").read_bytes() == once


def test_a_chained_record_of_version_1_is_migrated_and_stays_chained(copy: Workspace) -> None:
    described = json.loads((copy.root / "workspace.json").read_text())
    (copy.root / "workspace.json").write_text(json.dumps(described | {"schema": 1}))
    before = copy.head
    with maintaining(copy.root):
        pass
    assert json.loads((copy.root / "workspace.json").read_text())["schema"] == SCHEMA_VERSION
    assert (chain.check(copy), copy.head) == ([], before)


def test_what_follows_a_migration_vouches_for_what_was_there(copy: Workspace) -> None:
    as_version_1(copy.root)
    with maintaining(copy.root) as workspace:
        older = len(workspace.commits())
        commit(workspace, "ingest", 9, [])
    assert (verify(copy).problems, verify(copy).unchained) == ([], older)
    path = sorted(copy.events.glob("*/commit.json"))[-2]
    path.write_text(path.read_text().replace('"round": ', '"round":  '))
    assert any("does not continue" in what for what in problems(copy))


def test_a_migration_that_was_cut_short_is_taken_up(
    copy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import workspace as module

    as_version_1(copy.root)
    real, calls = module.replace_file, iter(range(100))

    def power_cut(path: Path, data: bytes) -> None:
        if next(calls) == 3:
            raise OSError("power cut")
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_file", power_cut)
        with pytest.raises(OSError, match="power cut"), maintaining(copy.root):
            pass
    with maintaining(copy.root):
        pass
    assert verify(copy).problems == []
    assert all("shards" in c for c in copy.commits())


def test_a_workspace_of_a_newer_version_is_refused_in_one_line(copy: Workspace) -> None:
    described = json.loads((copy.root / "workspace.json").read_text())
    (copy.root / "workspace.json").write_text(json.dumps(described | {"schema": 99}))
    with pytest.raises(TriptychError, match="newer Triptych"), maintaining(copy.root):
        pass


def test_a_ledger_of_another_version_is_refused_to_readers_and_made_again_by_the_writer(
    copy: Workspace,
) -> None:
    import duckdb

    before = everything(copy)
    with duckdb.connect(str(copy.root / "ledger.duckdb")) as db:
        db.execute("UPDATE meta SET version = '1 of long ago'")
    with pytest.raises(TriptychError, match="another version"):
        copy.ledger().sql("SELECT 1")
    with maintaining(copy.root):
        pass
    assert everything(copy) == before


def test_the_schema_page_is_current() -> None:
    page = (ROOT / "docs" / "lineage-schema.md").read_text(encoding="utf-8")
    assert page == cli("schema")


def test_every_table_has_its_prov_word_and_references_name_columns_that_are_there() -> None:
    assert set(schema.PROV) == {t.table for t in ROW_TYPES}
    columns = {t.table: set(t.__annotations__) for t in ROW_TYPES}
    for reference in schema.REFERENCES:
        assert reference.column in columns[reference.table]
        assert set(reference.targets) <= set(columns)


@pytest.mark.parametrize(
    ("rows", "per_step", "steps", "bounds"),
    [(100, 32, 400, (1, 4)), (96, 32, 3, (1, 3)), (100, 32, 3, (1, None)), (5, 8, None, (1, None))],
)
def test_first_use_is_bounded_by_the_first_epoch(
    rows: int, per_step: int, steps: int | None, bounds: tuple[int, int | None]
) -> None:
    assert first_use(rows, per_step, steps) == bounds


def test_first_use_holds_for_any_shuffle() -> None:
    rng = random.Random(0)
    for _ in range(200):
        rows, per_step, steps = rng.randint(1, 40), rng.randint(1, 9), rng.randint(1, 12)
        order = [i for _ in range(12) for i in rng.sample(range(rows), rows)]
        first, by = first_use(rows, per_step, steps)
        seen = order[: per_step * steps]
        uses = [seen.index(i) // per_step + 1 for i in range(rows) if i in seen]
        assert min(uses) >= first
        if by is not None:
            assert len(uses) == rows
            assert max(uses) <= by


# The benchmark


@pytest.mark.loop
def test_the_benchmark_writes_what_the_row_types_say(tmp_path: Path) -> None:
    figures = measure(tmp_path / "w", 1000)
    assert figures["problems"] == []
    assert figures["withdraw_images"] == 500
