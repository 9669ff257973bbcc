"""What trace tells of a row, and a ledger rebuilt from the shards."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine.errors import TriptychError
from engine.hub.publish import publish
from engine.lineage.graph import neighbourhood
from engine.lineage.opening import maintaining
from engine.lineage.trace import render, trace
from engine.records import (
    ROW_TYPES,
    Decision,
    Image,
    Preference,
    Tombstone,
    Verdict,
    Withdrawal,
    content_id,
)
from engine.workspace import Workspace
from tests.read_workspace import read_workspace


def text_of(traced: dict[str, Any]) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render(traced))
    return console.export_text()


def test_a_kept_row_is_traced_to_its_image_and_to_the_models_that_saw_it(full: Workspace) -> None:
    row = next(d for d in full.read(Decision, round=1) if d.keep)
    traced = trace(full.ledger(), row.triplet_id[:12])
    assert traced["id"] == row.triplet_id
    assert traced["image"]["source"].startswith("phantom-")
    assert traced["generator"]["role"] == "generator"
    assert traced["judgements"][0]["judge"]["role"] == "judge"
    assert traced["decisions"][0]["decision"] == "keep"
    saw = {m["id"]: m for m in traced["used_by"]}
    assert set(saw) == {content_id("sft1"), content_id("grpo1")}
    later = {m["id"] for m in saw[content_id("grpo1")]["descendants"]}
    assert later == {content_id("sft2"), content_id("grpo2")}
    json.dumps(traced)
    assert "<tumor>" in text_of(traced) or "Which finding" in text_of(traced)


def test_a_rejected_row_says_why_and_was_seen_by_no_model(full: Workspace) -> None:
    row = next(d for d in full.read(Decision) if not d.keep)
    traced = trace(full.ledger(), row.triplet_id)
    assert traced["decisions"][0]["decision"] == "reject"
    assert traced["decisions"][0]["reason"] == row.reason
    assert traced["used_by"] == []
    assert row.reason in text_of(traced)


def test_images_models_and_preferences_are_traced_too(full: Workspace) -> None:
    ledger = full.ledger()
    image = trace(ledger, full.read(Image)[4].id)
    assert image["kind"] == "image"
    assert len(image["triplets"]) == 8
    model = trace(ledger, content_id("grpo2"))
    line = [m["id"] for m in model["ancestors"]]
    assert line == [content_id(n) for n in ("sft2", "grpo1", "sft1", "generator")]
    assert model["consumed"][0]["rows"] > 0
    preference = trace(ledger, full.read(Preference)[0].id)
    assert preference["used_by"][0]["id"] == content_id("judge")
    assert len(preference["used_by"][0]["descendants"]) == 2
    assert all(map(text_of, (image, model, preference)))


def test_an_unknown_or_short_id_is_a_one_line_error(full: Workspace) -> None:
    with pytest.raises(TriptychError, match="no triplet, image") as unknown:
        trace(full.ledger(), "zz%")
    with pytest.raises(TriptychError, match="more characters") as short:
        trace(full.ledger(), "")
    assert "\n" not in str(unknown.value) + str(short.value)


def test_a_rebuilt_ledger_gives_the_same_rows(full: Workspace, tmp_path: Path) -> None:
    shutil.copytree(full.root, tmp_path / "w")
    with maintaining(tmp_path / "w") as copy:
        publish(copy)
    ledger = copy.ledger()

    def everything() -> dict[str, list[dict[str, Any]]]:
        tables = ["commits", *(row_type.table for row_type in ROW_TYPES)]
        return {t: ledger.sql(f"SELECT * FROM {t} ORDER BY ALL") for t in tables}

    before = everything()
    assert ledger.rebuild(copy.events) == len(copy.commits())
    assert everything() == before
    empty = {t.table for t in ROW_TYPES if not before[t.table]}
    assert empty == {Withdrawal.table, Tombstone.table}  # what only a withdrawal fills


def test_a_verdict_is_traced_and_stands_in_the_trace_of_its_row(tmp_path: Path) -> None:
    workspace = read_workspace(tmp_path / "w")
    ledger = workspace.ledger()
    verdict = next(v for v in workspace.read(Verdict) if v.correction and v.stream != "test")
    found = trace(ledger, verdict.id)
    assert found["kind"] == "verdict"
    assert found["item"]["stream"] == "informative"
    assert [row["answer"] for row in found["expert_rows"]] == ["yes"]
    assert [model["role"] for model in found["used_by"]] == ["judge"]
    row = trace(ledger, verdict.triplet_id)
    assert [v["verdict"] for v in row["verdicts"]] == ["reject"]
    assert {m["role"] for m in row["used_by"]} == {"judge"}
    assert "R1" in text_of(found)
    drawn = neighbourhood(ledger, verdict.id)
    assert {node.kind for node in drawn.nodes.values()} >= {"preference", "triplet", "model"}
    assert verdict.id in neighbourhood(ledger, verdict.triplet_id).nodes
