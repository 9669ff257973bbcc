"""The report of a workspace: one HTML file that says what was gained, from what, and at what cost.

    triptych report --workspace runs/demo

Nothing in it is fetched from elsewhere. Accuracies are counted from the evaluated rows, not taken
from a stage's own metrics, so that the split and the interval are the same throughout.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from engine.caveats import of_judge, of_selection, promised
from engine.hub.card import SYNTHETIC_NOTE
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.standing import DECIDED, WRITTEN, standing
from engine.lineage.withdrawals import WITHDRAWN
from engine.pixels import Pixels
from engine.reasons import KIND
from engine.statistics import cluster_bootstrap, wilson
from engine.workspace import Workspace
from generators.quotas import Unfilled
from pipelines.adherence import NUMBERS, cells_of, name_of, of_record
from pipelines.heard import heard_in
from pipelines.progress import judge_auc, rolled_back
from pipelines.report.figures import (
    accuracy_figure,
    bars_figure,
    heatmap_figure,
    lines_figure,
    margins_figure,
    steps_figure,
    waterfall_figure,
)
from reward_model.agreement import HEAD, agreements, lines_of

ARMS = ("base", "sft", "policy")
KEPT_SHOWN, REJECTED_SHOWN, REFUSALS_SHOWN = 12, 6, 50
FIRST = 10_000  # rows of each reason that those which are shown are chosen from
_THUMBNAIL = 256  # pixels on the longer side
_SEED = 0


def write_report(workspace: Workspace, out: Path) -> Path:
    """Write `out`/index.html for whatever stages there are so far; returns its path.

    Raises TriptychError where the ledger or a shard is not what was committed.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent)
    # Questions and answers are a model's text: escaped, whatever the template's name ends in.
    jinja = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    with agreed(workspace):
        html = jinja.get_template("report.html.jinja").render(contents(workspace))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "index.html"
    partial = path.with_name(".index.html.partial")
    partial.write_text(html, encoding="utf-8")
    partial.replace(path)
    return path


def contents(workspace: Workspace) -> dict[str, Any]:
    """Everything the template shows; what no stage has made yet is empty."""
    with standing(workspace.ledger()):
        return _contents(workspace, workspace.ledger(), workspace.commits())


def _contents(
    workspace: Workspace, ledger: Ledger, commits: list[dict[str, Any]]
) -> dict[str, Any]:
    split, scores = accuracy(ledger)
    decided = ledger.sql(f"SELECT keep, count(*) AS n FROM decisions WHERE {DECIDED} GROUP BY keep")
    gallery = _gallery(workspace, ledger)
    synthetic = ledger.sql("SELECT count(*) AS n FROM images WHERE is_synthetic")[0]["n"]
    refusals = ledger.sql(
        "SELECT path, frame, reason, status, path IN (SELECT source FROM images) AS used "
        "FROM refusals r "
        "ANTI JOIN (SELECT image_id FROM reviews WHERE verdict = 'released') v "
        "ON v.image_id = r.image_id AND r.status = 'quarantined' "
        "WHERE r.status <> 'skipped' ORDER BY path, frame"
    )
    unused = {r["path"] for r in refusals if not r["used"] and r["status"] != "gold"}
    return {
        "name": workspace.described()["name"],
        "note": SYNTHETIC_NOTE if synthetic else None,
        "split": split,
        "scores": scores,
        "headline": _headline(scores),
        "caveats": caveats(commits),
        "rolled_back": [commit["round"] for commit in commits if rolled_back(commit)],
        "renewed": [
            f"Round {commit['round']}: {commit['metrics']['words']}"
            for commit in commits
            if commit["stage"] == "renew"
        ],
        "tiles": _tiles(ledger, {r["keep"]: r["n"] for r in decided}, len(unused)),
        "figures": _figures(ledger, commits, scores, split),
        "quotas": quotas(commits),
        "agreement": _agreement(ledger),
        "agreement_head": HEAD,
        "kept": [row for row in gallery if row["keep"]],
        "rejected": [row for row in gallery if not row["keep"]],
        "stages": [_stage_line(commit) for commit in commits],
        "seconds": sum(commit["seconds"] for commit in commits),
        "refusals": refusals[:REFUSALS_SHOWN],
        "refused": len(refusals),
    }


def _agreement(ledger: Ledger) -> list[tuple[str, list[tuple[str, ...]]]]:
    """How far readers agree in the record, as lines of a table, by what they were asked."""
    heard = heard_in(ledger)
    return [(one.of, lines_of(one)) for one in agreements(heard.answers, heard.patients, _SEED)]


