"""An export's Croissant metadata as others read it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import mlcroissant
import pyarrow.parquet as pq
import pytest
import rdflib
import yaml
from absl.logging import get_absl_handler

from engine.errors import TriptychError
from engine.hub.export import export
from engine.hub.model_card import model_card
from engine.lineage.chain import file_hash
from engine.lineage.files import listing_hash
from engine.lineage.opening import writing
from engine.lineage.withdrawals import withdrawn_ids
from engine.records import (
    Image,
    Task,
    Triplet,
    Withdrawal,
    content_id,
)
from engine.workspace import Workspace
from tests.round_workspace import commit, make_image, make_triplet

# absl, which mlcroissant brings, would close pytest's stderr as soon as vLLM sets up its logging.
get_absl_handler().python_handler.stream = sys.__stderr__

CONFIG = {"licence": "cc-by-4.0", "name": "demo"}
CR = rdflib.Namespace("http://mlcommons.org/croissant/")


RAI = rdflib.Namespace("http://mlcommons.org/croissant/RAI/")


SDO = rdflib.Namespace("https://schema.org/")


PROV = rdflib.Namespace(str(rdflib.PROV))  # prov:label is of PROV-DM


def test_mlcroissant_loads_the_metadata_without_a_warning(exported: Path) -> None:
    metadata = mlcroissant.Dataset(str(exported / "croissant.json")).metadata
    assert not metadata.ctx.issues.errors
    assert not metadata.ctx.issues.warnings
    assert metadata.ctx.is_v1_1()
    assert metadata.license == ["https://spdx.org/licenses/CC-BY-4.0.html"]
    assert {s.uuid for s in metadata.record_sets} == {
        *("splits", "train", "validation", "test", "rejects")
    }


def test_mlcroissant_reads_every_record_of_every_split(exported: Path) -> None:
    dataset = mlcroissant.Dataset(str(exported / "croissant.json"))
    for split in ("train", "validation", "test"):
        rows = pq.read_table(exported / "data" / f"{split}-00000-of-00001.parquet").to_pylist()
        records = list(dataset.records(split))
        assert [r[f"{split}/id"].decode() for r in records] == [row["id"] for row in rows]
        first, row = records[0], rows[0]
        assert first[f"{split}/image"].size == (64, 64)
        assert [o.decode() for o in first[f"{split}/options"]] == row["options"]
        assert first[f"{split}/round"] == row["round"]
        assert {key.partition("/")[2] for key in first} == row.keys()
    rejects = list(dataset.records("rejects"))
    assert len(rejects) == pq.read_metadata(exported / "rejects.parquet").num_rows


def test_mlcroissant_reads_a_split_of_several_files(full: Workspace, tmp_path: Path) -> None:
    export(full, tmp_path / "out", "demo", shard_mb=0.06)
    files = sorted((tmp_path / "out/data").glob("train-*.parquet"))
    assert len(files) > 2
    dataset = mlcroissant.Dataset(str(tmp_path / "out/croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    ids = [row["id"] for path in files for row in pq.read_table(path, columns=["id"]).to_pylist()]
    records = list(dataset.records("train"))
    assert [record["train/id"].decode() for record in records] == ids
    assert {record["train/image"].size for record in records} == {(64, 64)}
    said = json.loads((tmp_path / "out/croissant.json").read_text())["distribution"]
    listed = {each["@id"]: each["sha256"] for each in said if each["@type"] == "cr:FileObject"}
    assert listed == {
        path.relative_to(tmp_path / "out").as_posix(): file_hash(path)
        for path in (tmp_path / "out").rglob("*.parquet")
    }
    globs = {each["@id"]: each["includes"] for each in said if each["@type"] == "cr:FileSet"}
    front = yaml.safe_load((tmp_path / "out/README.md").read_text().split("---")[1])
    data_files = front["configs"][0]["data_files"]
    assert {f"{each['split']}-files": each["path"] for each in data_files} == globs


def graph_of(exported: Path) -> rdflib.Graph:
    graph = rdflib.Graph()
    return graph.parse(exported / "croissant.json", format="json-ld", publicID="urn:base:")


def test_the_responsible_ai_fields_are_there_as_rdf(exported: Path) -> None:
    graph = graph_of(exported)
    (dataset,) = graph.subjects(rdflib.RDF.type, SDO.Dataset)
    said = {str(p).removeprefix(str(RAI)) for p in graph.predicates(dataset) if p.startswith(RAI)}
    assert said == {
        "annotationsPerItem",
        "dataAnnotationProtocol",
        "dataBiases",
        "dataCollection",
        "dataCollectionType",
        "dataLimitations",
        "dataPreprocessingProtocol",
        "dataReleaseMaintenancePlan",
        "dataSocialImpact",
        "dataUseCases",
        "hasSyntheticData",
        "machineAnnotationTools",
        "personalSensitiveInformation",
    }
    tools = {str(tool) for tool in graph.objects(dataset, RAI.machineAnnotationTools)}
    assert f"judge {content_id('judge')}" in tools


def test_the_provenance_is_prov_o(full: Workspace, exported: Path) -> None:
    graph = graph_of(exported)
    (dataset,) = graph.subjects(rdflib.RDF.type, SDO.Dataset)
    stages = list(graph.objects(dataset, PROV.wasGeneratedBy))
    assert len(stages) == len(full.commits())
    assert all((stage, rdflib.RDF.type, PROV.Activity) in graph for stage in stages)
    assert all(graph.value(stage, PROV.endedAtTime) for stage in stages)
    agents = {str(graph.value(a, PROV.label)) for a in graph.objects(dataset, PROV.wasAttributedTo)}
    assert {"expert", content_id("generator"), content_id("judge")} <= agents
    origins = set(graph.objects(dataset, PROV.wasDerivedFrom))
    assert rdflib.URIRef(f"urn:sha256:{full.head}") in origins
    fields = set(graph.subjects(CR.equivalentProperty, None))
    assert len(fields) == 6  # image_id and generator_id of three splits


def test_version_identifier_and_files_are_of_the_content(exported: Path) -> None:
    said = json.loads((exported / "croissant.json").read_text())
    hashes = {
        path.relative_to(exported).as_posix(): file_hash(path)
        for path in exported.rglob("*.parquet")
    }
    files = [each for each in said["distribution"] if each["@type"] == "cr:FileObject"]
    assert {f["contentUrl"]: f["sha256"] for f in files} == hashes
    assert said["identifier"] == f"urn:sha256:{listing_hash(hashes)}"
    assert said["version"].endswith(f"+{listing_hash(hashes)[:12]}")


def withdrawal(kind: str, subject: str) -> Withdrawal:
    return Withdrawal(
        id=content_id(kind, subject),
        subject_kind=kind,
        subject_id=subject,
        reason="consent withdrawn",
        requested_by="data protection office",
        at="2026-01-01T00:00:00Z",
        images=1,
        answer="{}",
    )


def everything(folder: Path) -> dict[str, Any]:
    rows = [
        r for p in sorted((folder / "data").glob("*.parquet")) for r in pq.read_table(p).to_pylist()
    ]
    rejects = pq.read_table(folder / "rejects.parquet").to_pylist()
    return {"rows": rows, "rejects": {r["id"] for r in rejects}}


def test_withdrawn_rows_leave_the_export_and_its_rejects(
    full: Workspace, exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(full.root, tmp_path / "w")
    images = full.read(Image)
    alone = next(i for i in images if i.group == "g5")
    gone = {alone.id, *(i.id for i in images if i.group == "g4")}
    with writing(tmp_path / "w", "demo", CONFIG) as workspace:
        withdrawals = [withdrawal("image", alone.id), withdrawal("group", "g4")]
        commit(workspace, "withdraw", 0, {}, withdrawals)
        export(workspace, tmp_path / "after", "demo")
        assert withdrawn_ids(workspace) == gone
    before, after = everything(exported), everything(tmp_path / "after")
    assert gone <= {row["image_id"] for row in before["rows"]}
    assert after["rows"] == [row for row in before["rows"] if row["image_id"] not in gone]
    of_gone = {t.id for t in full.read(Triplet) if t.image_id in gone}
    assert before["rejects"] & of_gone
    assert after["rejects"] == before["rejects"] - of_gone
    assert "3 withdrawn images are left out" in (tmp_path / "after" / "README.md").read_text()
    said = json.loads((tmp_path / "after" / "croissant.json").read_text())
    assert "(3 so far)" in said["rai:dataReleaseMaintenancePlan"]
    learned = model_card(workspace, content_id("judge2"))  # itself trained on no row
    assert "**This model learned, itself or through a parent" in learned
    assert f"| judge | {content_id('judge')} | 2 |" in learned


def test_a_ledger_of_an_older_version_is_one_line_with_the_remedy(
    full: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(full.root, tmp_path / "w")
    workspace = Workspace.existing(tmp_path / "w")
    with duckdb.connect(str(workspace.ledger().path)) as db:
        db.execute("DROP TABLE meta")
    with pytest.raises(TriptychError, match=r"another version.*lineage rebuild"):
        export(workspace, tmp_path / "out", "demo")
    workspace.ledger().rebuild(workspace.events)
    assert export(workspace, tmp_path / "out", "demo")


def test_images_of_patients_are_said_to_be_so(tmp_path: Path) -> None:
    image = make_image(0, "g0", "train", synthetic=False)
    task = Task.make("CT", "disease", "easy", "choice", "step")
    with writing(tmp_path / "w", "real", {}) as workspace:
        rows = [make_triplet(image, "expert", task, 0, 0)]
        commit(workspace, "expert", 0, {}, [image], rows)
        export(workspace, tmp_path / "out", "real")
    said = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert "1 images are of patients" in said["rai:personalSensitiveInformation"][0]
    assert said["rai:hasSyntheticData"] is False
    assert "Secondary Data analysis" in said["rai:dataCollectionType"]
    assert image.source not in (tmp_path / "out" / "croissant.json").read_text()
