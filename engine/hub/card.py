"""The dataset's card (README.md): what it holds, counted from the ledger and from nothing else."""

from __future__ import annotations

from typing import Any

import yaml

from engine.caveats import NOT_COVERED, of_readers, of_selection, promised
from engine.hub.columns import ASKED_AND_FOUND
from engine.hub.selection import (
    NOT_STATED,
    PICTURED,
    SELECTED,
    SPLITS,
    counted,
    of_rounds,
    selecting,
    told_by_id,
)
from engine.lineage.ledger import Ledger
from engine.lineage.withdrawals import WITHDRAWN
from engine.reasons import KIND
from engine.records import content_id
from engine.workspace import Workspace

Counts = dict[str, dict[Any, int]]
SYNTHETIC_NOTE = (
    "The images are synthetic phantoms, drawn by a program and not taken of patients: "
    "results on them validate the engine, not medicine."
)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(workspace: Workspace, name: str) -> str:
    """The README.md of the exported dataset; equal workspaces give equal text.

    Raises TriptychError where the ledger or a shard is not what was committed.
    """
    with selecting(workspace) as ledger:
        return counted_card(workspace, ledger, name)


def counted_card(workspace: Workspace, ledger: Ledger, name: str) -> str:
    """`card`, from a ledger that `selecting` holds."""
    counts = counted(ledger)
    parts = [f"# {name}", _intro(ledger, counts), *_counts(ledger, counts)]
    parts += [_asked(ledger), *_origin(ledger, counts), _use(counts)]
    front = _front_matter(workspace, name, counts["split"], _edition(ledger))
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def licence_of(workspace: Workspace) -> str:
    """The licence of what leaves, in the Hub's words."""
    return str(workspace.config.get("licence", "apache-2.0"))


def _edition(ledger: Ledger) -> str:
    """A version for the cache of `datasets`, by what leaves.

    Of a local folder `datasets` knows its name, and not its path or its files: without a version of
    its own, each folder called "dataset" is taken for the first that was ever loaded.
    """
    query = """
        SELECT count(*) AS n, CAST(bit_xor(md5_number(t.id)) AS VARCHAR) AS ids
        FROM memory.picked p JOIN triplets t ON t.rowid = p.triplet
    """
    (found,) = ledger.sql(query)
    return f"0.0.{int(content_id(SELECTED, found['n'], found['ids'])[:7], 16)}"


