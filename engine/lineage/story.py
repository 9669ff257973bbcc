"""One row's whole story, for `triptych lineage why-not ID`: from what was asked to where it went.

Told from a row's trace (`engine.lineage.trace`), with what a trace leaves out: the other answers to
its question, and the row or benchmark for which it was refused.
"""

from __future__ import annotations

from typing import Any

from engine.lineage.ledger import Ledger
from engine.lineage.trace import trace
from engine.reasons import FURTHER, other_row

_RIVALS = """
WITH row AS (SELECT DISTINCT image_id, question, options, round FROM triplets WHERE id = $1)
SELECT DISTINCT t.id, t.answer, t.sample
FROM triplets t JOIN row USING (image_id, question, options, round) WHERE t.id <> $1
ORDER BY t.sample, t.id
"""
# Of the choice alone something else is said than that another row of its question is better.
_BEATEN = (FURTHER, "same answer as the chosen row", "another answer was judged better",
           "samples agree on another answer")  # fmt: skip


def story(ledger: Ledger, row_id: str) -> dict[str, Any]:
    """What is known of a triplet in the order in which it came about; what there is not is empty.

    `winner` is the id of the row that was chosen among the answers to the question. Of a kept row
    `went` says which models were trained on it and which exports it is in.
    """
    told = trace(ledger, row_id)
    with ledger.reading():
        rivals = [] if told.get("problem") else _others(ledger, row_id)
        decisions = told["decisions"]
        reason = decisions[-1]["reason"] if decisions else ""
        other = other_row(reason)
        beside = _short(trace(ledger, other)) if other and _known(ledger, other) else None
    own = [{"id": row_id, "reason": reason}] if reason else []
    chosen = [r["id"] for r in [*own, *rivals] if _is_choice(r["reason"])]
    return {
        "asked": {
            key: told["task"].get(key)
            for key in ("modality", "question_type", "difficulty", "answer_format", "prompt_style")
            if told["task"].get(key)
        }
        | {"round": told["round"], "image_id": told["image"]["id"]},
        "written": {
            key: told.get(key) for key in ("question", "options", "answer", "rationale", "problem")
        }
        | {"by": told["generator"]["id"], "sample": told["sample"]},
        "judged": told["judgements"],
        "rivals": rivals,
        "winner": chosen[0] if len(chosen) == 1 else None,
        "decided": decisions,
        "other_row": beside or other,
        "verdicts": told["verdicts"],
        "went": where_it_went(told),
    }


def where_it_went(told: dict[str, Any]) -> dict[str, Any]:
    """Of a row's trace, that of a withdrawn one too: what was trained on it, what it left in."""
    keys = ("id", "role", "stage", "round", "in_stage")
    models = [{key: model.get(key) for key in keys} for model in told["used_by"]]
    return {"models": models, "datasets": told["datasets"]}


def _others(ledger: Ledger, row_id: str) -> list[dict[str, Any]]:
    """The other answers to a row's question, with what was thought and decided of each last."""
    rows = ledger.sql(_RIVALS, [row_id])
    ids = [row["id"] for row in rows]
    decided = {d["triplet_id"]: d for d in ledger.find("decisions", "triplet_id", ids)}
    judged = {j["triplet_id"]: j for j in ledger.find("judgements", "triplet_id", ids)}
    return [
        row
        | {key: decided.get(row["id"], {}).get(key) for key in ("keep", "reason", "score")}
        | {"probability": judged.get(row["id"], {}).get("probability")}
        for row in rows
    ]


def _known(ledger: Ledger, row_id: str) -> bool:
    return bool(ledger.find("triplets", "id", [row_id]))


def _short(told: dict[str, Any]) -> dict[str, Any]:
    keys = ("id", "question", "options", "answer", "round")
    last = told["decisions"][-1] if told["decisions"] else {}
    return {key: told.get(key) for key in keys} | {
        "image_id": told["image"]["id"],
        "reason": last.get("reason"),
    }


def _is_choice(reason: str | None) -> bool:
    """Whether a decision is of its question's chosen row."""
    if reason is None or reason.startswith(_BEATEN):
        return False
    return not reason.startswith(("form: ", "judge: ", "log-probability: "))


def lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    """A story as (what, sentence), for people; several sentences may be of one thing."""
    asked, written = told["asked"], told["written"]
    about = [
        asked.get(key, "") for key in ("question_type", "difficulty", "answer_format", "modality")
    ]
    found = [
        ("asked", f"{', '.join(filter(None, about)) or 'nothing in particular'}, of image "
         f"{asked['image_id']}, round {asked['round']}")
    ]  # fmt: skip
    by = "an expert" if written["by"] == "expert" else f"model {written['by'][:12]}"
    found.append(("written", f"by {by}, sample {written['sample']}: {_said(written)}"))
    if written.get("rationale"):
        found.append(("", f"because: {written['rationale']}"))
    if written.get("problem"):
        found.append(("problem", written["problem"]))
    for opinion in told["judged"]:
        scores = ", ".join(
            f"{key} {opinion[key]:.3g}" for key in ("factuality", "reasoning", "relevance")
        )
        found.append(
            ("judged", f"acceptable with probability {opinion['probability']:.2f} ({scores}), by "
             f"{opinion['judge']['id'][:12]}")
        )  # fmt: skip
    found += _rivals(told)
    for verdict in told["verdicts"]:
        found.append(("expert", f"{verdict['expert']}: {verdict['verdict']} ({verdict['stream']})"))
    for decision in told["decided"]:
        found.append(
            ("decided", f"{decision['decision']} in round {decision['round']}: "
             f"{decision['reason']} (confidence {decision['score']:.3g}, threshold "
             f"{decision['threshold']:.3g})")
        )  # fmt: skip
    other = told["other_row"]
    if isinstance(other, dict):
        found.append(("", f"row {other['id']}, round {other['round']}: {_said(other)}"))
    elif other:
        found.append(("", f"row {other} is no longer in the record: it was withdrawn"))
    return [*found, *went_lines(told["went"])]


def _rivals(told: dict[str, Any]) -> list[tuple[str, str]]:
    if not told["rivals"]:
        return []
    found = [("rivals", f"{len(told['rivals'])} other samples of its question")]
    counts: dict[str, int] = {}
    for rival in told["rivals"]:
        what = f"{rival['answer'] or 'no answer'}: {rival['reason'] or 'not decided'}"
        counts[what] = counts.get(what, 0) + 1
    found += [("", f"{count} × {what}") for what, count in counts.items()]
    if told["winner"]:
        found.append(("", f"chosen of its question: {told['winner']}"))
    return found


def went_lines(went: dict[str, Any]) -> list[tuple[str, str]]:
    """What `where_it_went` says, for people."""
    found = [
        ("went", f"{model['in_stage']} of {model['role']} {model['id'][:12]}, round "
         f"{model['round']}")
        for model in went.get("models", ())
        if model["role"]
    ]  # fmt: skip
    return found + [
        ("went", f"dataset {of['id'][:12]}, split {of['split']}") for of in went.get("datasets", ())
    ]


def _said(row: dict[str, Any]) -> str:
    options = f" [{' | '.join(row['options'])}]" if row.get("options") else ""
    return f"{row.get('question') or 'no question'}{options} → {row.get('answer') or 'no answer'}"
