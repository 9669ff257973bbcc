"""Whole shards, commits that are all or none, resume, one writer, a ledger made again."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import TriptychError
from engine.lineage import chain
from engine.lineage.ledger import columns_of
from engine.lineage.opening import writing
from engine.records import (
    ROW_TYPES,
    Decision,
    Image,
    Model,
    Refusal,
    Task,
    Triplet,
    bytes_id,
    content_id,
    from_arrow,
    schema_of,
    to_arrow,
    unique,
)
from engine.shards import write_shard
from engine.workspace import Workspace

CONFIG = {"seed": 0, "rounds": 2}
TASK = Task.make("MR", "disease", "easy", "closed", "direct")


def refusal(number: int) -> Refusal:
    return Refusal(id=content_id(number), path=f"{number}.dcm", frame=0, reason="not an image")


def committed(workspace: Workspace, name: str, round: int, rows: list[Any]) -> dict[str, Any]:
    stage = workspace.begin(name, round, content_id(name, round))
    for row_type in {type(row) for row in rows}:
        stage.write(row_type, [row for row in rows if type(row) is row_type])
    stage.metrics = {"rows": len(rows)}
    return workspace.commit(stage)


def tables(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    ledger = workspace.ledger()
    names = ["commits", *(t.table for t in ROW_TYPES)]
    return {name: ledger.sql(f"SELECT * FROM {name} ORDER BY ALL") for name in names}


# Rows and ids

ids = st.text("0123456789abcdef", min_size=32, max_size=32)
whole = st.integers(-(2**63), 2**63 - 1)
triplets = st.builds(
    Triplet,
    id=ids,
    image_id=ids,
    generator_id=st.text(),
    task_id=ids,
    prompt_hash=ids,
    seed=whole,
    sample=whole,
    round=whole,
    question=st.text(),
    options=st.lists(st.text()).map(tuple),
    answer=st.text(),
    rationale=st.text(),
    raw=st.text(),
    logprob=st.floats(allow_nan=False),
    problem=st.none() | st.text(),
)


@settings(max_examples=50)
@given(st.lists(triplets, max_size=5))
def test_rows_come_back_from_parquet_as_they_were(rows: list[Triplet]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_shard(Path(folder), "triplets-000", to_arrow(Triplet, rows))
        table = pq.read_table(path)
        assert table.schema.equals(schema_of(Triplet))
        assert from_arrow(Triplet, table) == rows


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda t: t.table)
def test_the_ledger_has_every_column_but_bytes(row_type: Any) -> None:
    binary = {"png"} if row_type is Image else set()
    assert set(columns_of(row_type)) == set(schema_of(row_type).names) - binary


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_keys_does_not_change_an_id(values: dict[str, Any]) -> None:
    assert content_id(dict(reversed(values.items()))) == content_id(values)


@given(st.lists(st.text() | st.integers() | st.booleans()), st.lists(st.text() | st.integers()))
def test_ids_are_equal_for_equal_parts_and_differ_otherwise(one: list[Any], two: list[Any]) -> None:
    same = [(type(v), v) for v in one] == [(type(v), v) for v in two]
    assert (content_id(*one) == content_id(*two)) == same


@given(st.text(), st.text(), st.text(min_size=1))
def test_text_moved_from_one_part_to_the_next_is_another_id(a: str, b: str, moved: str) -> None:
    assert content_id(a + moved, b) != content_id(a, moved + b) or a + moved == a


@given(st.binary(), st.binary())
def test_byte_ids_follow_the_bytes(one: bytes, two: bytes) -> None:
    assert (bytes_id(one) == bytes_id(two)) == (one == two)
    assert len(bytes_id(one)) == 32


def test_a_task_is_its_fields() -> None:
    assert Task.make("MR", "disease", "easy", "closed", "direct") == TASK
    assert Task.make("CT", "disease", "easy", "closed", "direct").id != TASK.id


@given(st.lists(st.tuples(st.integers(0, 5), st.integers())))
def test_unique_keeps_the_first_of_each_in_order(pairs: list[tuple[int, int]]) -> None:
    rows = [replace(refusal(number), frame=frame) for number, frame in pairs]
    firsts: dict[str, Refusal] = {}
    for row in rows:
        firsts.setdefault(row.id, row)
    assert unique(rows) == list(firsts.values())


# Shards and commits


def test_a_shard_that_fails_to_be_written_leaves_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: Any) -> None:
        raise OSError("power cut")

    monkeypatch.setattr("os.fsync", power_cut)
    with pytest.raises(OSError, match="power cut"):
        write_shard(tmp_path, "refusals-000", to_arrow(Refusal, [refusal(1)]))
    assert list(tmp_path.glob("*.parquet")) == []


def test_a_shard_that_fails_leaves_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_shard(tmp_path, "refusals-000", to_arrow(Refusal, [refusal(1)]))
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError()))
        with pytest.raises(OSError):
            write_shard(tmp_path, "refusals-000", to_arrow(Refusal, [refusal(2)]))
    assert from_arrow(Refusal, pq.read_table(path)) == [refusal(1)]


def test_an_uncommitted_stage_is_not_in_the_record(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        stage = workspace.begin("ingest", 0, "f1")
        stage.write(Refusal, [refusal(1)])
        assert workspace.read(Refusal) == []
        assert workspace.commits() == []
        assert workspace.committed("f1") is None
        assert tables(workspace)["refusals"] == []


def test_a_stage_is_taken_up_with_the_shards_it_had(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        workspace.begin("ingest", 0, "f1").write(Refusal, [refusal(1)], "000")
    with writing(tmp_path, "t", CONFIG) as workspace:
        stage = workspace.begin("ingest", 0, "f1")
        assert stage.done() == {"refusals-000"}
        stage.write(Refusal, [refusal(2)], "001")
        workspace.commit(stage)
        assert workspace.read(Refusal) == [refusal(1), refusal(2)]


def test_half_a_shard_is_not_done(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        stage = workspace.begin("ingest", 0, "f1")
        (stage.folder / ".refusals-000.parquet.partial").write_bytes(b"PAR1 half")
        assert stage.done() == set()
        stage.write(Refusal, [refusal(2)], "001")
        workspace.commit(stage)
        assert workspace.read(Refusal) == [refusal(2)]


def test_a_commit_that_cannot_be_renamed_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        stage = workspace.begin("ingest", 0, "f1")
        stage.write(Refusal, [refusal(1)])
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.rename", lambda *_: (_ for _ in ()).throw(OSError()))
            with pytest.raises(OSError):
                workspace.commit(stage)
        assert workspace.commits() == []
        assert tables(workspace)["refusals"] == []
        workspace.commit(workspace.begin("ingest", 0, "f1"))
        assert workspace.read(Refusal) == [refusal(1)]
        assert len(tables(workspace)["refusals"]) == 1


def test_a_finished_stage_is_found_by_its_fingerprint(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        commit = committed(workspace, "ingest", 0, [refusal(1), refusal(2), TASK])
        found = workspace.committed(commit["fingerprint"])
        assert found is not None
        assert found["rows"] == {"refusals": 2, "tasks": 1}
        assert found["metrics"] == {"rows": 3}
        assert workspace.committed("another") is None


def test_rows_are_read_by_stage_and_round_in_the_order_written(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        for number in (3, 1, 2):
            committed(workspace, "generate", number, [refusal(number)])
        committed(workspace, "seed", 0, [refusal(9)])
        assert workspace.read(Refusal) == [refusal(n) for n in (3, 1, 2, 9)]
        assert workspace.read(Refusal, "generate", 1) == [refusal(1)]
        assert workspace.read(Refusal, round=0) == [refusal(9)]
        assert [c["sequence"] for c in workspace.commits()] == [0, 1, 2, 3]


def test_scratch_folders_are_not_committed(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        stage = workspace.begin("sft", 1, "f1")
        (stage.folder / "data").mkdir()
        workspace.commit(stage)
        folder = workspace.events / workspace.commits()[0]["folder"]
        assert [p.name for p in folder.iterdir()] == ["commit.json"]


# The ledger


def filled(root: Path) -> Workspace:
    with writing(root, "t", CONFIG) as workspace:
        committed(workspace, "ingest", 0, [refusal(1), refusal(2)])
        committed(workspace, "plan", 1, [TASK])
        decision = Decision(
            id="d", triplet_id="t", rules_id="r", round=1, keep=False, reason="below the threshold",
            score=0.25, threshold=0.5,
        )  # fmt: skip
        committed(workspace, "select", 1, [decision])
    return workspace


def test_a_ledger_that_missed_a_commit_catches_up_when_opened(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    before = tables(workspace)
    (tmp_path / "ledger.duckdb").unlink()
    with writing(tmp_path, "t", CONFIG) as again:
        assert tables(again) == before


def test_a_ledger_that_missed_only_the_last_commit_gains_it_once(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    old = tmp_path / "old.duckdb"
    shutil.copy(tmp_path / "ledger.duckdb", old)
    with writing(tmp_path, "t", CONFIG) as again:
        committed(again, "judge", 2, [refusal(7)])
    after = tables(workspace)
    old.replace(tmp_path / "ledger.duckdb")
    with writing(tmp_path, "t", CONFIG) as again:
        assert tables(again) == after
        assert again.ledger().sync(again.events) == 0


def test_rebuild_makes_equal_tables(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    before = tables(workspace)
    assert workspace.ledger().rebuild(workspace.events) == 3
    assert tables(workspace) == before


def test_rebuild_needs_no_sound_ledger(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    before = tables(workspace)
    (tmp_path / "ledger.duckdb").write_bytes(b"not a database")
    workspace.ledger().rebuild(workspace.events)
    assert tables(workspace) == before


def test_rebuild_survives_the_log_that_a_killed_writer_left(tmp_path: Path) -> None:
    workspace = filled(tmp_path)
    before = tables(workspace)
    (tmp_path / "ledger.duckdb.wal").write_bytes(b"half a log")
    workspace.ledger().rebuild(workspace.events)
    assert tables(workspace) == before


def test_readers_and_the_writer_take_turns(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG) as workspace:
        reader = Workspace.existing(tmp_path)
        for number in range(3):
            committed(workspace, "generate", number, [refusal(number)])
            assert reader.ledger().sql("SELECT count(*) AS n FROM refusals")[0]["n"] == number + 1


# Who may open it


def test_a_second_writer_is_refused_in_one_line(tmp_path: Path) -> None:
    with writing(tmp_path, "t", CONFIG):
        second = writing(tmp_path, "t", CONFIG)
        with pytest.raises(TriptychError, match="in use by another run") as refused:
            second.__enter__()
        assert "\n" not in str(refused.value)
    with writing(tmp_path, "t", CONFIG) as free:
        assert free.commits() == []


def test_a_writer_that_failed_leaves_the_workspace_free(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path, "t", CONFIG):
        raise ZeroDivisionError
    with writing(tmp_path, "t", CONFIG):
        pass


def test_a_workspace_of_another_configuration_is_refused_by_the_key_that_differs(
    tmp_path: Path,
) -> None:
    with writing(tmp_path, "t", CONFIG):
        pass
    other = writing(tmp_path, "t", CONFIG | {"seed": 1})
    with pytest.raises(TriptychError, match=r"configuration \(different: seed\)") as refused:
        other.__enter__()
    assert "\n" not in str(refused.value)
    assert Workspace.existing(tmp_path).config == CONFIG


def test_a_run_goes_on_elsewhere_and_for_more_rounds(tmp_path: Path) -> None:
    here, there = ({"backend": {"kind": "endpoint", "url": f"http://{h}/v1"}} for h in "ab")
    begun = CONFIG | {"sft": {"lr": 1e-4, "gpus": 0.0, "save_steps": 0}, "generator": here}
    further = CONFIG | {"rounds": 3, "sft": {"lr": 1e-4, "gpus": 1.0, "save_steps": 50}}
    further |= {"generator": there}
    for number, config in enumerate((begun, further)):
        with writing(tmp_path, "t", config) as workspace:
            workspace.remember(config)
            committed(workspace, "generate", number + 1, [TASK])
            assert workspace.latest == config
            assert workspace.config == begun
            assert chain.check(workspace) == []
    other = writing(tmp_path, "t", CONFIG | {"sft": {"lr": 1e-3, "gpus": 1.0}})
    with pytest.raises(TriptychError, match=r"\(different: sft.lr\)"):
        other.__enter__()
    other = writing(tmp_path, "t", begun | {"generator": {"backend": {"kind": "vllm"}}})
    with pytest.raises(TriptychError, match=r"\(different: generator.backend\)"):
        other.__enter__()


def test_a_folder_without_a_workspace_is_refused_with_the_command_that_makes_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(TriptychError, match="triptych run CONFIG --workspace"):
        Workspace.existing(tmp_path)


def test_weights_are_kept_once_under_their_hash(tmp_path: Path) -> None:
    with writing(tmp_path / "w", "t", CONFIG) as workspace:
        places = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "model.safetensors").write_bytes(b"the same weights")
            places.append(workspace.add_model(tmp_path / name))
            assert not (tmp_path / name).exists()
        assert places[0] == places[1]
        assert [p.name for p in workspace.models.iterdir()] == [places[0][0]]


@given(st.none() | ids, st.text(max_size=20))
def test_a_model_without_a_parent_keeps_none(parent: str | None, metrics: str) -> None:
    model = Model(
        id="m", role="base", stage="base", round=0, parent_id=parent, path="p", metrics=metrics
    )
    assert from_arrow(Model, to_arrow(Model, [model])) == [model]
