"""Croissant, PROV-JSON and OpenLineage, each read back by the standard's own library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest
import rdflib

from engine.hub.croissant import content_hash
from engine.hub.export import export
from engine.lineage.chain import file_hash, head
from engine.lineage.withdrawals import withdrawn_ids
from engine.records import Image, Task, Triplet, Withdrawal, content_id
from engine.workspace import Workspace
from tests.test_export_report import commit, fill, make_image, make_triplet

CONFIG = {"licence": "cc-by-4.0", "name": "demo"}
CR = rdflib.Namespace("http://mlcommons.org/croissant/")
RAI = rdflib.Namespace("http://mlcommons.org/croissant/RAI/")
SDO = rdflib.Namespace("https://schema.org/")
PROV = rdflib.Namespace(str(rdflib.PROV))  # prov:label is of PROV-DM


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("standards") / "w"
    with Workspace.writing(root, "demo", CONFIG) as workspace:
        fill(workspace)
    return Workspace.existing(root)


@pytest.fixture(scope="module")
def exported(full: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "dataset"
    export(full, out, "demo")
    return out


# Croissant


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
    assert rdflib.URIRef(f"urn:sha256:{head(full)}") in origins
    fields = set(graph.subjects(CR.equivalentProperty, None))
    assert len(fields) == 6  # image_id and generator_id of three splits


def test_version_identifier_and_files_are_of_the_content(exported: Path) -> None:
    said = json.loads((exported / "croissant.json").read_text())
    hashes = {
        path.relative_to(exported).as_posix(): file_hash(path)
        for path in exported.rglob("*.parquet")
    }
    assert {f["contentUrl"]: f["sha256"] for f in said["distribution"]} == hashes
    assert said["identifier"] == f"urn:sha256:{content_hash(hashes)}"
    assert said["version"].endswith(f"+{content_hash(hashes)[:12]}")


def withdrawal(kind: str, subject: str) -> Withdrawal:
    return Withdrawal(
        id=content_id(kind, subject),
        subject_kind=kind,
        subject_id=subject,
        reason="consent withdrawn",
        requested_by="data protection office",
        at="2026-01-01T00:00:00Z",
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
    with Workspace.writing(tmp_path / "w", "demo", CONFIG) as workspace:
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


def test_images_of_patients_are_said_to_be_so(tmp_path: Path) -> None:
    image = make_image(0, "g0", "train", synthetic=False)
    task = Task.make("CT", "disease", "easy", "choice", "step")
    with Workspace.writing(tmp_path / "w", "real", {}) as workspace:
        rows = [make_triplet(image, "expert", task, 0, 0)]
        commit(workspace, "expert", 0, {}, [image], rows)
        export(workspace, tmp_path / "out", "real")
    said = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert "1 images are of patients" in said["rai:personalSensitiveInformation"][0]
    assert said["rai:hasSyntheticData"] is False
    assert "Secondary Data analysis" in said["rai:dataCollectionType"]
    assert image.source not in (tmp_path / "out" / "croissant.json").read_text()
