"""A card says what a model was made from and how it did."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from engine.errors import TriptychError
from engine.hub.card import SYNTHETIC_NOTE
from engine.hub.model_card import model_card
from engine.records import (
    Consumption,
    Evaluation,
    Triplet,
    content_id,
)
from engine.workspace import Workspace
from pipelines.cli import app


def test_a_models_card_says_what_it_was_made_from_and_how_it_did(full: Workspace) -> None:
    model = content_id("grpo2")
    text = model_card(full, model[:12])
    front = yaml.safe_load(text.split("---")[1])
    assert (front["license"], front["pipeline_tag"]) == ("cc-by-4.0", "image-text-to-text")
    line = [content_id(n) for n in ("grpo2", "sft2", "grpo1", "sft1", "generator")]
    assert [text.index(f"| {ancestor} |") for ancestor in line] == sorted(
        text.index(f"| {ancestor} |") for ancestor in line
    )
    used = [c for c in full.read(Consumption) if c.model_id == model]
    assert "models" in {c.row_table for c in used}  # the judge that rewarded is no withdrawn row
    seen = {c.row_id for c in used if c.row_table == "triplets"}
    images = {t.image_id for t in full.read(Triplet) if t.id in seen}
    assert f"| triplets | {len(seen)} | {len(images)} | {len(images)} |" in text
    answers = [e for e in full.read(Evaluation) if e.model_id == model and e.split == "test"]
    accuracy = sum(e.correct for e in answers) / len(answers)
    assert f"| test | all | all | {len(answers)} | {accuracy:.3f} | 0 |" in text
    assert SYNTHETIC_NOTE in text
    assert "Neither it nor a model it was made from saw any." in text
    assert model_card(full, model) == text


def test_a_card_of_no_model_and_the_command(full: Workspace, tmp_path: Path) -> None:
    with pytest.raises(TriptychError, match="no model has an id"):
        model_card(full, "nothing")
    words = ["card", content_id("judge"), "-w", str(full.root), "--out", str(tmp_path / "c.md")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "| preferences | 6 | 6 | 6 |" in (tmp_path / "c.md").read_text()
