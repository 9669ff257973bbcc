"""What depends on the kind of expert is told by the room of experts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.config import Config, build
from engine.errors import TriptychError
from engine.sets.benchmark import NOTHING
from pipelines.source import beside, table_of
from reward_model.experts import asked_of, benchmark_of, open_expert
from reward_model.experts.benchmark import BenchmarkExpert
from reward_model.experts.simulated import SimulatedExpert

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
