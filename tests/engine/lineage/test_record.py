"""The record can be trusted: nobody writes it by asking, and what was written over is noticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engine.errors import TriptychError
from engine.hub.card import card
from engine.hub.export import export
from engine.hub.model_card import model_card
from engine.lineage import chain, links, questions
from engine.lineage.files import file_hash, hashes_of
from engine.lineage.opening import maintaining, writing
from engine.lineage.prov import prov
from engine.lineage.verify import verify
from engine.records import Image, Model, Picture, Triplet
from engine.vlm.weights import folder_id
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw
from pipelines.report.page import write_report
from tests.commands import Done, command
from tests.lineage_workspace import CONFIG, commit, make_image, make_model
from tests.pictures import pictures_of


def problems(workspace: Workspace) -> set[str]:
    return {p["what"] for p in verify(workspace).problems}


def one_line(done: Done) -> str:
    """The one line with which a command refuses."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.strip().count("\n") == 0, done.stderr
    return done.stderr


# lineage sql

WRITES = "UPDATE ledger.triplets SET answer = 'tampered'"
ATTEMPTS = [
    "USE memory; DETACH ledger; ATTACH '{ledger}' AS ledger (READ_WRITE); " + WRITES,
    "USE temp; DETACH ledger; ATTACH '{ledger}' AS ledger (READ_WRITE); " + WRITES,
    "USE system; DETACH ledger; ATTACH '{ledger}' AS ledger; " + WRITES,
    "USE memory",
    "USE temp",
    "USE system",
    "DETACH ledger",
    "ATTACH '{ledger}' AS again (READ_WRITE)",
    "ATTACH ':memory:' AS aside",
    "UPDATE triplets SET answer = 'tampered'",
    "DELETE FROM triplets",
    "INSERT INTO triplets SELECT * FROM triplets",
    "WITH more AS (INSERT INTO triplets SELECT * FROM triplets RETURNING 1) SELECT * FROM more",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "COPY triplets TO '{out}/rows.csv'",
    "COPY (SELECT 1) TO '{out}/rows.parquet'",
    "COPY triplets FROM '{out}/rows.csv'",
    "EXPORT DATABASE '{out}/all'",
    "INSTALL httpfs",
    "LOAD json",
    "PRAGMA enable_profiling",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "CALL enable_logging()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE mine AS SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE triplets",
    "SELECT * FROM read_text('{workspace}')",
    "SELECT * FROM read_parquet('{shard}')",
    "FROM '{shard}'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{out}/log')",
    "SELECT * FROM enable_profiling(save_location = '{out}/profile.json')",
    "SELECT * FROM query('DELETE FROM triplets')",
    "SELECT * FROM WRITES",  # a variable of this module, which DuckDB's Python would look for
    "",
    "-- nothing",
]


@pytest.fixture(scope="module")
def asked(original: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `original` that is asked for what must not be done to it."""
    root = tmp_path_factory.mktemp("asked") / "w"
    shutil.copytree(original.root, root)
    return root


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_sql_that_does_more_than_read_the_ledger_is_refused_in_one_line(
    asked: Path, tmp_path: Path, attempt: str
) -> None:
    before = hashes_of(asked)
    names = {
        "ledger": asked / "ledger.duckdb",
        "workspace": asked / "workspace.json",
        "shard": next(asked.glob("events/*/triplets-*.parquet")),
        "out": tmp_path,
    }
    with pytest.raises(TriptychError, match="cannot answer") as refused:
        questions.ask(Workspace.existing(asked).ledger(), attempt.format(**names))
    assert "\n" not in str(refused.value)
    assert hashes_of(asked) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "query", ["FROM images LIMIT 1", "SHOW TABLES", "DESCRIBE images", "SELECT 1;", "VALUES (1)"]
)
def test_what_reads_is_answered(original: Workspace, query: str) -> None:
    assert questions.ask(original.ledger(), query)


# A ledger that was written over


def written_over(workspace: Workspace, statement: str) -> None:
    with duckdb.connect(str(workspace.root / "ledger.duckdb")) as db:
        db.execute(statement)


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


@pytest.fixture(scope="module")
def withdrawn(original: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `original` with a withdrawal in it, so that no table is empty; to be read only."""
    root = tmp_path_factory.mktemp("withdrawn") / "w"
    shutil.copytree(original.root, root)
    with maintaining(root) as workspace:
        withdraw(workspace, workspace.read(Image)[0].id)
    return root


@pytest.fixture
def place(withdrawn: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(withdrawn, tmp_path / "w")
    return Workspace.existing(tmp_path / "w")


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


# Bytes that are not those of the commit


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file without changing its size or its Parquet footer."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at) if len(data) < 4000 else 1000] ^= 1
    path.write_bytes(data)


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


# What file browsers, servers and systems leave

LITTER = [".DS_Store", "Thumbs.db", "desktop.ini", "._triplets-000.parquet", ".nfs0000012"]
FOLDERS = ["@eaDir", ".Trashes", "__MACOSX", "lost+found", "#recycle", "00003-compare-r0 copy"]


def litter(folder: Path) -> None:
    """Drop all of it into a folder."""
    for name in LITTER:
        (folder / name).write_bytes(b"Bud1")
    for name in FOLDERS:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "SYNOINDEX_MEDIA_INFO").write_bytes(b"x")


def test_litter_breaks_neither_the_chain_nor_the_numbers_nor_a_withdrawal(
    copy: Workspace,
) -> None:
    kept = copy.head
    for name in ("", "events", "work", "models", "redacting", "signatures", "dataset"):
        (copy.root / name).mkdir(exist_ok=True)
        litter(copy.root / name)
        shutil.rmtree(copy.root / name / "00003-compare-r0 copy") if name != "events" else None
    for folder in links.event_folders(copy.events):
        litter(folder)
        shutil.rmtree(folder / "00003-compare-r0 copy")
    assert chain.check(copy, kept) == []
    assert problems(copy) == set()
    number = len(copy.commits())
    with maintaining(copy.root) as workspace:
        work = workspace.begin("ingest", 3, "fingerprint")
        image = make_image(98, "group98")
        work.write(Image, [image])
        work.write(Picture, pictures_of([image]))
        litter(work.folder)
        made = workspace.commit(work)
        assert made["sequence"] == number
        assert list(made["shards"]) == ["images-000.parquet", "pictures-000.parquet"]
        withdraw(workspace, workspace.read(Image)[0].id)
        workspace.ledger().rebuild(workspace.events)
    assert problems(copy) == set()
    assert command("export", "-w", copy.root).returncode == 0
    assert problems(copy) == set()


# Models

FILES = {
    "model.safetensors": b"weights",
    "heads.safetensors": b"heads",
    "judge.json": b'{"calibration": [1.0, 0.0]}',
    "config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "processor_config.json": b'{"size": 64}',
    "tokenizer.json": b"[]",
}


def saved(folder: Path, **changes: bytes | None) -> Path:
    """A model's folder as a training leaves it."""
    folder.mkdir(parents=True)
    for name, data in (FILES | changes).items():
        if data is not None:
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Workspace, Model]:
    """A workspace with one model that a stage made."""
    with writing(tmp_path / "w", "made", CONFIG) as workspace:
        model_id, path = workspace.add_model(saved(tmp_path / "weights"))
        base = make_model("base", "base", None, 0, None)
        values = make_model("judge", "judge", base.id, 0, 5).to_dict()
        place = str(path.relative_to(workspace.root))
        judge = Model(**values | {"id": model_id, "path": place})
        commit(workspace, "reward", 0, [base, judge])
    return Workspace.existing(tmp_path / "w"), judge


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["changed", "removed", "renamed"])
def test_any_file_of_a_model_that_was_changed_is_noticed(
    judged: tuple[Workspace, Model], name: str, change: str
) -> None:
    workspace, judge = judged
    assert problems(workspace) == set()
    path = workspace.root / judge.path / name
    if change == "changed":
        path.write_bytes(path.read_bytes() + b" ")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(path.with_name("another.json"))
    (problem,) = verify(workspace).problems
    assert problem["what"] == "weights or what belongs to them were changed"
    assert problem["where"] == judge.path


