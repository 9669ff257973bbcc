"""The ledger's schema as data: W3C PROV's words for each table, and what refers to what.

The tables themselves are the row types of `engine.records`; a column's description is the comment
behind it there. `triptych lineage schema` renders this as docs/lineage-schema.md.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from engine.records import ROW_TYPES, Row, schema_of

# PROV-DM section 2: entities are things, activities made or used them, agents answer for them;
# a relation ties two of these.
PROV: dict[str, str] = {
    "images": "entity, wasDerivedFrom the image that it is the twin of",
    "prompts": "entity (a plan)",
    "tasks": "entity (a plan)",
    "assignments": "entity (a plan), of a task and an image",
    "triplets": "entity, wasGeneratedBy its stage, wasDerivedFrom its image and `derived_from`",
    "verifications": "entity, wasDerivedFrom its images, its triplet and the models that answered",
    "judgements": "entity, wasAttributedTo its judge, wasDerivedFrom its triplet",
    "found": "entity, wasDerivedFrom its triplet and the other samples of its question",
    "decisions": "entity, wasDerivedFrom its triplet and the judgements of its round",
    "preferences": "entity, wasAttributedTo its expert, wasDerivedFrom two triplets",
    "items": "entity (a plan), of one triplet or two",
    "verdicts": "entity, wasAttributedTo its expert, wasDerivedFrom its triplet",
    "models": "entity, wasDerivedFrom its parent; an agent where it writes or judges rows",
    "consumption": "relation used: a training used a row",
    "evaluations": "entity, wasAttributedTo its model, wasDerivedFrom its image",
    "runs": "activity; software agents are its code and packages",
    "datasets": "entity (a collection)",
    "membership": "relation hadMember",
    "refusals": "entity: an input that was not used",
    "reviews": "entity, wasAttributedTo its reviewer",
    "withdrawals": "activity",
    "tombstones": "relation wasInvalidatedBy",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """`table.column` holds ids of rows in one of `targets`.

    A row that a withdrawal took away is answered by its tombstone. `unless` is SQL for values that
    name nobody in a table, such as the expert. `since` is the version of the record that began to
    hold the targets: a workspace begun before it lacks some for ever.
    """

    table: str
    column: str
    targets: tuple[str, ...]
    unless: str = "false"
    since: int = 1


# Who writes without weights.
NOT_MODELS = (
    "'expert', 'drawn', 'composed', 'safety', 'implied', 'perturbed', 'incoherent', 'irrelevant'"
)
REFERENCES: tuple[Reference, ...] = (
    Reference("images", "twin_of", ("images",), "twin_of = ''"),
    Reference("assignments", "image_id", ("images",)),
    Reference("assignments", "task_id", ("tasks",)),
    Reference("triplets", "image_id", ("images",)),
    Reference("triplets", "task_id", ("tasks",)),
    Reference("triplets", "prompt_hash", ("prompts",), "prompt_hash = ''", since=2),
    Reference("triplets", "generator_id", ("models",), f"generator_id IN ({NOT_MODELS})", since=2),
    Reference("triplets", "derived_from", ("triplets", "images")),
    Reference("verifications", "image_id", ("images",)),
    Reference("verifications", "triplet_id", ("triplets",)),
    Reference("verifications", "other_id", ("images",), "other_id = ''"),
    Reference("verifications", "blind_id", ("models",), "blind_id = ''"),
    Reference("verifications", "verifier_id", ("models",), "verifier_id = ''"),
    Reference("verifications", "rubric_id", ("prompts",), "rubric_id = ''"),
    Reference("judgements", "triplet_id", ("triplets",)),
    Reference("judgements", "judge_id", ("models",)),
    Reference("found", "triplet_id", ("triplets",)),
    Reference("decisions", "triplet_id", ("triplets",)),
    Reference("preferences", "image_id", ("images",)),
    Reference("preferences", "chosen_id", ("triplets",)),
    Reference("preferences", "rejected_id", ("triplets",)),
    Reference("preferences", "item_id", ("items",), "item_id = ''"),
    Reference("items", "triplet_id", ("triplets",)),
    Reference("items", "other_id", ("triplets",), "other_id = ''"),
    Reference("items", "image_id", ("images",)),
    Reference("verdicts", "item_id", ("items",), "item_id = ''"),
    Reference("verdicts", "triplet_id", ("triplets",)),
    Reference("verdicts", "image_id", ("images",)),
    Reference("models", "parent_id", ("models",), "parent_id IS NULL", since=2),
    Reference("consumption", "model_id", ("models",)),
    Reference("consumption", "row_id", ("triplets", "preferences", "verdicts", "models")),
    Reference("evaluations", "model_id", ("models",), since=2),
    Reference("evaluations", "image_id", ("images",)),
    Reference("membership", "dataset_id", ("datasets",)),
    Reference("membership", "triplet_id", ("triplets",)),
    Reference("tombstones", "withdrawal_id", ("withdrawals",)),
)


def descriptions(row_type: type[Row]) -> dict[str, str]:
    """What the comment behind each column says, from the source of the row type."""
    pattern = re.compile(r"^    (\w+): [^#\n]*#\s*(.+)$", re.MULTILINE)
    return dict(pattern.findall(inspect.getsource(row_type)))


def _column(row_type: type[Row], name: str, kind: str, nullable: bool) -> str:
    told = descriptions(row_type).get(name, "")
    refers = [r for r in REFERENCES if (r.table, r.column) == (row_type.table, name)]
    targets = " or ".join(f"[{t}](#{t})" for r in refers for t in r.targets)
    words = "; ".join(part for part in (told, f"→ {targets}" if targets else "") if part)
    shown = kind.replace("list<element: string>", "list of strings").replace(
        "list<item: string>", "list of strings"
    )
    return f"| `{name}` | {shown}{', may be empty' if nullable else ''} | {words} |"


def render() -> str:
    """docs/lineage-schema.md: a section a table, a line a column."""
    parts = [
        "# The ledger's schema",
        "Rendered by `triptych lineage schema` from `engine/records.py` and "
        "`engine/lineage/schema.py`; change it there.",
        "Each table is a row type, kept as Parquet under `events/` and read into `ledger.duckdb`, "
        "where every row also has `sequence`: the committed stage that wrote it (table `commits`). "
        "Image bytes stay in Parquet. Arrows name the table that a column's ids are of; an id "
        "whose row was withdrawn is in `tombstones`.",
    ]
    for row_type in ROW_TYPES:
        said = " ".join((row_type.__doc__ or "").split())
        head = f"## {row_type.table}\n\n{said}\n\nPROV: {PROV[row_type.table]}.\n\n"
        columns = [_column(row_type, f.name, str(f.type), f.nullable) for f in schema_of(row_type)]
        parts.append(
            head + "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *columns])
        )
    parts.append(
        "## commits\n\nOne line a committed stage, from its `commit.json`.\n\nPROV: activity.\n\n"
        "| column | type | meaning |\n| --- | --- | --- |\n"
        "| `folder` | string | below `events/` |\n| `sequence` | int64 | its place in the order |\n"
        "| `stage` | string | |\n| `round` | int64 | 0 for stages that are run once |\n"
        "| `fingerprint` | string | hash of code, settings and inputs |\n"
        "| `seconds` | double | how long it took |\n| `metrics` | string | JSON |\n"
        "| `schema` | int64 | version of the record that wrote it |"
    )
    return "\n\n".join(parts) + "\n"
