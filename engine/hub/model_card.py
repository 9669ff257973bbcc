"""A checkpoint's card: what it was made from and how it did, from the ledger and nothing else."""

from __future__ import annotations

import json
from typing import Any

import yaml

from engine.caveats import of_judge
from engine.errors import TriptychError
from engine.hub.card import SYNTHETIC_NOTE, section, table
from engine.hub.selection import told_of
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.withdrawals import WITHDRAWN
from engine.vlm.weights import located
from engine.workspace import Workspace

# What a model saw in training and which image it was about; none where the row itself is gone.
_SEEN = """
SELECT c.row_table, c.row_id, coalesce(t.image_id, p.image_id, v.image_id) AS image_id
FROM consumption c
LEFT JOIN triplets t ON t.id = c.row_id LEFT JOIN preferences p ON p.id = c.row_id
LEFT JOIN verdicts v ON v.id = c.row_id
WHERE c.model_id = $model
"""


def model_card(workspace: Workspace, prefix: str) -> str:
    """The README.md of a checkpoint of the workspace, by its id or the beginning of it.

    Raises TriptychError where no model, or more than one, has such an id, and where the ledger or a
    shard is not what was committed.
    """
    with agreed(workspace) as ledger:
        return _card(workspace, ledger, _find(ledger, prefix))


def _card(workspace: Workspace, ledger: Ledger, model: dict[str, Any]) -> str:
    line = _line(ledger, model)
    parts = [
        f"# {workspace.config.get('name', 'triptych')} · {model['role']} · {model['id'][:12]}",
        _intro(model),
        _origin(model, line),
        _training(ledger, model),
        _withdrawn(ledger, [model, *line]),
        _evaluations(ledger, model),
        _use(),
    ]
    return f"---\n{_front_matter(workspace, model, line)}---\n\n" + "\n\n".join(parts) + "\n"


def _find(ledger: Ledger, prefix: str) -> dict[str, Any]:
    found = ledger.sql(
        "SELECT * FROM models WHERE starts_with(id, ?) QUALIFY row_number() OVER "
        "(PARTITION BY id ORDER BY sequence) = 1 ORDER BY id <> ?, id LIMIT 2",
        [prefix, prefix],
    )
    if not found:
        raise TriptychError(f"no model has an id that starts with {prefix!r}")
    if len(found) > 1 and found[0]["id"] != prefix:
        raise TriptychError(f"{prefix!r} is the start of several models' ids: give more characters")
    return found[0]


def _line(ledger: Ledger, model: dict[str, Any]) -> list[dict[str, Any]]:
    """The model's ancestors, nearest first; the last may be known by its id alone."""
    by_id = {row["id"]: row for row in ledger.sql("SELECT * FROM models ORDER BY sequence DESC")}
    line: list[dict[str, Any]] = []
    met, parent = {model["id"]}, model["parent_id"]
    while parent and parent not in met:
        met.add(parent)
        line.append(by_id.get(parent, {"id": parent, "role": "base", "stage": "", "round": 0}))
        parent = line[-1].get("parent_id")
    return line


def _front_matter(workspace: Workspace, model: dict[str, Any], line: list[dict[str, Any]]) -> str:
    front: dict[str, Any] = {
        "license": workspace.config.get("licence", "apache-2.0"),
        "language": ["en"],
        "library_name": "transformers",
        "tags": ["medical", "vqa", "triptych", model["role"]],
    }
    base = located(str(workspace.config.get("model", "tiny")))[0]
    if line and "/" in base and not base.startswith(("/", ".")):
        front["base_model"] = base
    if model["role"] != "judge":
        front["pipeline_tag"] = "image-text-to-text"
    return str(yaml.safe_dump(front, sort_keys=False, allow_unicode=True))


