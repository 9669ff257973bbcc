"""What is told of stages in OpenLineage, by its own classes and schemas."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
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
from referencing import Registry, Resource

from engine.config import Config
from engine.errors import PeopleWanted
from engine.lineage.opening import writing
from engine.records import (
    Image,
    Task,
    Triplet,
)
from engine.workspace import Stage, Workspace
from pipelines.context import Context, run_stage
from tests.round_workspace import make_image, make_triplet

CONFIG = {"licence": "cc-by-4.0", "name": "demo"}


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


def test_a_stage_that_waits_for_people_has_not_failed(tmp_path: Path) -> None:
    def waits(_: Context, stage: Stage) -> None:
        raise PeopleWanted("2 answers are wanted")

    with writing(tmp_path / "w", "demo", CONFIG) as workspace:
        context = Context(workspace, Config(name="demo"))
        with pytest.raises(PeopleWanted):
            run_stage(context, "collect", 0, waits, [], {})
    lines = (tmp_path / "w" / "openlineage.ndjson").read_text().splitlines()
    assert [json.loads(line)["eventType"] for line in lines] == ["START", "ABORT"]
