"""Where a row came from and what became of it: `triptych lineage trace ID`.

A trace is a plain nested dictionary (so that it can be JSON) and is drawn as a tree. In W3C PROV's
words: the rows are entities, the stages that made them activities, models and experts agents.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.caveats import promised
from engine.errors import TriptychError, printable
from engine.lineage.ledger import INDEXED, Ledger
from engine.records import content_id

if TYPE_CHECKING:
    from rich.tree import Tree

_SHOWN = 6  # candidates named when a prefix fits several rows


def trace(ledger: Ledger, id_or_prefix: str) -> dict[str, Any]:
    """The provenance of a triplet, image, model, preference, verdict, dataset or withdrawn row.

    By its id, which is quick, or the start of it. Raises TriptychError where no row, or more than
    one, has such an id.
    """
    with ledger.reading():
        rows = ledger.find("triplets", "id", [id_or_prefix])
        if rows:
            return {"kind": "triplet", "id": id_or_prefix} | _told(ledger, rows)
        table, row_id = _search(ledger, id_or_prefix)
        return {"kind": table.removesuffix("s"), "id": row_id} | _TRACERS[table](ledger, row_id)


def resolve(ledger: Ledger, prefix: str, more: str = "") -> tuple[str, str]:
    """(table, id) of the row that an id, or the start of one, means; raises as `trace` does.

    `more` is SQL of further rows (kind, id) that may be meant.
    """
    if ledger.find("triplets", "id", [prefix]):
        return "triplets", prefix
    return _search(ledger, prefix, more)


def _search(ledger: Ledger, prefix: str, more: str = "") -> tuple[str, str]:
    """As `resolve`, for what is no whole id of a triplet."""
    columns = {t: "row_id" if t == "tombstones" else "id" for t in _TRACERS}
    union = " UNION ".join(f"SELECT '{t}' AS kind, {c} AS id FROM {t}" for t, c in columns.items())
    union += f" UNION {more}" if more else ""
    found = ledger.sql(
        f"SELECT * FROM ({union}) WHERE starts_with(id, ?) ORDER BY id <> ?, kind, id LIMIT ?",
        [prefix, prefix, _SHOWN + 1],
    )
    if not found:
        raise TriptychError(
            "no triplet, image, model, preference, verdict or dataset has an id that starts with "
            f"{prefix!r}: copy one from the export's `id` column or the report's gallery"
        )
    # A model named from outside may be the start of another's name: the whole id wins.
    if len(found) > 1 and found[0]["id"] != prefix:
        several = ", ".join(f"{r['kind'].removesuffix('s')} {r['id']}" for r in found[:_SHOWN])
        more = " and more" if len(found) > _SHOWN else ""
        raise TriptychError(f"{prefix!r} is ambiguous ({several}{more}): give more characters")
    return found[0]["kind"], found[0]["id"]


def _one(ledger: Ledger, table: str, row_id: str | None) -> dict[str, Any] | None:
    """A row with the stage that committed it first; JSON columns are opened."""
    if row_id is None:
        return None
    if (table, "id") in INDEXED:
        rows = ledger.find(table, "id", [row_id])
    else:
        query = f"SELECT * FROM {table} WHERE id = ? ORDER BY sequence LIMIT 1"
        rows = ledger.sql(query, [row_id])
    return _staged(ledger, rows[0]) if rows else None


def _staged(ledger: Ledger, row: dict[str, Any]) -> dict[str, Any]:
    return _opened(row | _stage(ledger, row["sequence"]))


def _stage(ledger: Ledger, sequence: int) -> dict[str, Any]:
    """The stage that committed a row, and the invocations that ran it."""
    return ledger.sql(
        "SELECT stage AS made_by_stage, round AS made_in_round FROM commits WHERE sequence = ?",
        [sequence],
    )[0]


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    """JSON text as values, without what the reader of a trace has no use for."""
    opened = ("rendering", "truth", "drawn", "metrics", "files", "program")
    for column in (*opened, "answers", "blind", "rubric"):
        if row.get(column):
            row[column] = json.loads(row[column])
    return {k: v for k, v in row.items() if k != "sequence" and v not in (None, [])}


def _named(models: dict[str, dict[str, Any]], model_id: str) -> dict[str, Any]:
    """A model's row, or what it is called where it has none (an expert, an outside endpoint)."""
    return models.get(model_id, {"id": model_id})


def _model(ledger: Ledger, model_id: str | None) -> dict[str, Any]:
    """A model's row, or what it is called where it has none (an expert, an outside endpoint)."""
    return _one(ledger, "models", model_id) or {"id": model_id}