def _front_matter(workspace: Workspace, name: str, by_split: dict[Any, int], edition: str) -> str:
    total = sum(by_split.values())
    files = [
        {"split": hub, "path": f"data/{hub}-*.parquet"}
        for ours, hub in SPLITS.items()
        if ours in by_split
    ]
    front = {
        "pretty_name": name,
        "license": licence_of(workspace),
        "language": ["en"],
        "task_categories": ["visual-question-answering"],
        "tags": ["medical", "synthetic", "vqa", "triptych"],
        "size_categories": [next((s for limit, s in _SIZES if total < limit), "n>1M")],
        "configs": [{"config_name": "default", "version": edition, "data_files": files}],
    }
    return str(yaml.safe_dump(front, sort_keys=False, allow_unicode=True))


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table; numbers to the right."""
    numeric = [bool(rows) and isinstance(rows[0][i], int | float) for i in range(len(head))]
    lines = [head, tuple("---:" if n else "---" for n in numeric), *rows]
    return "\n".join(f"| {' | '.join(str(c).replace('|', '/') for c in line)} |" for line in lines)


def section(title: str, *blocks: str) -> str:
    """A heading and what stands below it."""
    return "\n\n".join([f"## {title}", *blocks])


def _intro(ledger: Ledger, counts: Counts) -> str:
    total = sum(counts["split"].values())
    images = ledger.sql("SELECT count(DISTINCT image) AS n FROM memory.picked")[0]["n"]
    text = (
        f"{total} triplets of image, question and answer about {images} images, made by Triptych: "
        "proposed by a vision-language model, scored by a reward model, kept or rejected by rule."
    )
    return f"{text}\n\n**{SYNTHETIC_NOTE}**" if counts["is_synthetic"].get(True) else text


def _counts(ledger: Ledger, counts: Counts) -> list[str]:
    by_split = counts["split"]
    splits = {hub: by_split[ours] for ours, hub in SPLITS.items() if ours in by_split}
    blocks = [table(("split", "rows"), list(splits.items()))]
    for column, title in (
        ("modality", "modality"),
        ("asked_question_type", "question type asked for"),
    ):
        blocks.append(table((title, "rows"), list(counts[column].items())))
    blocks.append(table(("origin", "rows"), list(counts["origin"].items())))
    blocks.append("Splits are made by patient or study: no group is in two of them.")
    reasons = ledger.sql(
        "SELECT round, CASE WHEN keep THEN 'kept' ELSE 'rejected' END AS decision, "
        f"{KIND} AS why, count(*) AS n FROM decisions GROUP BY ALL ORDER BY ALL"
    )
    decided = [(r["round"], r["decision"], r["why"], r["n"]) for r in reasons]
    reasons_table = table(("round", "decision", "reason", "rows"), decided)
    withdrawn = ledger.sql(f"SELECT count(*) AS n FROM ({WITHDRAWN})")[0]["n"]
    if withdrawn:
        blocks.append(
            f"{withdrawn} withdrawn images are left out, with all that derives from them."
        )
    told = [f"**Round {r}: {line}.**" for r, m in of_rounds(ledger) for line in of_selection(m)]
    heard = of_readers(of_rounds(ledger, "collect"))
    promises = [f"- Round {r}: {line}." for r, m in of_rounds(ledger) for line in promised(m)]
    told += ["\n".join(promises), NOT_COVERED] if promises else []
    told += ["\n".join(f"- Readers, {x}." for x in heard)] if heard else []
    rejects = "Rejected ids and their reasons are in `rejects.parquet`."
    return [
        section("Counts", *blocks),
        section(
            "Kept and rejected", *told, reasons_table if decided else "No decision yet.", rejects
        ),
    ]


def _asked(ledger: Ledger) -> str:
    """What the columns of what was asked and found mean, and how often the two agree."""
    meanings = [(f"`{name}`", meaning) for name, meaning in ASKED_AND_FOUND.items()]
    told = [(r, m["adherence"]["kept"]) for r, m in of_rounds(ledger) if "adherence" in m]
    axes = list(dict.fromkeys(axis for _, shares in told for axis in shares))
    rows = [
        (r, *("not known" if shares.get(a) is None else f"{shares[a]:.0%}" for a in axes))
        for r, shares in told
    ]
    words = "What was asked of the generator is no label of what it wrote: both are in each row."
    head = ("round", *(axis.replace("_", " ") for axis in axes))
    agreed = ["Kept rows that are as asked:", table(head, rows)] if rows else []
    return section("Asked and found", words, table(("column", "meaning"), meanings), *agreed)


def _origin(ledger: Ledger, counts: Counts) -> list[str]:
    models = [("generator", k, n) for k, n in counts["generator_id"].items()]
    models += [
        ("judge", "none" if k == NOT_STATED else k, n) for k, n in counts["judge_id"].items()
    ]
    told = told_by_id(ledger)
    named = [f"`{k}` is {told[k]}." for role, k, _ in models if k in told]
    rounds = ", ".join(str(k) for k in counts["round"])
    profiles = ledger.sql(
        "SELECT deidentification, is_synthetic, count(DISTINCT id) AS n FROM images "
        f"WHERE id IN ({PICTURED}) GROUP BY ALL ORDER BY ALL"
    )
    kinds = [
        (p["deidentification"], "yes" if p["is_synthetic"] else "no", p["n"]) for p in profiles
    ]
    return [
        section(
            "Made by",
            table(("role", "id", "rows"), models),
            *dict.fromkeys(named),
            f"Rounds: {rounds or 'none'}.",
        ),
        section("De-identification", table(("profile", "synthetic", "images"), kinds)),
    ]


def _use(counts: Counts) -> str:
    text = (
        "For research on synthetic data for medical visual question answering. The answers were "
        "written by a model and accepted by another: they are no medical advice, and no device "
        "for diagnosis may rest on them. `reward` is the judge's weighted score (a logit) and "
        "`probability` its calibrated estimate that an expert accepts the row; both are empty on "
        "rows that no judge has seen."
    )
    if counts["is_synthetic"].get(False):
        text += " Names of source files stay with the maker, since they can identify a patient."
    return section("Intended use", text)
