"""Croissant, PROV-JSON and OpenLineage, each read back by the standard's own library."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import mlcroissant
import pyarrow.parquet as pq
import pytest
import rdflib
import yaml
from jsonschema import Draft202012Validator, ValidationError
from openlineage.client.generated import base
from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.job_type_job import JobTypeJobFacet
from openlineage.client.generated.output_statistics_output_dataset import (
    OutputStatisticsOutputDatasetFacet,
)
from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet
from openlineage.client.generated.schema_dataset import (
    SchemaDatasetFacet,
    SchemaDatasetFacetFields,
)
from openlineage.client.serde import Serde
from prov.model import (
    ProvActivity,
    ProvAgent,
    ProvDerivation,
    ProvDocument,
    ProvEntity,
    ProvRecord,
    ProvUsage,
)
from referencing import Registry, Resource
from typer.testing import CliRunner

from engine.config import Config
from engine.errors import TriptychError
from engine.hub.card import SYNTHETIC_NOTE
from engine.hub.export import export
from engine.hub.model_card import model_card
from engine.lineage.chain import file_hash
from engine.lineage.files import listing_hash
from engine.lineage.opening import writing
from engine.lineage.prov import prov, write
from engine.lineage.withdrawals import withdrawn_ids
from engine.records import (
    Consumption,
    Decision,
    Evaluation,
    Image,
    Task,
    Triplet,
    Withdrawal,
    content_id,
)
from engine.workspace import Stage, Workspace
from pipelines.cli import app
from pipelines.context import Context, run_stage
from tests.round_workspace import commit, make_image, make_triplet

CONFIG = {"licence": "cc-by-4.0", "name": "demo"}
CR = rdflib.Namespace("http://mlcommons.org/croissant/")
RAI = rdflib.Namespace("http://mlcommons.org/croissant/RAI/")
SDO = rdflib.Namespace("https://schema.org/")
PROV = rdflib.Namespace(str(rdflib.PROV))  # prov:label is of PROV-DM


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


# OpenLineage


class Collector(ThreadingHTTPServer):
    """An OpenLineage server that keeps what is posted; `status` is what it answers."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.status = status
        self.received: list[tuple[str, str, dict[str, Any]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        bearer = self.headers.get("Authorization", "")
        self.server.received.append((self.path, bearer, event))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def collecting(status: int) -> Iterator[Collector]:
    server = Collector(status)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def stages(workspace: Workspace, url: str | None, said: list[str]) -> None:
    """Two stages of which the second builds on the first, then one that fails, one interrupted."""
    config = Config(name="demo", lineage={"openlineage_url": url})
    context = Context(workspace, config)
    context.display.warn = said.append  # type: ignore[method-assign]

    def images(_: Context, stage: Stage) -> None:
        stage.write(Image, [make_image(0, "g0", "train"), make_image(1, "g1", "train")])

    def rows(context: Context, stage: Stage) -> None:
        task = Task.make("CT", "disease", "easy", "choice", "step")
        stage.write(Task, [task])
        triplets = [make_triplet(i, "expert", task, 0, 1) for i in context.images()]
        stage.write(Triplet, triplets[:1], "000")
        stage.write(Triplet, triplets[1:], "001")

    def fails(_: Context, stage: Stage) -> None:
        raise ValueError("cannot read Doe^Jane.dcm")

    def stopped(_: Context, stage: Stage) -> None:
        raise KeyboardInterrupt

    run_stage(context, "ingest", 0, images, [], {})
    run_stage(context, "generate", 1, rows, [("ingest", 0)], {})
    with pytest.raises(ValueError):
        run_stage(context, "judge", 1, fails, [("generate", 1)], {})
    with pytest.raises(KeyboardInterrupt):
        run_stage(context, "select", 1, stopped, [("generate", 1)], {})


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("told") / "w"
    with writing(root, "demo", CONFIG) as workspace:
        stages(workspace, None, [])
    return workspace, [json.loads(line) for line in (root / "openlineage.ndjson").open()]


FACETS = {
    "processing_engine": ProcessingEngineRunFacet,
    "errorMessage": ErrorMessageRunFacet,
    "jobType": JobTypeJobFacet,
    "schema": SchemaDatasetFacet,
    "version": DatasetVersionDatasetFacet,
    "outputStatistics": OutputStatisticsOutputDatasetFacet,
}
FACET_MEMBERS = {"facets", "outputFacets"}
CLASSES = {
    "run": base.Run,
    "job": base.Job,
    "inputs": base.InputDataset,
    "outputs": base.OutputDataset,
    "fields": SchemaDatasetFacetFields,
}


def built(kind: Any, values: dict[str, Any]) -> Any:
    """An object of the classes that OpenLineage generates from its schema: they refuse unknown and
    missing members and check ids, times and URIs. Members that they set themselves are left out."""
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key in ("_schemaURL", "schemaURL"):
            continue
        if key in FACET_MEMBERS:
            given[key] = {name: built(FACETS[name], facet) for name, facet in value.items()}
        elif key == "eventType":
            given[key] = base.EventType[value]
        elif key in CLASSES and isinstance(value, list):
            given[key] = [built(CLASSES[key], item) for item in value]
        elif key in CLASSES:
            given[key] = built(CLASSES[key], value)
        else:
            given[key.removeprefix("_")] = value
    return kind(**given)


def without_empty(value: Any) -> Any:
    """Without empty members, and with no more of a schema's version than its first number."""
    if isinstance(value, dict):
        kept = {k: without_empty(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in ({}, [], None)}
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    if isinstance(value, str) and value.startswith("https://openlineage.io/spec"):
        return re.sub(r"/(\d+)-\d+-\d+/", r"/\1/", value)
    return value


def test_openlineages_own_classes_take_every_event_and_write_the_same(
    told: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    for event in told[1]:
        again = Serde.to_dict(built(base.RunEvent, event))
        assert without_empty(again) == without_empty(event)


def described(value: Any) -> Iterator[dict[str, Any]]:
    """Every object that names its schema: the event and its facets."""
    if isinstance(value, dict):
        if value.keys() & {"schemaURL", "_schemaURL"}:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from described(item)


SPEC = os.environ.get("OPENLINEAGE_SPEC", "")


@pytest.mark.skipif(not SPEC, reason="OPENLINEAGE_SPEC names no folder of OpenLineage's schemas")
def test_events_and_facets_are_valid_by_the_schemas_that_they_name(
    told: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    """Schemas of one checkout go together: a file is found by its name, whatever its version."""

    def retrieve(uri: str) -> Resource[Any]:
        (path,) = Path(SPEC).rglob(Path(uri).name)
        return Resource.from_contents(json.loads(path.read_text()))

    seen = set()
    for value in described(told[1]):
        url = value.get("schemaURL") or value["_schemaURL"]
        validator = Draft202012Validator(
            {"$ref": url},
            registry=Registry(retrieve=retrieve),
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        )
        validator.validate(value)
        with pytest.raises(ValidationError):
            validator.validate({k: v for k, v in value.items() if not k.endswith("roducer")})
        seen.add(url.rpartition("/")[2])
    assert seen == {"RunEvent", *(facet.__name__ for facet in FACETS.values())}


def test_a_stage_starts_and_ends_and_names_what_it_read_and_wrote(
    told: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    workspace, events = told
    said = [(e["eventType"], e["job"]["name"]) for e in events]
    assert said == [
        ("START", "demo.ingest"),
        ("COMPLETE", "demo.ingest"),
        ("START", "demo.generate"),
        ("COMPLETE", "demo.generate"),
        ("START", "demo.judge"),
        ("FAIL", "demo.judge"),
        ("START", "demo.select"),
        ("ABORT", "demo.select"),
    ]
    assert len({e["run"]["runId"] for e in events}) == 4
    assert [e["eventTime"] for e in events] == sorted(e["eventTime"] for e in events)
    made = {
        Path(d["name"]).name: d["outputFacets"]["outputStatistics"] for d in events[3]["outputs"]
    }
    assert {t: (s["rowCount"], s["fileCount"]) for t, s in made.items()} == {
        "tasks": (1, 1),
        "triplets": (2, 2),
    }
    read = [d["name"] for d in events[3]["inputs"]]
    assert read == [f"{workspace.events.resolve()}/00000-ingest-r0/images"]
    assert read == [d["name"] for d in events[1]["outputs"]]


def test_a_failures_text_stays_at_home(told: tuple[Workspace, list[dict[str, Any]]]) -> None:
    workspace, events = told
    assert events[5]["run"]["facets"]["errorMessage"]["message"] == "ValueError"
    assert "Doe" not in (workspace.root / "openlineage.ndjson").read_text()


def test_an_endpoint_gets_what_the_file_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "key")
    said: list[str] = []
    with collecting(201) as server:
        with writing(tmp_path / "w", "demo", CONFIG) as workspace:
            stages(workspace, server.url, said)
    lines = (tmp_path / "w" / "openlineage.ndjson").read_text().splitlines()
    assert [event for _, _, event in server.received] == [json.loads(line) for line in lines]
    assert {(path, bearer) for path, bearer, _ in server.received} == {
        ("/api/v1/lineage", "Bearer key")
    }
    assert said == []


@pytest.mark.parametrize("status", [500, None])
def test_a_failing_endpoint_is_one_line_and_stops_nothing(
    tmp_path: Path, status: int | None
) -> None:
    said: list[str] = []
    with collecting(status or 200) as server:
        url = server.url if status else "http://127.0.0.1:9"
        with writing(tmp_path / "w", "demo", CONFIG) as workspace:
            stages(workspace, url, said)
        assert len(workspace.commits()) == 2
    (line,) = said
    assert line.startswith(f"OpenLineage endpoint {url}/api/v1/lineage: ")
    assert len((tmp_path / "w" / "openlineage.ndjson").read_text().splitlines()) == 8
    assert len(server.received) == (1 if status else 0)


# Model cards


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


# PROV-JSON


def document_of(content: dict[str, Any]) -> ProvDocument:
    """Read by the `prov` package, which refuses what is no PROV-JSON."""
    return ProvDocument.deserialize(content=json.dumps(content), format="json")


def records(document: ProvDocument, kind: type[ProvRecord]) -> list[ProvRecord]:
    return list(document.get_records(kind))


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
        *("triplet", "image", "task", "judgement", "decision", "model")
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