def test_deleted_and_added_files_of_a_model_are_noticed_and_litter_is_not(
    judged: tuple[Workspace, Model],
) -> None:
    workspace, judge = judged
    folder = workspace.root / judge.path
    (folder / ".DS_Store").write_bytes(b"x")
    assert problems(workspace) == set()
    (folder / "added_tokens.json").write_bytes(b"{}")
    assert problems(workspace) == {"weights or what belongs to them were changed"}
    shutil.rmtree(folder)
    assert problems(workspace) == {"weights are missing"}


def test_a_run_refuses_weights_that_are_not_those_of_the_record(
    judged: tuple[Workspace, Model],
) -> None:
    from engine.config import Config
    from pipelines.context import Context

    workspace, judge = judged
    context = Context(workspace, Config())
    assert context.path_of(judge) == str((workspace.root / judge.path).resolve())
    (workspace.root / judge.path / "judge.json").write_bytes(b"{}")
    with pytest.raises(TriptychError, match="were changed"):
        context.path_of(judge)
    shutil.rmtree(workspace.root / judge.path)
    with pytest.raises(TriptychError, match="are gone"):
        context.path_of(judge)


def test_names_and_bytes_make_a_models_id_in_the_order_of_the_paths(tmp_path: Path) -> None:
    one = saved(tmp_path / "one")
    two = saved(tmp_path / "two")
    assert folder_id(one) == folder_id(two)
    (two / "config.json").rename(two / "config2.json")
    assert folder_id(one) != folder_id(two)
    (two / "config2.json").rename(two / "config.json")
    (two / "more").mkdir()
    (two / "more" / "a.json").write_bytes(b"")
    assert folder_id(one) != folder_id(two)
    listed = "".join(f"{file_hash(one / name)}  {name}\n" for name in sorted(FILES))
    import hashlib

    assert folder_id(one) == hashlib.sha256(listed.encode()).hexdigest()[:32]


def test_a_torn_folder_of_the_same_name_gives_way(tmp_path: Path) -> None:
    with writing(tmp_path / "w", "made", CONFIG) as workspace:
        torn = saved(workspace.models / folder_id(saved(tmp_path / "weights")))
        (torn / "model.safetensors").write_bytes(b"")
        (torn / "judge.json").unlink()
        model_id, path = workspace.add_model(tmp_path / "weights")
        assert path == torn
        assert folder_id(path) == model_id
        assert (path / "model.safetensors").read_bytes() == b"weights"
        again = workspace.add_model(saved(tmp_path / "again"))
        assert again == (model_id, path)
        assert not (tmp_path / "again").exists()


def test_weights_are_on_disk_before_anything_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[str, str]] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        log.append(("flushed", os.readlink(f"/proc/self/fd/{handle}")))
        real_fsync(handle)

    def rename(source: Path, target: Path) -> Path:
        log.append(("renamed", str(target)))
        return real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    with writing(tmp_path / "w", "made", CONFIG) as workspace:
        source = saved(tmp_path / "weights")
        log.clear()
        _, path = workspace.add_model(source)
    moved = log.index(("renamed", str(path)))
    before = {name for what, name in log[:moved] if what == "flushed"}
    assert before >= {str(source), *(str(source / name) for name in FILES)}
    assert ("flushed", str(workspace.models)) in log[moved:]


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
