"""Where a row came from and what became of it: `triptych lineage trace ID`.

A trace is a plain nested dictionary (so that it can be JSON) and is drawn as a tree. In W3C PROV's
words: the rows are entities, the stages that made them activities, models and experts agents.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.errors import TriptychError
from engine.lineage.ledger import Ledger

if TYPE_CHECKING:
    from rich.tree import Tree

_SHOWN = 6  # candidates named when a prefix fits several rows


def trace(ledger: Ledger, id_or_prefix: str) -> dict[str, Any]:
    """The provenance of a triplet, image, model or preference, by its id or the start of it.

    Raises TriptychError where no row, or more than one, has such an id.
    """
    table, row_id = _resolve(ledger, id_or_prefix)
    return {"kind": table.removesuffix("s"), "id": row_id} | _TRACERS[table](ledger, row_id)


def _resolve(ledger: Ledger, prefix: str) -> tuple[str, str]:
    union = " UNION ".join(f"SELECT '{t}' AS kind, id FROM {t}" for t in _TRACERS)
    found = ledger.sql(
        f"SELECT * FROM ({union}) WHERE starts_with(id, ?) ORDER BY id <> ?, kind, id LIMIT ?",
        [prefix, prefix, _SHOWN + 1],
    )
    if not found:
        raise TriptychError(
            f"no triplet, image, model or preference has an id that starts with {prefix!r}: "
            "copy one from the export's `id` column or the report's gallery"
        )
    # A model named from outside may be the start of another's name: the whole id wins.
    if len(found) > 1 and found[0]["id"] != prefix:
        several = ", ".join(f"{r['kind'].removesuffix('s')} {r['id']}" for r in found[:_SHOWN])
        more = " and more" if len(found) > _SHOWN else ""
        raise TriptychError(f"{prefix!r} is ambiguous ({several}{more}): give more characters")
    return found[0]["kind"], found[0]["id"]


def _one(ledger: Ledger, table: str, row_id: str | None) -> dict[str, Any] | None:
    """A row with the stage that committed it first; JSON columns are opened."""
    rows = ledger.sql(
        f"SELECT t.*, c.stage AS made_by_stage, c.round AS made_in_round FROM {table} t "
        "JOIN commits c USING (sequence) WHERE t.id = ? ORDER BY t.sequence LIMIT 1",
        [row_id],
    )
    return _opened(rows[0]) if rows else None


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    """JSON text as values, without what the reader of a trace has no use for."""
    for column in ("rendering", "truth", "metrics"):
        if row.get(column):
            row[column] = json.loads(row[column])
    return {k: v for k, v in row.items() if k != "sequence" and v is not None}


def _model(ledger: Ledger, model_id: str | None) -> dict[str, Any]:
    """A model's row, or what it is called where it has none (an expert, an outside endpoint)."""
    return _one(ledger, "models", model_id) or {"id": model_id}


def _judgements(ledger: Ledger, triplet_id: str) -> list[dict[str, Any]]:
    rows = ledger.sql(
        "SELECT DISTINCT ON (j.id) j.*, c.round AS round FROM judgements j JOIN commits c "
        "USING (sequence) WHERE j.triplet_id = ? ORDER BY j.id, j.sequence",
        [triplet_id],
    )
    rows.sort(key=lambda r: (r["sequence"], r["id"]))
    return [
        {k: v for k, v in r.items() if k not in ("triplet_id", "judge_id", "sequence")}
        | {"judge": _model(ledger, r["judge_id"])}
        for r in rows
    ]


def _decisions(ledger: Ledger, triplet_id: str) -> list[dict[str, Any]]:
    rows = ledger.sql(
        "SELECT * EXCLUDE (triplet_id, sequence) FROM decisions WHERE triplet_id = ? "
        "ORDER BY sequence, id",
        [triplet_id],
    )
    return [{"decision": "keep" if r.pop("keep") else "reject"} | r for r in rows]


def _descendants(ledger: Ledger, model_id: str) -> list[dict[str, Any]]:
    """Every model trained on from this one, nearest first."""
    return ledger.sql(
        "WITH RECURSIVE line AS (SELECT id, 0 AS steps FROM models WHERE id = ? UNION "
        # A model can have itself for parent (a stage that changed nothing), hence the bound.
        "SELECT m.id, steps + 1 FROM models m JOIN line ON m.parent_id = line.id "
        "WHERE m.id <> line.id AND steps < 1000) "
        "SELECT m.id, m.role, m.stage, m.round, min(line.steps) AS steps FROM line "
        "JOIN models m USING (id) WHERE line.steps > 0 GROUP BY ALL ORDER BY steps, round, m.id",
        [model_id],
    )


def _used_by(ledger: Ledger, row_ids: list[str]) -> list[dict[str, Any]]:
    """The models that saw any of the rows in training, each with its descendants."""
    seen = ledger.sql(
        "SELECT DISTINCT model_id, row_id, row_table, stage FROM consumption "
        "WHERE list_contains(?, row_id) ORDER BY stage, model_id, row_id",
        [row_ids],
    )
    return [
        _model(ledger, use["model_id"])
        | {"saw": f"{use['row_table']} {use['row_id']}", "in_stage": use["stage"]}
        | {"descendants": _descendants(ledger, use["model_id"])}
        for use in seen
    ]


