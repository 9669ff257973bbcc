"""OpenLineage run events (spec 2-0-2): START and COMPLETE, FAIL or ABORT of every stage.

    https://openlineage.io/spec/2-0-2/OpenLineage.json

They are appended to openlineage.ndjson in the workspace, one a line, and posted to an HTTP endpoint
where `lineage.openlineage_url` (or OPENLINEAGE_URL) names one; OPENLINEAGE_API_KEY is its bearer
token. A job is a stage of a named run, a dataset is one table of one committed event. A run's id is
made of the stage's fingerprint: a stage that is taken up after an interruption is the same run.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine import VERSION
from engine.errors import PeopleWanted, TriptychError
from engine.private import address_told, bearer
from engine.records import TYPES_BY_TABLE, content_id, schema_of
from engine.workspace import Stage, Workspace, utc

SPEC = "https://openlineage.io/spec"
PRODUCER = f"urn:triptych:{VERSION}"
PATH = "/api/v1/lineage"  # where OpenLineage's own clients post to
SECONDS = 5  # to wait for the endpoint


def _facet(name: str, number: str, /, **values: Any) -> dict[str, Any]:
    url = f"{SPEC}/facets/{number}/{name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": url, **values}


def datasets(events: Path, commit: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of a committed event, as OpenLineage datasets of namespace `file`.

    Its run is none: OpenLineage tells of runs in its own words.
    """
    return [
        {
            "namespace": "file",
            "name": f"{events.resolve()}/{commit['folder']}/{table}",
            "facets": _facets_of(table, commit),
        }
        for table in _tables(commit)
    ]


def _tables(commit: dict[str, Any]) -> list[str]:
    return sorted(commit["rows"].keys() - {"runs"})


def _shards(table: str, commit: dict[str, Any]) -> dict[str, str]:
    named = commit.get("shards", {})
    return {name: h for name, h in named.items() if name.rpartition("-")[0] == table}


def _facets_of(table: str, commit: dict[str, Any]) -> dict[str, Any]:
    fields = [{"name": f.name, "type": str(f.type)} for f in schema_of(TYPES_BY_TABLE[table])]
    hashes = sorted(_shards(table, commit).values())
    number = content_id(*hashes) if hashes else str(commit["fingerprint"])
    return {
        "schema": _facet("SchemaDatasetFacet", "1-2-0", fields=fields),
        "version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=number),
    }


def outputs(events: Path, commit: dict[str, Any]) -> list[dict[str, Any]]:
    """`datasets` with the rows, bytes and files that the event added."""
    found = datasets(events, commit)
    for dataset, table in zip(found, _tables(commit)):
        files = [events / commit["folder"] / name for name in _shards(table, commit)]
        statistics = {
            "rowCount": commit["rows"][table],
            "size": sum(path.stat().st_size for path in files),
            "fileCount": len(files),
        }
        facet = _facet("OutputStatisticsOutputDatasetFacet", "1-0-2", **statistics)
        dataset["outputFacets"] = {"outputStatistics": facet}
    return found


class Emitter:
    """Writes the events of one run of the program; an endpoint that fails is left alone after."""

    def __init__(
        self, workspace: Workspace, name: str, url: str | None, warn: Callable[[str], None]
    ) -> None:
        self.workspace = workspace
        self.name = name
        self.file = workspace.root / "openlineage.ndjson"
        self._url = _endpoint(url or os.environ.get("OPENLINEAGE_URL"))
        self._warn = warn

    @contextmanager
    def run(self, stage: Stage, needs: list[dict[str, Any]]) -> Iterator[None]:
        """START before the body; COMPLETE after its commit, FAIL where it raises, ABORT where it is
        interrupted or waits for people.

        `needs` are the commits that the stage builds on.
        """
        event = self._event(stage, needs)
        self._send(event | {"eventType": "START"})
        try:
            yield
        except BaseException as error:
            # The class alone: a message can name a source file, and that a patient.
            message = {"message": type(error).__name__, "programmingLanguage": "Python"}
            facet = {"errorMessage": _facet("ErrorMessageRunFacet", "1-0-1", **message)}
            run = event["run"] | {"facets": event["run"]["facets"] | facet}
            waits = isinstance(error, PeopleWanted)  # nothing has failed
            kind = "FAIL" if isinstance(error, Exception) and not waits else "ABORT"
            self._send(event | {"eventType": kind, "run": run})
            raise
        commit = self.workspace.committed(stage.fingerprint)
        added = outputs(self.workspace.events, commit) if commit else []
        self._send(event | {"eventType": "COMPLETE", "outputs": added})

    def _event(self, stage: Stage, needs: list[dict[str, Any]]) -> dict[str, Any]:
        engine = {"version": VERSION, "name": "triptych"}
        job = {"processingType": "BATCH", "integration": "TRIPTYCH", "jobType": "STAGE"}
        run_id = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:triptych:stage:{stage.fingerprint}")
        return {
            "producer": PRODUCER,
            "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {
                "runId": str(run_id),
                "facets": {
                    "processing_engine": _facet("ProcessingEngineRunFacet", "1-1-1", **engine)
                },
            },
            "job": {
                "namespace": "triptych",
                "name": f"{self.name}.{stage.name}",
                "facets": {"jobType": _facet("JobTypeJobFacet", "2-0-4", **job)},
            },
            "inputs": [d for need in needs for d in datasets(self.workspace.events, need)],
            "outputs": [],
        }

    def _send(self, event: dict[str, Any]) -> None:
        line = json.dumps(event | {"eventTime": utc()}, ensure_ascii=False).encode()
        with self.file.open("ab") as out:
            out.write(line + b"\n")
        if self._url:
            try:
                self._post(self._url, line)
            except TriptychError as error:
                self._warn(
                    f"OpenLineage endpoint {address_told(self._url)}: {error}; not tried again in "
                    "this run"
                )
                self._url = None

    @staticmethod
    def _post(url: str, body: bytes) -> None:
        """Raises TriptychError where the server does not take it. No redirect is followed: the key
        is for the server that was named."""
        import httpx

        _, headers = bearer("OPENLINEAGE_API_KEY")
        headers = headers | {"Content-Type": "application/json"}
        try:
            reply = httpx.post(url, content=body, headers=headers, timeout=SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TriptychError(str(error) or type(error).__name__) from None
        if not reply.is_success:
            raise TriptychError(f"answers {reply.status_code} {reply.reason_phrase}")


def _endpoint(url: str | None) -> str | None:
    """A server's URL with the path that OpenLineage's clients post to, unless it has one."""
    try:
        bare = bool(url) and urlsplit(url).path in ("", "/")
    except ValueError:
        bare = False  # it is no address, which the first event finds
    return str(url).rstrip("/") + PATH if bare else url