def quotas(commits: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What was asked, generated, kept and found in the last round that was decided on.

    Adherence is of all rounds, and what could not be asked too; None before any selection.
    """
    selects = {c["round"]: c["metrics"] for c in commits if c["stage"] == "select"}
    selects = {r: m for r, m in sorted(selects.items()) if "cells" in m}
    if not selects:
        return None
    last = max(selects)
    shown, rest = of_record(selects[last]["cells"])
    plans = {c["round"]: c["metrics"] for c in commits if c["stage"] == "plan"}
    return {
        "round": last,
        "axes": " · ".join(a.replace("_", " ") for a in selects[last]["cells"]["axes"]),
        "head": NUMBERS,
        "lines": [(name_of(line), *cells_of(line)) for line in [*shown, *([rest] if rest else [])]],
        "adherence": {r: m["adherence"] for r, m in selects.items()},
        "unfilled": [
            f"Round {r}: {Unfilled(**one)}"
            for r, m in sorted(plans.items())
            for one in m.get("unfilled", ())
        ],
    }


def caveats(commits: list[dict[str, Any]]) -> list[str]:
    """What judges and selections a reader should know to be weak, in order, with their rounds."""
    found = []
    for commit in commits:
        metrics = commit["metrics"]
        if commit["stage"] == "select":
            told = promised(metrics) + of_selection(metrics)
            found += [f"Round {commit['round']}: {line}" for line in told]
        elif commit["stage"] == "reward" and "gate" in metrics:
            found += [f"Before the rounds: {line}" for line in of_judge(metrics)]
    return found


def accuracy(ledger: Ledger) -> tuple[str, list[dict[str, Any]]]:
    """Accuracy of each round and arm on the test split (validation where there is no test).

    Each has a 95 % interval from resampling patients, and its paired change from the round's base.
    """
    rows = ledger.sql(
        'SELECT e.*, i."group" FROM evaluations e LEFT JOIN (SELECT DISTINCT id, "group" '
        f"FROM images) i ON i.id = e.image_id WHERE e.image_id NOT IN ({WITHDRAWN}) "
        "ORDER BY e.round, e.arm, e.id"
    )
    split = "test" if any(r["split"] == "test" for r in rows) or not rows else "val"
    arms: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["split"] == split:
            arms.setdefault((row["round"], row["arm"]), []).append(row)
    order = {arm: i for i, arm in enumerate(ARMS)}
    keys = sorted(arms, key=lambda k: (k[0], order.get(k[1], len(order)), k[1]))
    return split, [_score(key, arms[key], _base_of(arms, key[0])) for key in keys]


def _base_of(arms: dict[tuple[int, str], list[dict[str, Any]]], round: int) -> list[dict[str, Any]]:
    """The answers of a round's base; the last one before it where a round did not ask again."""
    rounds = [r for r, arm in arms if arm == "base" and r <= round]
    return arms[(max(rounds), "base")] if rounds else []


def _group(row: dict[str, Any]) -> str:
    return str(row["group"] or row["image_id"])


def _score(
    key: tuple[int, str], rows: list[dict[str, Any]], base: list[dict[str, Any]]
) -> dict[str, Any]:
    correct = [int(r["correct"]) for r in rows]
    hits, n = sum(correct), len(correct)
    # All right or all wrong leaves nothing to resample; Wilson still knows how few they were.
    certain = hits in (0, n)
    low, high = (
        wilson(hits, n) if certain else cluster_bootstrap(correct, [_group(r) for r in rows], _SEED)
    )
    score = {"round": key[0], "arm": key[1], "accuracy": hits / n, "low": low, "high": high, "n": n}
    invalid = sum(not r["valid"] for r in rows)
    return score | {"invalid": invalid, "change": None if key[1] == "base" else _change(rows, base)}


def _change(rows: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, float] | None:
    """The paired difference from the base on the questions that both answered."""
    before = {(r["image_id"], r["question"]): int(r["correct"]) for r in base}
    pairs = [(r, (r["image_id"], r["question"])) for r in rows]
    both = [(int(r["correct"]) - before[key], _group(r)) for r, key in pairs if key in before]
    if not both:
        return None
    difference = [d for d, _ in both]
    low, high = cluster_bootstrap(difference, [g for _, g in both], _SEED)
    return {"mean": float(np.mean(difference)), "low": low, "high": high}


def _headline(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arms of the last round that was evaluated, after the base they are compared with."""
    last = [s for s in scores if s["round"] == scores[-1]["round"]] if scores else []
    bases = [s for s in scores if s["arm"] == "base"]
    return last if not bases or any(s["arm"] == "base" for s in last) else [bases[-1], *last]


def _tiles(ledger: Ledger, decided: dict[bool, int], refused: int) -> list[tuple[str, str]]:
    images = ledger.sql('SELECT count(DISTINCT id) AS n, count(DISTINCT "group") AS g FROM images')
    triplets = ledger.sql(f"SELECT count(*) AS n FROM triplets WHERE {WRITTEN}")[0]["n"]
    pairs = ledger.sql("SELECT count(DISTINCT id) AS n FROM preferences")[0]["n"]
    kept, total = decided.get(True, 0), sum(decided.values())
    share = f"{kept:,} ({kept / total:.0%})" if total else "none yet"
    return [
        ("images", f"{images[0]['n']:,}"),
        ("patients or studies", f"{images[0]['g']:,}"),
        ("files not used", f"{refused:,}"),
        ("triplets", f"{triplets:,}"),
        ("kept of the judged", share),
        ("expert preferences", f"{pairs:,}"),
    ]


def _figures(
    ledger: Ledger, commits: list[dict[str, Any]], scores: list[dict[str, Any]], split: str
) -> list[dict[str, str]]:
    """The figures there is data for, each with a title and a sentence on how to read it."""
    drawn = []
    if scores:
        note = f"On the {split} split; bars are 95 % intervals from resampling patients."
        drawn.append(("Accuracy by round", note, accuracy_figure(scores)))
        last = _headline(scores)[-1]
        note = f"The {last['arm']} of round {last['round']} on the {split} split."
        cells = _cells(ledger, last["round"], last["arm"], split)
        drawn.append(("Accuracy by modality and question type", note, heatmap_figure(cells)))
    selects = {c["round"]: c["metrics"] for c in commits if c["stage"] == "select"}
    names = ("precision_before", "precision_after", "kept_fraction")
    series = _series(selects, {name: name.replace("_", " ") for name in names})
    if series:
        note = "Precision is the share of true answers, counted where an image's truth is known."
        drawn.append(("What selection does", note, lines_figure("select", series)))
    series = _judge_series(commits)
    if series:
        note = "AUC of telling good from bad rows of frozen patients; 0.5 is chance."
        drawn.append(
            (
                "The judge against the generator's own log-probability",
                note,
                lines_figure("judge", series, low=0.4),
            )
        )
    series = _drift(commits)
    if series:
        note = (
            "The judge that judged a round, before it was refined, on that round's verdicts of "
            "patients from whom no judge learns."
        )
        drawn.append(("How the judge drifts", note, lines_figure("drift", series)))
    for round, metrics in sorted(selects.items()):
        if steps := metrics.get("waterfall"):
            note = "How many rows each reason took, in the order in which a row is looked at."
            drawn.append((f"From generated to kept, round {round}", note,
                          waterfall_figure(f"waterfall-{round}", steps)))  # fmt: skip
    drawn += _seeing(commits) + _rewards(commits)
    reasons = ledger.sql(
        f"SELECT {KIND} AS why, count(*) AS n FROM decisions WHERE NOT keep GROUP BY ALL"
    )
    if reasons:
        bars = bars_figure("reasons", {r["why"]: r["n"] for r in reasons})
        drawn.append(("Why rows were rejected", "Decisions of all rounds.", bars))
    return [{"title": title, "note": note, "svg": svg} for title, note, svg in drawn]


def _rewards(commits: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The parts of GRPO's reward by step, and the share that was cut off, a figure a round."""
    found = {c["round"]: c["metrics"].get("by_step") for c in commits if c["stage"] == "grpo"}
    names = ("correct", "judge", "process", "format", "length", "truncated")
    note = "Means over a step's completions, as given; truncated: cut off at the length allowed."
    return [
        (
            f"GRPO by step, round {round}",
            note,
            steps_figure(
                f"grpo-{round}", steps["step"], {n: steps[n] for n in names if n in steps}
            ),
        )
        for round, steps in sorted(found.items())
        if steps and len(steps["step"]) > 1
    ]


def _seeing(commits: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What was verified of questions, by round, and the margins of the last round that has any."""
    found = {c["round"]: c["metrics"] for c in commits if c["stage"] == "verify"}
    names = {
        "pass_rate": "samples that agree",
        "answered_blind": "answered blind",
        "essentials_passed": "pass the rubric's essentials",
    }
    drawn = []
    if series := _series(found, names):
        note = "Of a round's questions, before anything is judged: means and shares."
        drawn.append(("What was verified", note, lines_figure("verified", series)))
    if margins := [m["margins"] for _, m in sorted(found.items()) if m.get("margins")]:
        note = "Questions of the last round; at 0 and below the image was not needed."
        drawn.append(("What seeing is worth", note, margins_figure(margins[-1])))
    return drawn


def _cells(ledger: Ledger, round: int, arm: str, split: str) -> list[dict[str, Any]]:
    return ledger.sql(
        "SELECT modality, question_type, avg(correct::INT) AS accuracy, count(*) AS n "
        "FROM evaluations WHERE round = ? AND arm = ? AND split = ? "
        f"AND image_id NOT IN ({WITHDRAWN}) GROUP BY ALL ORDER BY ALL",
        [round, arm, split],
    )


def _series(
    by_round: dict[int, dict[str, Any]], labels: dict[str, str]
) -> dict[str, dict[int, float]]:
    """{label: {round: value}} of the metrics that any round has."""
    series = {
        label: {r: m[name] for r, m in sorted(by_round.items()) if _is_number(m.get(name))}
        for name, label in labels.items()
    }
    return {label: points for label, points in series.items() if points}


def _is_number(value: Any) -> bool:
    """False for what a stage could not measure: None, or the NaN of an empty class."""
    return value is not None and not np.isnan(value)


def _drift(commits: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """AUC and calibration of each round's judge on verdicts of that round."""
    own = {
        c["round"]: told
        for c in commits
        if c["stage"] == "refine"
        for told in c["metrics"].get("drift", ())
        if told["round"] == c["round"]
    }
    names = {"auc": "AUC", "ece": "calibration error", "precision": "accepted of random rows"}
    return _series(own, names)


def _judge_series(commits: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """The judge in use after each round, and what it has to beat before the rounds."""
    first = {c["round"]: c["metrics"] for c in commits if c["stage"] == "reward"}
    names = {
        "logprob_auc": "generator's log-probability, own pairs",
        "blind_auc": "a judge that reads words alone",
    }
    others = _series(first, names)
    judge = judge_auc(commits)
    return others | ({"judge": judge} if judge else {})


# Of each kind of reason the first FIRST rows by id, which are hashes: no more has to be joined with
# what it is about, however many there are.
_FIRST = f"""
CREATE OR REPLACE TABLE memory.first AS
SELECT keep, kind, row.id, row.place FROM (
    SELECT keep, {KIND} AS kind,
        unnest(arg_min({{'id': triplet_id, 'place': place}}, triplet_id, {FIRST})) AS row
    FROM (SELECT *, rowid AS place FROM decisions WHERE {DECIDED}) GROUP BY keep, kind
)
"""
# Of each modality, question type and reason the first of these, then the second, until there are
# enough. Only what is shown is read with its words.
_SHOWN = f"""
WITH known AS (
    SELECT f.*, t.rowid AS triplet, t.image_id, t.task_id
    FROM memory.first f JOIN triplets t ON t.id = f.id WHERE t.{WRITTEN}
), pictured AS (
    SELECT id, arg_min(modality, sequence) AS modality FROM images
    WHERE id IN (SELECT image_id FROM known) AND id NOT IN ({WITHDRAWN}) GROUP BY id
), numbered AS (
    SELECT k.*, modality, question_type, row_number() OVER
        (PARTITION BY keep, modality, question_type, kind ORDER BY k.id) AS nth
    FROM known k JOIN pictured i ON i.id = k.image_id
    LEFT JOIN (SELECT DISTINCT id, question_type FROM tasks) q ON q.id = k.task_id
), shown AS (
    SELECT * FROM numbered QUALIFY row_number() OVER (PARTITION BY keep ORDER BY nth, md5(id))
        <= CASE WHEN keep THEN {KEPT_SHOWN} ELSE {REJECTED_SHOWN} END
)
SELECT t.id, t.image_id, t.question, t.options, t.answer, t.rationale, t.problem, d.keep, d.reason,
    d.score, d.threshold, d.round, s.modality, s.question_type
FROM shown s JOIN triplets t ON t.rowid = s.triplet JOIN decisions d ON d.rowid = s.place
ORDER BY s.nth, md5(t.id)
"""


def _gallery(workspace: Workspace, ledger: Ledger) -> list[dict[str, Any]]:
    """Rows spread over modalities, question types and reasons, not the best ones: by hash."""
    with ledger.reading() as db:
        db.execute(_FIRST)
        rows = ledger.sql(_SHOWN)
        db.execute("DROP TABLE memory.first")
    pixels = Pixels(workspace.root)
    return [row | {"src": data_uri(pixels[row["image_id"]])} for row in rows]


def data_uri(png: bytes) -> str:
    """A PNG as a data URI, made smaller where it is larger than a thumbnail."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(png)) as picture:
        if max(picture.size) > _THUMBNAIL:
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            smaller = io.BytesIO()
            picture.save(smaller, format="PNG")
            png = smaller.getvalue()
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _stage_line(commit: dict[str, Any]) -> dict[str, Any]:
    """One line of the stage table: numbers of the metrics that are single numbers."""
    plain = {k: v for k, v in commit["metrics"].items() if isinstance(v, int | float | str)}
    figures = [f"{k.replace('_', ' ')} {_short(v)}" for k, v in plain.items()]
    rows = [f"{n:,} {table}" for table, n in commit["rows"].items() if n]
    return {
        "stage": commit["stage"],
        "round": commit["round"],
        "seconds": commit["seconds"],
        "rows": ", ".join(rows) or "none",
        "metrics": " · ".join(figures),
    }


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
