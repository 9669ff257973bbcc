"""Rows and exports made again from their lineage, and the drawing of a neighbourhood."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from engine.config import Config
from engine.errors import TriptychError
from engine.lineage.graph import neighbourhood, svg
from engine.lineage.opening import maintaining, writing
from engine.lineage.verify import verify
from engine.records import (
    Dataset,
    Decision,
    Image,
    Model,
    Preference,
    Run,
    Triplet,
    content_id,
)
from engine.resume import Made, Worker
from engine.workspace import Workspace
from generators import proposer
from generators.proposer import Proposing
from pipelines import compare, generate, ingest, plan, proposals, seed
from pipelines.cli import app
from pipelines.commands.export import export
from pipelines.commands.reproduce import reproduce
from pipelines.commands.withdraw import withdraw
from pipelines.context import Context, config_of, run_stage
from reward_model.experts import open_expert
from tests.lineage_workspace import cli, made

pytestmark = pytest.mark.loop

SOURCE = {"phantoms": {"MR": 6, "ultrasound": 4}, "size": 64}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Phantoms ingested, the expert's rows, and an export: what needs no model."""
    root = tmp_path_factory.mktemp("drawn") / "w"
    config = Config.model_validate({"source": SOURCE, "expert": {"images": 4}})
    with writing(root, config.name, config.recorded()) as workspace:
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


def test_an_experts_own_row_among_the_preferences_is_written_again(
    drawn: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(drawn.root, tmp_path / "w")
    with maintaining(tmp_path / "w") as workspace:
        context = Context(workspace, config_of(workspace.root))
        known = {t.id for t in workspace.read(Triplet)}
        expert = open_expert(context.config, context.images())
        rows = [expert.rows(image, 1)[0][0] for image in context.images() if image.split == "train"]
        row = next(r for r in rows if r.id not in known)
        stage = workspace.begin("compare", 0, "compare")
        stage.write(Triplet, [row], "made")
        workspace.commit(stage)
    told = reproduce(workspace, row.id)
    assert told["equal"], told


def test_a_benchmarks_last_question_among_the_preferences_is_written_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "rad"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(8):
        pixels = rng.integers(0, 255, (64, 64), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "images" / f"{n}.png")
    fields = {"image_organ": "HEAD", "question_type": "PRES"}
    asked = [
        {
            "image_name": f"{n}.png",
            "image_case_url": f"case {n}",
            "question": f"Is it {q}?",
            "answer": ("yes", "no")[n % 2],
        }
        for n in range(8)
        for q in range(6)
    ]
    (folder / "rad.json").write_text(json.dumps([fields | row for row in asked]))
    source = {"path": str(folder), "public": True, "split": {"train": 1.0}}
    expert = {"kind": "benchmark", "images": 1, "preference_images": 7, "pairs": 80}
    config = Config.model_validate({"source": source, "expert": expert})
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "compare", 0, compare.compare, [("ingest", 0)], {})
    rows = workspace.read(Triplet)
    gold = [t for t in rows if t.generator_id == "expert" and not t.derived_from]
    assert max(t.sample for t in gold) == 5 >= config.expert.rows_per_image
    for row in gold:
        assert reproduce(workspace, row.id)["equal"]


# Generated rows, with a proposer that needs no weights


def echo(job: Proposing) -> Worker:
    """In place of `make_proposer`: a row a pair, which says the shard that it was asked in."""

    def work(shard: str, rows: list[dict[str, Any]]) -> Made:
        made = [
            Triplet(
                id=content_id(row["image_id"], row["task"]["id"], shard),
                image_id=row["image_id"], task_id=row["task"]["id"], raw=shard,
                generator_id=job.settings.generator_id, seed=job.settings.seed,
                prompt_hash="", sample=0, round=job.settings.round,
                question="", options=(), answer="", rationale="", logprob=0.0,
            )
            for row in rows
        ]  # fmt: skip
        return {Triplet: made}

    return work


def test_generated_rows_are_made_again_in_the_batches_of_then_after_a_withdrawal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (generate, proposals, proposer):
        monkeypatch.setattr(module, "make_proposer", echo)
    chosen = {"tasks": 8, "batch": 2}
    few = {"images": 4, "preference_images": 4, "pairs": 8}
    inline = {"address": "inline"}
    config = Config.model_validate(
        {"source": SOURCE, "generator": chosen, "expert": few, "cluster": inline}
    )
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "compare", 0, compare.compare, [("ingest", 0)], {})
        run_stage(context, "plan", 1, plan.plan, [("ingest", 0)], {})
        run_stage(context, "generate", 1, generate.generate, [("plan", 1)], {})
        before = workspace.read(Triplet, "generate")
        assert all(reproduce(workspace, row.id)["equal"] for row in before)
        withdraw(workspace, before[0].image_id)
    left = workspace.read(Triplet, "generate")
    batches = {shard: [t for t in before if t.raw == shard] for shard in {t.raw for t in before}}
    whole = [t for t in left if len(batches[t.raw]) == sum(o.raw == t.raw for o in left)]
    assert whole
    assert all(reproduce(workspace, row.id)["equal"] for row in whole)
    assert whole[-1].raw > before[0].raw
    torn = [t for t in left if t not in whole]
    for row in torn:
        with pytest.raises(TriptychError, match="an image of this row's batch was withdrawn"):
            reproduce(workspace, row.id)
    candidate = next(t for t in workspace.read(Triplet, "compare") if not t.derived_from)
    with pytest.raises(TriptychError, match="follows from all images"):
        reproduce(workspace, candidate.id)


def test_an_export_is_made_again_byte_for_byte_also_after_later_stages(
    drawn: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(drawn.root, tmp_path / "w")
    workspace = Workspace.existing(tmp_path / "w")
    dataset = workspace.read(Dataset)[0]
    assert reproduce(workspace, dataset.id)["equal"]
    exported = next(t for t in workspace.read(Triplet))
    with maintaining(workspace.root) as place:
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
