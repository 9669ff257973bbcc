"""What depends on the kind of expert is told by the room of experts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import Config, build
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.sets.benchmark import NOTHING
from engine.workspace import Workspace
from pipelines.context import Context
from pipelines.record import expert_images, held_out
from pipelines.source import beside, table_of
from reward_model.experts import asked_of, benchmark_of, open_expert
from reward_model.experts.benchmark import BenchmarkExpert
from reward_model.experts.simulated import SimulatedExpert
from tests.round_workspace import commit, make_image

ROW = {
    "image_name": "0.png",
    "image_case_url": "case/0",
    "image_organ": "HEAD",
    "question": "Is there a lesion?",
    "question_type": "PRES",
    "answer": "yes",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark's JSON, with a table beside it that is another expert's."""
    (tmp_path / "questions.json").write_text(json.dumps([ROW]))
    (tmp_path / "labels.csv").write_text("path,finding\nimages/0.png,lesion\n")
    return tmp_path


def config_of(kind: str, folder: Path) -> Config:
    return build({}, [f"source.path={folder}", "source.public=true", f"expert={kind}"], "x")


def test_the_kind_says_who_is_opened_and_whether_he_compares_what_is_generated(
    folder: Path,
) -> None:
    simulated, gold = (open_expert(config_of(k, folder), []) for k in ("simulated", "benchmark"))
    assert isinstance(simulated, SimulatedExpert)
    assert isinstance(gold, BenchmarkExpert)
    assert (simulated.compares_generated, gold.compares_generated) == (True, False)


def test_where_there_is_nobody_to_ask_that_is_one_line(folder: Path) -> None:
    nobody = config_of("none", folder)
    for ask in (lambda: open_expert(nobody, []), lambda: asked_of(nobody)):
        with pytest.raises(TriptychError, match="there is nobody to ask") as said:
            ask()
        assert "\n" not in str(said.value)


@pytest.mark.parametrize("kind", ["simulated", "none"])
def test_only_a_benchmark_has_a_file_that_says_what_the_images_are(folder: Path, kind: str) -> None:
    assert benchmark_of(config_of(kind, folder)) == NOTHING
    told = benchmark_of(config_of("benchmark", folder))
    assert (told.file, [q.answer for q in told.questions]) == ("questions.json", ["yes"])


def test_what_is_known_of_the_files_is_the_benchmarks_or_the_tables(folder: Path) -> None:
    config = config_of("benchmark", folder)
    told = benchmark_of(config)
    assert beside(config, folder, told) == {"questions.json": "the questions"}
    assert table_of(config, folder, told)["images/0.png"].anatomy == "head"
    config = config_of("none", folder)
    assert beside(config, folder, NOTHING) == {"labels.csv": "the table"}
    assert table_of(config, folder, NOTHING)["images/0.png"].anatomy != "head"


def test_the_images_that_a_benchmark_asks_about_are_found_among_many(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = [ROW | {"image_name": f"{n}.png", "qid": n} for n in (40, 41)]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    config = build(
        {"expert": {"kind": "benchmark", "images": 1, "preference_images": 1}},
        [f"source.path={tmp_path}", "source.public=true"],
        "x",
    )
    known = [replace(make_image(n, f"g{n}", "train"), source=f"images/{n}.png") for n in range(60)]
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        commit(workspace, "ingest", 0, {}, known)
    context = Context(Workspace.existing(tmp_path / "w"), config)
    expert = open_expert(config, context.images())
    seed, further = expert_images(context, expert)
    assert {i.source for i in seed + further} == {"images/40.png", "images/41.png"}
    assert len(held_out(context, "train", 2)) == 2
