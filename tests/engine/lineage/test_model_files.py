"""A model's files are those of the record."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from engine.errors import TriptychError
from engine.lineage.files import file_hash
from engine.lineage.opening import writing
from engine.lineage.verify import verify
from engine.records import Model
from engine.vlm.weights import folder_id
from engine.workspace import Workspace
from tests.engine.lineage.record import problems
from tests.lineage_workspace import CONFIG, commit, make_model

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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Model]:
    """A workspace with one model that a stage made."""
    folder = tmp_path_factory.mktemp("judged")
    with writing(folder / "w", "made", CONFIG) as workspace:
        model_id, path = workspace.add_model(saved(folder / "weights"))
        base = make_model("base", "base", None, 0, None)
        values = make_model("judge", "judge", base.id, 0, 5).to_dict()
        place = str(path.relative_to(workspace.root))
        judge = Model(**values | {"id": model_id, "path": place})
        commit(workspace, "reward", 0, [base, judge])
    return Workspace.existing(folder / "w"), judge


@pytest.fixture
def judged(made: tuple[Workspace, Model], tmp_path: Path) -> tuple[Workspace, Model]:
    """A copy of `made` to write to."""
    workspace, judge = made
    shutil.copytree(workspace.root, tmp_path / "w")
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