def _verifications(
    ledger: Ledger, row: dict[str, Any], models: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """What was measured of a triplet's question, with the models that answered."""
    question = content_id(row["image_id"], row["question"], row["options"])
    rows = {r["id"]: r for r in reversed(ledger.find("verifications", "question_id", [question]))}
    told = []
    for found in map(_opened, reversed(rows.values())):
        named = {key: found.pop(f"{key}_id", None) for key in ("blind", "verifier")}
        asked = {f"{key}_model": _named(models, name) for key, name in named.items() if name}
        told.append({k: v for k, v in found.items() if v != ""} | asked)
    return told


def _judgements(
    ledger: Ledger, triplet_id: str, models: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    rows = {r["id"]: r for r in reversed(ledger.find("judgements", "triplet_id", [triplet_id]))}
    if not rows:
        return []
    rounds = {c["sequence"]: c["round"] for c in ledger.sql("SELECT sequence, round FROM commits")}
    return [
        {k: v for k, v in r.items() if k not in ("triplet_id", "judge_id", "sequence")}
        | {"round": rounds[r["sequence"]]}
        | {"judge": _named(models, r["judge_id"])}
        for r in reversed(rows.values())
    ]


def _decisions(ledger: Ledger, triplet_id: str) -> list[dict[str, Any]]:
    rows = ledger.find("decisions", "triplet_id", [triplet_id])
    commits = ledger.sql("SELECT sequence, metrics FROM commits WHERE stage = 'select'")
    promises = {c["sequence"]: promised(json.loads(c["metrics"])) for c in commits}
    return [
        {"decision": "keep" if r["keep"] else "reject"}
        | {k: v for k, v in r.items() if k not in ("keep", "triplet_id", "sequence")}
        | ({"promised": told} if (told := promises.get(r["sequence"])) else {})
        for r in rows
    ]


def _all_models(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Every model's row as it was first committed; there are few."""
    rows = ledger.sql(
        "SELECT m.*, c.stage AS made_by_stage, c.round AS made_in_round FROM models m "
        "JOIN commits c USING (sequence) ORDER BY m.sequence DESC"
    )
    return {row["id"]: _opened(row) for row in rows}


def _descendants(models: dict[str, dict[str, Any]], model_id: str) -> list[dict[str, Any]]:
    """Every model trained on from this one, nearest first."""
    steps, waiting = {model_id: 0}, [model_id]
    while waiting:
        parent = waiting.pop(0)
        children = [n for n, m in models.items() if m.get("parent_id") == parent and n not in steps]
        steps |= dict.fromkeys(children, steps[parent] + 1)
        waiting += children
    found = [
        {k: models[n][k] for k in ("id", "role", "stage", "round")} | {"steps": k}
        for n, k in steps.items()
        if k
    ]
    return sorted(found, key=lambda m: (m["steps"], m["round"], m["id"]))


def _used_by(
    ledger: Ledger, row_ids: list[str], models: dict[str, dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The models that saw any of the rows in training, and when, each with its descendants."""
    uses = ledger.find("consumption", "row_id", row_ids)
    models = _all_models(ledger) if models is None and uses else models or {}
    told = []
    for use in uses:
        steps = {k: use[k] for k in ("first_step", "by_step") if use[k] is not None}
        told.append(
            _named(models, use["model_id"])
            | {"saw": f"{use['row_table']} {use['row_id']}", "in_stage": use["stage"]}
            | steps
            | {"descendants": _descendants(models, use["model_id"])}
        )
    return told


def _exports(ledger: Ledger, triplet_id: str) -> list[dict[str, Any]]:
    """The datasets that a triplet was exported in, and in which split."""
    return [
        {"id": member["dataset_id"], "split": member["split"]}
        for member in ledger.find("membership", "triplet_id", [triplet_id])
    ]


def _runs(ledger: Ledger, sequences: list[int]) -> list[dict[str, Any]]:
    """The invocations that ran these stages."""
    return ledger.sql(
        "SELECT DISTINCT id, started, version, code, python FROM runs "
        "WHERE list_contains(?, sequence) ORDER BY started, id",
        [sequences],
    )


def pairs_of(ledger: Ledger, triplet_id: str) -> list[str]:
    """Ids of the preferences that a triplet is one side of, sorted."""
    sides = ("chosen_id", "rejected_id")
    return sorted({p["id"] for s in sides for p in ledger.find("preferences", s, [triplet_id])})


def _verdicts(ledger: Ledger, triplet_id: str) -> list[dict[str, Any]]:
    """What experts said of a triplet; their comments are in a verdict's own trace."""
    rows = ledger.sql(
        "SELECT DISTINCT id, verdict, reasons, correction, expert, v.at, stream, round, repeat "
        "FROM verdicts v WHERE triplet_id = ? ORDER BY v.at, id",
        [triplet_id],
    )
    shown = ("verdict", "expert", "at", "stream", "round", "id")
    return [
        {key: row[key] for key in shown}
        | {k: v for k, v in row.items() if k not in shown and v not in ("", [], False)}
        for row in rows
    ]


def _with_opinions(ledger: Ledger, triplet_id: str) -> list[str]:
    """A triplet's id with those of the preferences and verdicts about it: what trainings see."""
    said = [row["id"] for row in _verdicts(ledger, triplet_id)]
    return [triplet_id, *pairs_of(ledger, triplet_id), *said]


def _triplet(ledger: Ledger, row_id: str) -> dict[str, Any]:
    return _told(ledger, ledger.find("triplets", "id", [row_id]))


def _told(ledger: Ledger, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is told of a triplet, from its row of each stage that committed it."""
    models, row_id = _all_models(ledger), rows[0]["id"]
    row = _staged(ledger, rows[0])
    verified = _verifications(ledger, rows[0], models)
    image_id, task_id, generator_id = (
        row.pop(column, None) for column in ("image_id", "task_id", "generator_id")
    )
    image = _one(ledger, "images", image_id) or {"id": image_id}
    return row | {
        "split": image.get("split"),
        "image": image,
        "task": _one(ledger, "tasks", task_id) or {"id": task_id},
        "generator": _named(models, generator_id),
        "prompt": _one(ledger, "prompts", row.get("prompt_hash")),
        "verifications": verified,
        "judgements": _judgements(ledger, row_id, models),
        "found": next(iter(ledger.find("found", "triplet_id", [row_id])[-1:]), None),
        "decisions": _decisions(ledger, row_id),
        "verdicts": _verdicts(ledger, row_id),
        "datasets": _exports(ledger, row_id),
        "runs": _runs(ledger, [row["sequence"] for row in rows]),
        "used_by": _used_by(ledger, _with_opinions(ledger, row_id), models),
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
    twins = ledger.sql(
        "SELECT DISTINCT id, drawn FROM images WHERE twin_of = ? ORDER BY id", [row_id]
    )
    return (_one(ledger, "images", row_id) or {}) | {
        "twins": [_opened(twin) for twin in twins],
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
        "descendants": _descendants(_all_models(ledger), row_id),
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


def _verdict(ledger: Ledger, row_id: str) -> dict[str, Any]:
    row = _one(ledger, "verdicts", row_id) or {}
    made = ledger.sql(
        "SELECT DISTINCT t.id, t.answer FROM derivations d JOIN triplets t ON t.id = d.id "
        "WHERE d.source = ? AND t.generator_id = 'expert' ORDER BY t.id",
        [row.get("triplet_id")],
    )
    return row | {
        "item": _one(ledger, "items", row.get("item_id") or None),
        "triplet": _one(ledger, "triplets", row.get("triplet_id")),
        "image": _one(ledger, "images", row.get("image_id")),
        "expert_rows": made,
        "used_by": _used_by(ledger, [row_id]),
    }


def _dataset(ledger: Ledger, row_id: str) -> dict[str, Any]:
    row = _one(ledger, "datasets", row_id) or {}
    splits = ledger.sql(
        "SELECT split, count(*) AS rows FROM membership WHERE dataset_id = ? GROUP BY ALL "
        "ORDER BY ALL",
        [row_id],
    )
    return row | {"splits": splits}


def _tombstone(ledger: Ledger, row_id: str) -> dict[str, Any]:
    """A withdrawn row: when it went, what it was, and who had seen it."""
    rows = ledger.sql(
        "SELECT t.row_table, w.id AS withdrawal_id, w.at AS withdrawn, w.reason FROM tombstones t "
        "JOIN withdrawals w ON w.id = t.withdrawal_id WHERE t.row_id = ? LIMIT 1",
        [row_id],
    )
    return rows[0] | {"used_by": _used_by(ledger, [row_id]), "datasets": _exports(ledger, row_id)}


_TRACERS: dict[str, Callable[[Ledger, str], dict[str, Any]]] = {
    "triplets": _triplet,
    "images": _image,
    "models": _model_trace,
    "preferences": _preference,
    "verdicts": _verdict,
    "datasets": _dataset,
    "tombstones": _tombstone,
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
                _grow(branch.add(Text(printable(f"{head[0]} {head[1]}"))), rest)
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            shown = f"{shown:.4g}" if isinstance(shown, float) else shown
            shown = printable(f" {'none' if shown in ('', None) else shown}")
            tree.add(label.append(shown, style="default"))