def _intro(model: dict[str, Any]) -> str:
    roles = {
        "generator": "asks questions about medical images and answers them",
        "judge": "scores question and answer rows for factuality, reasoning and relevance",
        "sft": "answers questions about medical images, after supervised fine-tuning",
        "policy": "answers questions about medical images, after reinforcement learning",
    }
    does = roles.get(model["role"], "is a model of the loop")
    said = f"A vision-language model of a Triptych run that {does}. Id: `{model['id']}`"
    if model["known_by"] == "files":
        return f"{said}, the hash of its files."
    return f"{said}: {told_of(model['known_by'], model['path'])}."


def _origin(model: dict[str, Any], line: list[dict[str, Any]]) -> str:
    rows = [(m["role"], m["stage"], m["round"], m["id"]) for m in [model, *line]]
    told = [(m["id"], told_of(m.get("known_by", ""), m.get("path", ""))) for m in line]
    named = [f"`{name}` is {text}." for name, text in told if text]
    return section("Made from", table(("role", "stage", "round", "id"), rows), *named)


def _training(ledger: Ledger, model: dict[str, Any]) -> str:
    seen = ledger.sql(
        "SELECT s.row_table, count(DISTINCT s.row_id) AS rows, "
        "count(DISTINCT s.image_id) AS images, "
        "count(DISTINCT s.image_id) FILTER (i.is_synthetic) AS drawn "
        f"FROM ({_SEEN}) s LEFT JOIN images i ON i.id = s.image_id GROUP BY ALL ORDER BY ALL",
        {"model": model["id"]},
    )
    counts = [(r["row_table"], r["rows"], r["images"], r["drawn"]) for r in seen]
    head = ("trained on", "rows", "images", "of these drawn by a program")
    metrics = json.loads(model["metrics"] or "{}")
    judge = metrics if model["role"] == "judge" and "gate" in metrics else None
    numbers = [(k, v) for k, v in sorted(metrics.items()) if isinstance(v, int | float)]
    blocks = [table(head, counts) if counts else "No row is recorded as trained on."]
    if any(row["drawn"] for row in seen):
        blocks.append(f"**{SYNTHETIC_NOTE}**")
    blocks += [f"**{line}.**" for line in of_judge(judge)] if judge else []
    if numbers:
        blocks.append(table(("training metric", "value"), [(k, f"{v:.4g}") for k, v in numbers]))
    return section("Training", *blocks)


def _withdrawn(ledger: Ledger, models: list[dict[str, Any]]) -> str:
    """Whether the model, or one that it was made from, saw what was withdrawn since."""
    rows = []
    for model in models:
        (seen,) = ledger.sql(
            f"SELECT count(DISTINCT row_id) AS n FROM ({_SEEN}) "
            "WHERE row_table <> 'models' "  # a judge that rewarded: it is about no image
            f"AND (image_id IS NULL OR image_id IN ({WITHDRAWN}))",
            {"model": model["id"]},
        )
        if seen["n"]:
            rows.append((model["role"], model["id"], seen["n"]))
    if not rows:
        return section("Withdrawn data", "Neither it nor a model it was made from saw any.")
    warning = "**This model learned, itself or through a parent, from data withdrawn since.**"
    return section("Withdrawn data", warning, table(("role", "id", "withdrawn rows"), rows))


def _evaluations(ledger: Ledger, model: dict[str, Any]) -> str:
    rows = ledger.sql(
        "SELECT split, modality, question_type, count(*) AS questions, "
        "avg(correct::INT) AS accuracy, count(*) FILTER (NOT valid) AS invalid "
        "FROM evaluations WHERE model_id = ? "
        "GROUP BY GROUPING SETS ((split), (split, modality), (split, question_type)) "
        "ORDER BY ALL NULLS FIRST",
        [model["id"]],
    )
    shown = [
        (
            r["split"],
            r["modality"] or "all",
            r["question_type"] or "all",
            r["questions"],
            f"{r['accuracy']:.3f}",
            r["invalid"],
        )
        for r in rows
    ]
    head = ("split", "modality", "question type", "questions", "accuracy", "invalid answers")
    return section("Evaluation", table(head, shown) if shown else "Not evaluated.")


def _use() -> str:
    return section(
        "Intended use",
        "For research on medical visual question answering. What it says is no medical advice, and "
        "no device for diagnosis may rest on it.",
    )