def _triplet(ledger: Ledger, row_id: str) -> dict[str, Any]:
    row = _one(ledger, "triplets", row_id) or {}
    pairs = ledger.sql(
        "SELECT DISTINCT id FROM preferences WHERE ? IN (chosen_id, rejected_id)", [row_id]
    )
    image_id, task_id, generator_id = (
        row.pop(column, None) for column in ("image_id", "task_id", "generator_id")
    )
    image = _one(ledger, "images", image_id) or {"id": image_id}
    return row | {
        "split": image.get("split"),
        "image": image,
        "task": _one(ledger, "tasks", task_id) or {"id": task_id},
        "generator": _model(ledger, generator_id),
        "judgements": _judgements(ledger, row_id),
        "decisions": _decisions(ledger, row_id),
        "used_by": _used_by(ledger, [row_id, *(pair["id"] for pair in pairs)]),
    }


def _image(ledger: Ledger, row_id: str) -> dict[str, Any]:
    triplets = ledger.sql(
        "SELECT t.id, t.round, t.question, t.answer, t.generator_id, arg_max(d.keep, d.sequence) "
        "AS keep, arg_max(d.reason, d.sequence) AS reason FROM triplets t LEFT JOIN decisions d "
        "ON d.triplet_id = t.id WHERE t.image_id = ? GROUP BY ALL ORDER BY t.round, t.id",
        [row_id],
    )
    preferences = ledger.sql(
        "SELECT DISTINCT id FROM preferences WHERE image_id = ? ORDER BY id", [row_id]
    )
    used = _used_by(ledger, [r["id"] for r in [*triplets, *preferences]])
    trained = {model["id"]: {k: model.get(k) for k in ("id", "role", "round")} for model in used}
    asked = ledger.sql(
        "SELECT arm, round, model_id, count(*) AS questions, sum(correct::INT) AS correct "
        "FROM evaluations WHERE image_id = ? GROUP BY ALL ORDER BY round, arm",
        [row_id],
    )
    return (_one(ledger, "images", row_id) or {}) | {
        "triplets": triplets,
        "used_by": list(trained.values()),
        "evaluations": asked,
    }


def _model_trace(ledger: Ledger, row_id: str) -> dict[str, Any]:
    row = _one(ledger, "models", row_id) or {}
    ancestors, parent, met = [], row.get("parent_id"), {row_id}
    while parent and parent not in met:
        met.add(parent)
        ancestors.append(_model(ledger, parent))
        parent = ancestors[-1].get("parent_id")
    counted = "count(DISTINCT {}) AS rows FROM {} WHERE {} = ? GROUP BY ALL ORDER BY ALL"
    return row | {
        "ancestors": ancestors,
        "descendants": _descendants(ledger, row_id),
        "consumed": ledger.sql(
            "SELECT stage, row_table, " + counted.format("row_id", "consumption", "model_id"),
            [row_id],
        ),
        "generated": ledger.sql(
            "SELECT round, " + counted.format("id", "triplets", "generator_id"), [row_id]
        ),
        "judged": ledger.sql(
            "SELECT sequence, " + counted.format("triplet_id", "judgements", "judge_id"), [row_id]
        ),
        "evaluated": ledger.sql(
            "SELECT split, arm, round, count(*) AS questions, sum(correct::INT) AS correct "
            "FROM evaluations WHERE model_id = ? GROUP BY ALL ORDER BY ALL",
            [row_id],
        ),
    }


def _preference(ledger: Ledger, row_id: str) -> dict[str, Any]:
    row = _one(ledger, "preferences", row_id) or {}
    return row | {
        "chosen": _one(ledger, "triplets", row.get("chosen_id")),
        "rejected": _one(ledger, "triplets", row.get("rejected_id")),
        "image": _one(ledger, "images", row.get("image_id")),
        "used_by": _used_by(ledger, [row_id]),
    }


_TRACERS: dict[str, Callable[[Ledger, str], dict[str, Any]]] = {
    "triplets": _triplet,
    "images": _image,
    "models": _model_trace,
    "preferences": _preference,
}


def render(trace_dict: dict[str, Any]) -> Tree:
    """A trace as a tree for the terminal."""
    from rich.text import Text
    from rich.tree import Tree

    title = Text(f"{trace_dict['kind']} {trace_dict['id']}", style="bold")
    tree = Tree(title)
    _grow(tree, {k: v for k, v in trace_dict.items() if k not in ("kind", "id")})
    return tree


def _grow(tree: Tree, values: dict[str, Any]) -> None:
    """Add what a dictionary says; a list of rows has one branch a row."""
    from rich.text import Text

    for key, value in values.items():
        label = Text(key.replace("_", " "), style="cyan")
        if isinstance(value, dict):
            _grow(tree.add(label), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            branch = tree.add(label.append(f" ({len(value)})"))
            for row in value:
                head = next(iter(row.items()))
                rest = {k: v for k, v in row.items() if k != head[0]}
                # Text, not markup: a model may have written [brackets].
                _grow(branch.add(Text(f"{head[0]} {head[1]}")), rest)
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            shown = f"{shown:.4g}" if isinstance(shown, float) else shown
            tree.add(label.append(f" {'none' if shown in ('', None) else shown}", style="default"))
