"""Rows and exports made again from their lineage, and the drawing of a neighbourhood."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.config import Config
from engine.errors import TriptychError
from engine.lineage.graph import neighbourhood, svg
from engine.lineage.verify import verify
from engine.records import Dataset, Decision, Image, Model, Preference, Run, Triplet
from engine.workspace import Workspace
from pipelines import ingest, seed
from pipelines.cli import app
from pipelines.context import Context, run_stage
from pipelines.export import export
from pipelines.reproduce import reproduce
from pipelines.withdraw import withdraw
from tests.lineage_workspace import cli, made

SOURCE = {"phantoms": {"MR": 6, "ultrasound": 4}, "size": 64}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Phantoms ingested, the expert's rows, and an export: what needs no model."""
    root = tmp_path_factory.mktemp("drawn") / "w"
    config = Config.model_validate({"source": SOURCE, "expert": {"images": 4}})
    with Workspace.writing(root, config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "seed", 0, seed.seed, [("ingest", 0)], {})
        export(workspace, context.display)
    return Workspace.existing(root)


def test_the_record_names_its_run_and_the_base_and_no_machine(drawn: Workspace) -> None:
    assert verify(drawn).problems == []
    runs = {run.id: run for run in drawn.read(Run)}
    assert len(runs) == 1
    run = next(iter(runs.values()))
    assert "duckdb" in json.loads(run.packages)
    assert "cluster" not in json.loads(run.config)
    assert [(m.role, m.path) for m in drawn.read(Model)] == [("base", "tiny")]
    assert str(drawn.root) not in run.config


def test_an_image_is_drawn_and_rendered_again_byte_for_byte(drawn: Workspace) -> None:
    for image in (drawn.read(Image)[0], drawn.read(Image)[-1]):
        told = reproduce(drawn, image.id)
        assert told["equal"], told
    assert "equal" in cli("reproduce", image.id, "-w", drawn.root)


def test_a_changed_image_is_not_equal(drawn: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_KEY", "another key of the hospital")
    told = reproduce(drawn, drawn.read(Image)[0].id)
    assert not told["equal"]
    assert "patient" in told["detail"]


def test_an_experts_row_is_written_again(drawn: Workspace) -> None:
    told = reproduce(drawn, drawn.read(Triplet)[3].id)
    assert told["equal"], told


def test_an_export_is_made_again_byte_for_byte_also_after_later_stages(
    drawn: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(drawn.root, tmp_path / "w")
    workspace = Workspace.existing(tmp_path / "w")
    dataset = workspace.read(Dataset)[0]
    assert reproduce(workspace, dataset.id)["equal"]
    exported = next(t for t in workspace.read(Triplet))
    with Workspace.maintaining(workspace.root) as place:
        withdraw(place, exported.image_id)
    told = reproduce(workspace, dataset.id)
    assert not told["equal"]
    assert "were withdrawn since" in told["detail"]
    assert reproduce(workspace, workspace.read(Dataset)[-1].id)["equal"]


def test_exporting_the_same_rows_again_adds_nothing_to_the_record(
    drawn: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(drawn.root, tmp_path / "w")
    before = Workspace.existing(tmp_path / "w").commits()
    result = CliRunner().invoke(app, ["export", "-w", str(tmp_path / "w")])
    assert result.exit_code == 0, result.output
    assert Workspace.existing(tmp_path / "w").commits() == before


def test_what_cannot_be_made_again_says_so_in_one_line(drawn: Workspace) -> None:
    with pytest.raises(TriptychError, match="an image, a triplet or a dataset"):
        reproduce(drawn, drawn.read(Model)[0].id)


# The drawing


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made(tmp_path_factory.mktemp("made") / "w", export=True)


def test_a_kept_row_is_drawn_between_its_image_and_its_checkpoints(filled: Workspace) -> None:
    row = next(d.triplet_id for d in filled.read(Decision) if d.keep)
    graph = neighbourhood(filled.ledger(), row[:12])
    kinds = [node.kind for node in graph.nodes.values()]
    assert {"image", "prompt", "task", "writer", "judgement", "decision", "dataset"} < set(kinds)
    assert kinds.count("model") == 4
    words = {word for _, _, word in graph.edges}
    assert {"shown", "wrote", "asked", "judged", "saw", "exported"} <= words
    assert all(a in graph.nodes and b in graph.nodes for a, b, _ in graph.edges)


def test_every_kind_of_row_is_drawn_as_whole_svg(filled: Workspace, tmp_path: Path) -> None:
    kinds = (Image, Triplet, Model, Preference, Dataset)
    for row in (filled.read(kind)[0] for kind in kinds):
        graph = neighbourhood(filled.ledger(), row.id)
        drawing = ElementTree.fromstring(svg(graph))
        boxes = [g for g in drawing if g.tag.endswith("}g")]
        assert len(boxes) == len(graph.nodes) > 1
        assert svg(graph) == svg(neighbourhood(filled.ledger(), row.id))
    out = tmp_path / "row.svg"
    assert cli("graph", row.id, "-w", filled.root, "--out", out).strip() == str(out)
    assert json.loads(cli("graph", row.id, "-w", filled.root, "--json"))["centre"] == row.id


def test_boxes_do_not_overlap(filled: Workspace) -> None:
    from engine.lineage.graph import HEIGHT, WIDTH, _places

    places = list(_places(neighbourhood(filled.ledger(), filled.read(Image)[0].id)).values())
    for n, (x, y) in enumerate(places):
        for other_x, other_y in places[n + 1 :]:
            assert abs(x - other_x) >= WIDTH or abs(y - other_y) >= HEIGHT
