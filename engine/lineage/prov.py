"""The record as W3C PROV, in PROV-JSON (member submission of 24 April 2013).

    https://www.w3.org/submissions/prov-json/

Rows are entities, committed stages are activities, and models, experts and rules that wrote, judged
or decided are agents. A model is an entity where it is trained and an agent where it works. Rows of
training are `used` by the stage that trained; evaluations and rows are `wasDerivedFrom` what they
name, and what their words were taken from. Pixels stay in the record.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from engine import VERSION
from engine.errors import TriptychError
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.workspace import Workspace

PREFIX = {"tri": "urn:triptych:", "xsd": "http://www.w3.org/2001/XMLSchema#"}

# Of each table: which columns name what a row was derived from, and who it is attributed to.
_DERIVED = {
    "images": {"twin_of": "images"},
    "tasks": {},
    "triplets": {"image_id": "images", "task_id": "tasks"},
    "verifications": {
        "image_id": "images",
        "triplet_id": "triplets",
        "other_id": "images",
        "blind_id": "models",
        "verifier_id": "models",
    },
    "judgements": {"triplet_id": "triplets"},
    "found": {"triplet_id": "triplets"},
    "decisions": {"triplet_id": "triplets"},
    "items": {"image_id": "images", "triplet_id": "triplets", "other_id": "triplets"},
    "verdicts": {"item_id": "items", "image_id": "images", "triplet_id": "triplets"},
    "preferences": {
        "item_id": "items",
        "image_id": "images",
        "chosen_id": "triplets",
        "rejected_id": "triplets",
    },
    "models": {"parent_id": "models"},
    "evaluations": {"image_id": "images", "model_id": "models"},
}
_AGENT = {
    "triplets": "generator_id",
    "judgements": "judge_id",
    "decisions": "rules_id",
    "verdicts": "expert",
    "preferences": "expert",
    "evaluations": "model_id",
}
# What explains a row though nothing of it is named in the row: rows that name it.
_ABOUT = {"triplets": ("verifications", "judgements", "found", "decisions", "verdicts")}

Key = tuple[str, str]  # table, id


@dataclass
class Document:
    """A PROV-JSON document as it grows; relations are numbered blank nodes."""

    content: dict[str, Any] = field(default_factory=lambda: {"prefix": PREFIX})

    def element(self, kind: str, name: str, attributes: dict[str, Any]) -> None:
        self.content.setdefault(kind, {}).setdefault(name, attributes)

    def relation(self, kind: str, **members: str) -> None:
        relations = self.content.setdefault(kind, {})
        relations[f"_:{kind}{len(relations)}"] = {f"prov:{k}": v for k, v in members.items()}


def prov(workspace: Workspace, prefix: str | None = None) -> dict[str, Any]:
    """The PROV-JSON document of the whole record, or of what one row goes back to.

    `prefix` is an id or its beginning. A model's document holds the rows that it was trained on;
    of the models behind a row it holds the line of parents. Raises TriptychError where no row, or
    more than one, has such an id, and where the ledger or a shard is not what was committed.
    """
    with agreed(workspace) as ledger:
        return _document(workspace, ledger, prefix)


def _document(workspace: Workspace, ledger: Ledger, prefix: str | None) -> dict[str, Any]:
    document = Document()
    rows = _closure(ledger, _resolve(ledger, prefix)) if prefix else _everything(ledger)
    stages = {commit["sequence"]: commit for commit in workspace.commits()}
    used = {int(row["sequence"]) for row in rows.values()}
    for sequence in sorted(used if prefix else stages):
        _add_stage(document, stages[sequence])
    for (table, _), row in rows.items():
        _add_row(document, table, row, stages[row["sequence"]], rows.keys())
    for use in _consumed(ledger, [row_id for table, row_id in rows if table == "models"]):
        if (use["row_table"], use["row_id"]) in rows:
            stage = _stage_name(stages[use["sequence"]])
            entity = _name(use["row_table"], use["row_id"])
            document.relation("used", activity=stage, entity=entity)
    return document.content


def write(workspace: Workspace, prefix: str | None = None) -> str:
    """`prov` as text."""
    return json.dumps(prov(workspace, prefix), indent=1, ensure_ascii=False) + "\n"


def _everything(ledger: Ledger) -> dict[Key, dict[str, Any]]:
    return {
        (table, row["id"]): row
        for table in _DERIVED
        for row in ledger.sql(f"SELECT * FROM ({_first(table)}) ORDER BY sequence, id")
    }


def _first(table: str) -> str:
    """A table's rows, each as it was first committed."""
    return (
        f"SELECT * FROM {table} QUALIFY row_number() OVER (PARTITION BY id ORDER BY sequence) = 1"
    )


def _rows(ledger: Ledger, table: str, column: str, ids: list[str]) -> list[dict[str, Any]]:
    return ledger.sql(
        f"SELECT * FROM {table} WHERE {column} IN (SELECT unnest(?)) QUALIFY row_number() OVER "
        "(PARTITION BY id ORDER BY sequence) = 1 ORDER BY sequence, id",
        [ids],
    )


def _consumed(ledger: Ledger, models: list[str]) -> list[dict[str, Any]]:
    return ledger.sql(
        "SELECT DISTINCT row_table, row_id, sequence FROM consumption "
        "WHERE model_id IN (SELECT unnest(?)) ORDER BY ALL",
        [models],
    )


