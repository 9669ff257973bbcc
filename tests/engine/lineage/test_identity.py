"""What a model is known by: its files, the commit of its Hub repository, or a mere name."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from engine.config import Config
from engine.errors import TriptychError
from engine.hub.card import card
from engine.hub.export import export
from engine.hub.model_card import model_card
from engine.lineage.opening import writing
from engine.records import Model
from engine.vlm import tiny
from engine.vlm.transformers import load_processor
from engine.vlm.weights import folder_id, outside_model, pinned
from pipelines.context import Context
from tests.lineage_workspace import (
    PROMPT,
    TASK,
    commit,
    make_decision,
    make_image,
    make_triplet,
)

OLD, NEW = "a" * 40, "b" * 40
NAME = "medical/tiny-vlm"


@dataclass
class Hub:
    """A cache folder as the Hub's client keeps it, and a server that answers for one repository."""

    cache: Path
    asked: list[str]
    commit: str = NEW

    def holds(self, revision: str, branch: str = "main") -> None:
        """Put a snapshot of the embedded model into the cache, as its newest one."""
        repository = self.cache / f"models--{NAME.replace('/', '--')}"
        snapshot = repository / "snapshots" / revision
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in tiny.FOLDER.iterdir():
            (snapshot / path.name).unlink(missing_ok=True)
            (snapshot / path.name).symlink_to(path)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / branch).write_text(revision)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub(tmp_path / "cache", [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            path = self.path.split("?")[0]
            known = path == f"/api/models/{NAME}" or path.startswith(f"/api/models/{NAME}/revision")
            body = json.dumps({"id": NAME, "sha": state.commit} if known else {"error": "none"})
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(state.cache))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield state
        server.shutdown()


def test_a_folder_is_known_by_all_of_its_files() -> None:
    model = outside_model("base", str(tiny.FOLDER))
    assert (model.id, model.known_by) == (folder_id(tiny.FOLDER), "files")


def test_a_hub_id_is_pinned_to_the_commit_that_the_cache_holds(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.holds(OLD)
    model = outside_model("base", NAME)
    assert (model.path, model.known_by) == (f"{NAME}@{OLD}", "commit")
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_processor(model.path).tokenizer.eos_token == "<|im_end|>"
    with pytest.raises(OSError):
        load_processor(f"{NAME}@{NEW}")


def test_a_hub_id_that_is_not_cached_is_pinned_to_the_commit_that_the_hub_names(hub: Hub) -> None:
    assert pinned(NAME) == f"{NAME}@{NEW}"
    assert pinned(f"{NAME}@v1.0") == f"{NAME}@{NEW}"
    asked = [path.split("?")[0] for path in hub.asked if path.startswith("/api/models/")]
    assert asked == [f"/api/models/{NAME}", f"/api/models/{NAME}/revision/v1.0"]


def test_two_commits_of_one_name_are_two_models(hub: Hub) -> None:
    ids = {outside_model("base", f"{NAME}@{revision}").id for revision in (OLD, NEW)}
    assert len(ids) == 2
    assert hub.asked == []


@pytest.mark.parametrize("name", ["nobody/nothing", "no/such/folder", "models/gone", "a b"])
def test_a_name_of_which_no_commit_is_known_is_one_line(hub: Hub, name: str) -> None:
    with pytest.raises(TriptychError, match="no commit is known of model") as told:
        outside_model("base", name)
    assert name in str(told.value)


def test_a_workspace_keeps_to_the_commit_that_it_began_with(hub: Hub, tmp_path: Path) -> None:
    hub.holds(OLD)
    config = Config.model_validate({"model": NAME, "reward": {"model": NAME}})
    with writing(tmp_path / "w", "made", config.recorded()) as workspace:
        context = Context(workspace, config)
        commit(workspace, "ingest", 0, context.outside_models())
        hub.holds(NEW)
        assert pinned(NAME) == f"{NAME}@{NEW}"
        for model in (context.base(), context.outside("judge", NAME)):
            assert model.path == f"{NAME}@{OLD}"
            assert context.path_of(model) == f"{NAME}@{OLD}"
        (row,) = {m.id: m for m in workspace.read(Model)}.values()
        assert row.id == context.base().id


def test_each_tag_of_a_repository_keeps_its_own_commit(hub: Hub, tmp_path: Path) -> None:
    hub.holds(OLD, "v1")
    hub.holds(NEW, "v2")
    values = {"model": f"{NAME}@v1", "reward": {"model": f"{NAME}@v2"}}
    config = Config.model_validate(values)
    with writing(tmp_path / "w", "made", config.recorded()) as workspace:
        context = Context(workspace, config)
        commit(workspace, "ingest", 0, context.outside_models())
        hub.holds(NEW, "v1")
        assert context.base().path == f"{NAME}@{OLD}"
        assert context.outside("judge", f"{NAME}@v2").path == f"{NAME}@{NEW}"


def test_what_an_endpoint_answered_with_is_said_to_be_unknown(tmp_path: Path) -> None:
    backend = {"kind": "endpoint", "url": "http://127.0.0.1:9/v1"}
    values = {"backend": backend, "model": "their-vlm"}
    config = Config.model_validate({"generator": values})
    with writing(tmp_path / "w", "made", config.recorded()) as workspace:
        context = Context(workspace, config)
        named = context.outside("generator", "their-vlm")
        assert (named.path, named.known_by) == ("their-vlm", "name")
        assert context.path_of(named) == "their-vlm"
        shown = make_image(1, "g")
        row = make_triplet(shown, named.id, 0, 1)
        commit(workspace, "ingest", 0, [shown, *context.outside_models()])
        commit(workspace, "generate", 1, [row, TASK, PROMPT])
        commit(workspace, "select", 1, [make_decision(row, True, 1)])
    export(workspace, tmp_path / "dataset", "made")
    said = "their-vlm at an endpoint: which weights answered cannot be known"
    assert said in card(workspace, "made")
    assert said in model_card(workspace, named.id)
    assert said in (tmp_path / "dataset" / "croissant.json").read_text()
    assert workspace.ledger().sql("SELECT known_by FROM models WHERE path = 'their-vlm'") == [
        {"known_by": "name"}
    ]
