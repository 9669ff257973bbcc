"""The record as PROV-JSON, read by the package prov."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prov.model import (
    ProvActivity,
    ProvAgent,
    ProvDerivation,
    ProvDocument,
    ProvEntity,
    ProvRecord,
    ProvUsage,
)
from typer.testing import CliRunner

from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.lineage.prov import prov, write
from engine.records import (
    Consumption,
    Decision,
    Evaluation,
    Image,
    Model,
    Task,
    Triplet,
    Verdict,
    content_id,
)
from engine.workspace import Workspace
from pipelines.cli import app
from tests.read_workspace import read_workspace
from tests.round_workspace import commit, make_image, make_triplet


def records(document: ProvDocument, kind: type[ProvRecord]) -> list[ProvRecord]:
    return list(document.get_records(kind))


def document_of(content: dict[str, Any]) -> ProvDocument:
    """Read by the `prov` package, which refuses what is no PROV-JSON."""
    return ProvDocument.deserialize(content=json.dumps(content), format="json")


def local_names(document: ProvDocument, kind: type[ProvRecord]) -> set[str]:
    return {record.identifier.localpart for record in records(document, kind)}


def test_the_prov_package_reads_the_whole_record(full: Workspace) -> None:
    content = prov(full)
    document = document_of(content)
    rows = {t: {row.id for row in full.read(t)} for t in (Image, Triplet, Decision, Evaluation)}
    entities = local_names(document, ProvEntity)
    for row_type, ids in rows.items():
        assert {f"{row_type.table.removesuffix('s')}/{row_id}" for row_id in ids} <= entities
    stages = {f"stage/{commit['folder']}" for commit in full.commits()}
    assert local_names(document, ProvActivity) == stages
    assert all(activity.get_endTime() for activity in records(document, ProvActivity))
    assert len(records(document, ProvUsage)) == len(
        {(c.row_id, c.stage, c.model_id) for c in full.read(Consumption)}
    )
    again = json.loads(document.serialize(format="json"))
    kinds = set(content) - {"prefix"}
    assert {kind: len(again[kind]) for kind in kinds} == {k: len(content[k]) for k in kinds}


def test_every_end_of_a_relation_is_in_the_document(full: Workspace) -> None:
    content = prov(full)
    known = {
        "entity": content["entity"],
        "usedEntity": content["entity"],
        "generatedEntity": content["entity"],
        "activity": content["activity"],
        "agent": content["agent"],
    }
    for kind in set(content) - {"prefix", "entity", "activity", "agent"}:
        for relation in content[kind].values():
            for end, name in relation.items():
                assert name in known[end.removeprefix("prov:")], (kind, end)


def test_one_rows_document_holds_what_it_goes_back_to(full: Workspace) -> None:
    decision = next(d for d in full.read(Decision, round=2) if d.keep)
    triplet = next(t for t in full.read(Triplet) if t.id == decision.triplet_id)
    document = document_of(prov(full, triplet.id[:16]))
    entities = local_names(document, ProvEntity)
    line = [content_id(n) for n in ("grpo1", "sft1", "generator")]
    assert {f"model/{m}" for m in line} <= entities
    assert {f"image/{triplet.image_id}", f"decision/{decision.id}"} <= entities
    assert {e.partition("/")[0] for e in entities} == {
        *("triplet", "image", "task", "verification", "judgement", "found", "decision", "model")
    }
    assert sum(e.startswith("triplet/") for e in entities) == 1
    agents = local_names(document, ProvAgent)
    assert {f"model/{triplet.generator_id}", f"model/{content_id('judge')}"} <= agents


def test_a_derived_row_goes_back_to_what_its_words_were_taken_from(tmp_path: Path) -> None:
    task = Task.make("MR", "disease", "easy", "choice", "step")
    shown, other = (make_image(n, "g", "train") for n in (1, 2))
    source = make_triplet(shown, "expert", task, 0, 0)
    row = replace(make_triplet(shown, "irrelevant", task, 1, 0), derived_from=(source.id, other.id))
    with writing(tmp_path / "w", "derived", {}) as workspace:
        commit(workspace, "compare", 0, {}, [shown, other], [source, row], [task])
    for content in (prov(workspace, row.id), prov(workspace)):
        document = document_of(content)
        derived = {
            (record.args[0].localpart, record.args[1].localpart)
            for record in records(document, ProvDerivation)
        }
        sources = {f"triplet/{source.id}", f"image/{other.id}", f"image/{shown.id}"}
        assert {(f"triplet/{row.id}", name) for name in sources} <= derived
        assert sources <= local_names(document, ProvEntity)


def test_a_models_document_holds_what_it_was_trained_on(full: Workspace) -> None:
    model = content_id("judge")
    document = document_of(prov(full, model))
    used = {record.args[1].localpart for record in records(document, ProvUsage)}
    trained_on = {c.row_id for c in full.read(Consumption) if c.model_id == model}
    assert used == {f"preference/{row_id}" for row_id in trained_on}


def test_file_names_of_patients_stay_out_of_prov(tmp_path: Path) -> None:
    image = make_image(0, "g0", "train", synthetic=False)
    with writing(tmp_path / "w", "real", {}) as workspace:
        commit(workspace, "ingest", 0, {}, [image])
    assert image.id in write(workspace)
    assert image.source not in write(workspace)


def test_the_command_writes_a_file_and_refuses_an_unknown_id(
    full: Workspace, tmp_path: Path
) -> None:
    words = ["lineage", "prov", content_id("judge"), "-w", str(full.root)]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "p.json")])
    assert done.exit_code == 0, done.output
    document_of(json.loads((tmp_path / "p.json").read_text()))
    with pytest.raises(TriptychError, match="no row has an id"):
        prov(full, "nothing")


def test_a_judge_that_learned_from_verdicts_goes_back_to_who_said_them(tmp_path: Path) -> None:
    workspace = read_workspace(tmp_path / "w")
    judge = next(m for m in workspace.read(Model) if m.role == "judge")
    content = prov(workspace, judge.id)
    assert prov(workspace)["entity"].keys() >= content["entity"].keys()
    said = {v.id for v in workspace.read(Verdict) if v.stream == "informative"}
    assert {f"tri:verdict/{name.replace(' ', '%20')}" for name in said} <= content["entity"].keys()
    assert {"tri:expert/R1", "tri:expert/R2"} <= content["agent"].keys()
    assert "Mrs Miller" not in json.dumps(content)
