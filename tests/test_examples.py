"""examples/ are what a user copies: each loads, and is no longer than it must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import Config, load

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_and_is_named_as_its_file(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_begins_with_what_it_is_for_and_its_command(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith("#   ") and f"examples/{path.name}" in line for line in lines)


def test_experts_of_every_kind_have_an_example() -> None:
    kinds = {load(path).expert.kind for path in EXAMPLES}
    assert kinds == {"simulated", "people", "table", "none"}


def test_the_examples_cover_drawn_and_own_images_and_every_backend() -> None:
    loaded = {path.stem: load(path) for path in EXAMPLES}
    assert loaded.keys() == {"endpoint", "folder", "people", "phantoms", "table", "vllm"}
    assert loaded["phantoms"].source.path is None
    assert loaded["folder"].source.path is not None
    backends = {config.generator.backend.kind for config in loaded.values()}
    assert backends == {"transformers", "vllm", "endpoint"}


def test_the_folder_takes_questions_with_the_two_lines_that_it_names() -> None:
    folder = next(path for path in EXAMPLES if path.stem == "folder")
    text = folder.read_text()
    assert "# paths: keep" in text
    with_questions: Config = load(folder, ["source.paths=keep", "expert.kind=benchmark"])
    assert with_questions.expert.kind == "benchmark"