def _resolve(ledger: Ledger, prefix: str) -> Key:
    union = " UNION ".join(f"SELECT '{table}' AS kind, id FROM {table}" for table in _DERIVED)
    found = ledger.sql(
        f"SELECT kind, id FROM ({union}) WHERE starts_with(id, ?) ORDER BY id <> ?, id LIMIT 2",
        [prefix, prefix],
    )
    if not found:
        raise TriptychError(f"no row has an id that starts with {prefix!r}")
    if len(found) > 1 and found[0]["id"] != prefix:
        raise TriptychError(f"{prefix!r} is the start of several ids: give more characters")
    return found[0]["kind"], found[0]["id"]


def _closure(ledger: Ledger, start: Key) -> dict[Key, dict[str, Any]]:
    """The row, what explains it, and all that these go back to, table by table."""
    found: dict[Key, dict[str, Any]] = {}
    waiting: dict[str, set[str]] = {start[0]: {start[1]}}
    if start[0] == "models":
        for use in _consumed(ledger, [start[1]]):
            waiting.setdefault(use["row_table"], set()).add(use["row_id"])
    for table in _ABOUT.get(start[0], ()):
        column = next(c for c, of in _DERIVED[table].items() if of == start[0])
        ids = {row["id"] for row in _rows(ledger, table, column, [start[1]])}
        waiting.setdefault(table, set()).update(ids)
    while waiting:
        table, ids = waiting.popitem()
        for row in _rows(ledger, table, "id", sorted(ids)):
            found[table, row["id"]] = row
            for of, name in [*_sources(table, row), ("models", row.get(_AGENT.get(table, "")))]:
                if name and (of, name) not in found:
                    waiting.setdefault(of, set()).add(name)
    return dict(sorted(found.items(), key=lambda item: (item[1]["sequence"], item[0])))


def _sources(table: str, row: dict[str, Any], known: Collection[Key] = ()) -> list[Key]:
    """What a row was derived from. Its words may be of triplets or images: of what is known, else
    of either."""
    one = [(of, row[column]) for column, of in _DERIVED[table].items() if row[column]]
    words = [(of, name) for name in row.get("derived_from", ()) for of in ("triplets", "images")]
    return one + ([key for key in words if key in known] if known else words)


def _name(table: str, row_id: str) -> str:
    """A qualified name: `tri:` stands for urn:triptych:, so names are urn:triptych:triplet/<id>."""
    safe = "".join(c if c.isalnum() or c in "-._" else f"%{ord(c):02X}" for c in row_id)
    return f"tri:{table.removesuffix('s')}/{safe}"


def _stage_name(commit: dict[str, Any]) -> str:
    return f"tri:stage/{commit['folder']}"


def _type(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}


def _add_stage(document: Document, commit: dict[str, Any]) -> None:
    attributes = {
        "prov:type": _type("tri:Stage"),
        "prov:label": f"{commit['stage']}, round {commit['round']}",
        "tri:fingerprint": commit["fingerprint"],
    }
    times = {"prov:startTime": commit.get("started"), "prov:endTime": commit.get("ended")}
    attributes |= {key: time for key, time in times.items() if time}
    document.element("activity", _stage_name(commit), attributes)
    software = f"tri:software/{VERSION}"
    label = {"prov:type": _type("prov:SoftwareAgent"), "prov:label": "Triptych"}
    document.element("agent", software, label)
    document.relation("wasAssociatedWith", activity=_stage_name(commit), agent=software)


def _add_row(
    document: Document, table: str, row: dict[str, Any], stage: dict[str, Any], known: Any
) -> None:
    entity = _name(table, row["id"])
    kind = {"prov:type": _type(f"tri:{table.removesuffix('s').capitalize()}")}
    document.element("entity", entity, kind | _attributes(table, row))
    document.relation("wasGeneratedBy", entity=entity, activity=_stage_name(stage))
    for of, name in _sources(table, row, known):
        source = _name(of, name)
        if (of, name) not in known:  # named from outside, such as a base on the Hub
            document.element("entity", source, {"prov:label": name})
        document.relation("wasDerivedFrom", generatedEntity=entity, usedEntity=source)
    if agent := row.get(_AGENT.get(table, "")):
        said = table == "verdicts" or bool(row.get("item_id") or row.get("at"))
        name = _name("rules" if table == "decisions" else "experts" if said else "models", agent)
        kind = {"prov:type": _type("prov:SoftwareAgent"), "prov:label": agent}
        if said or agent.startswith("expert"):
            kind = {"prov:label": agent}  # a person or a rule that stands for one
        document.element("agent", name, kind)
        document.relation("wasAttributedTo", entity=entity, agent=name)


def _attributes(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """Columns as attributes, but for ids that are relations, what is empty and what is private.

    Private are reports and labels, and what a row's writer who was told of these may have quoted.
    """
    named = {"id", "sequence", "derived_from", "comment", *_DERIVED[table], _AGENT.get(table)}
    if not row.get("is_synthetic", True):
        named.add("source")  # a file's name can be a patient's
    if table == "images":
        named |= {"report", "labels"}
    if row.get("known"):
        named.add("raw")
        if row.get("problem"):
            named |= {"question", "options", "answer", "rationale"}
    return {
        f"tri:{column}": value
        for column, value in row.items()
        if column not in named and value not in (None, "", [])
    }
