"""What follows when an image, or all images of a patient or study, are withdrawn, or a reader.

Tier 1 is what derives from them: their triplets (and triplets whose words were taken from these),
with verifications, judgements, what was found of them, decisions, items, verdicts, preferences and
evaluations; the checkpoints that saw such a triplet at or after its first use; and the models that
descend from these. Of a reader it is what they said, and the rows that came of it
(`engine.lineage.opinions`).

Tier 2 is what they influenced. It is followed through stages, because a stage's rows are not
independent: the threshold of a selection comes from all judgements of its round.

- a judge that learned from a preference or verdict of tier 1, or was calibrated or compared by one;
- what a model of either tier wrote, verified or judged, and the decisions, preferences and
  verdicts of a round made after such a model verified or judged in it;
- the decisions of a round whose threshold was certified after one of its random verdicts;
- a model that saw any of these in training, was rewarded by such a judge, or descends from one;
- exports that were made after such decisions.

Which questions a round asks for follows how often its policy was right on validation images, and
which rows experts are asked about follows the judge, as does which answer a row's difficulty was
found by: these influences are not followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.errors import TriptychError
from engine.lineage import opinions
from engine.lineage.ledger import Ledger
from engine.lineage.opinions import Stages

Use = tuple[int, str, int | None, str | None, int]  # sequence, table, source, maker, first step
FOLLOWED = ("decisions", "preferences", "verdicts")  # what follows a judge within a round
JUDGED = ("verifications", "judgements")  # what they follow
START = -1  # the sequence of a model that no stage of the workspace made


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model where it was committed. `step` None: the end of its training."""

    id: str
    role: str
    sequence: int
    parent_id: str | None
    step: int | None


@dataclass(slots=True)
class Reach:
    """Both tiers of a withdrawal, where to restart, and what that costs."""

    target: str
    kind: str  # what the target is: image, patient, group or reader
    images: list[str]
    ids: dict[str, list[str]]  # tier 1's rows by table, but for those that go with a triplet
    rows: dict[str, int]  # tier 1: how many of each table
    derived_models: list[dict[str, Any]] = field(default_factory=list)
    influenced_models: list[dict[str, Any]] = field(default_factory=list)
    influenced_rows: dict[str, int] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    influenced_datasets: list[str] = field(default_factory=list)
    restart_from: dict[str, Any] | None = None
    repeat: list[str] = field(default_factory=list)  # folders of the stages to run again
    seconds: float = 0.0  # what these took

    def to_dict(self) -> dict[str, Any]:
        """As JSON; of rows other than images only how many."""
        return {k: v for k, v in asdict(self).items() if k != "ids"}


def reach(ledger: Ledger, target: str, group: bool = False) -> Reach:
    """What a withdrawal of `target` reaches: an image, patient or group, by its id or its start.

    A group's id is that of one of its patients, and means this patient alone, unless `group`.
    Raises TriptychError where nothing has such an id, or more than one thing.
    """
    with ledger.reading():
        kind, name, images = resolve(ledger, target, group)
        rows = derived_rows(ledger, images)
        return _followed(ledger, Reach(name, kind, images, rows, _counts(ledger, rows)))


def reach_reader(ledger: Ledger, reader: str, answers: int = 0) -> Reach:
    """What a withdrawal of a reader reaches, by their whole pseudonym.

    `answers` are how many of theirs are in the journal, where some may not be rows yet. Raises
    TriptychError where nobody has this pseudonym.
    """
    with ledger.reading():
        opinions.check_reader(ledger, reader, answers)
        verdicts, preferences, gold = opinions.said_by(ledger, reader)
        rows = derived_rows(ledger, [], gold)
        rows["verdicts"] = sorted({*rows["verdicts"], *verdicts})
        rows["preferences"] = sorted({*rows["preferences"], *preferences})
        return _followed(ledger, Reach(reader, "reader", [], rows, _counts(ledger, rows)))


# A patient may be known by what was refused alone; a refused copy of an image is that image.
_NAMES = """
SELECT 'image' AS kind, id AS name FROM images UNION SELECT 'group', "group" FROM images
UNION SELECT 'patient', patient FROM images UNION SELECT 'patient', patient FROM refusals
"""
_IMAGES = {
    "image": "id = $1",
    "patient": "patient = $1 OR id IN (SELECT image_id FROM refusals WHERE patient = $1)",
    "group": '"group" = $1',
}


def resolve(ledger: Ledger, target: str, group: bool = False) -> tuple[str, str, list[str]]:
    """(image, patient or group; its whole id; the images it names). Raises TriptychError."""
    found = ledger.sql(
        f"SELECT kind, name FROM ({_NAMES}) WHERE starts_with(name, $1) AND "
        "CASE kind WHEN 'group' THEN $2 OR name NOT IN (SELECT subject_id FROM withdrawals "
        "WHERE subject_kind = 'patient') ELSE NOT $2 END "  # who is gone must not take the others
        "ORDER BY name <> $1, name, kind = 'group' LIMIT 3",
        [target, group],
    )
    if not found or not target:
        gone = ledger.sql(
            "SELECT w.at FROM tombstones t JOIN withdrawals w ON w.id = t.withdrawal_id "
            "WHERE t.row_id = $1 OR w.subject_id = $1 LIMIT 1",
            [target],
        )
        what = "group" if group else "image, patient or group"
        when = f": it was withdrawn on {gone[0]['at']}" if gone else ""
        raise TriptychError(f"no {what} has an id that starts with {target!r}{when}")
    kind, name = found[0]["kind"], found[0]["name"]
    if name != target and any(row["name"] != name for row in found):
        raise TriptychError(
            f"{target!r} could be several images, patients or groups: give more characters"
        )
    query = (  # a twin goes with its original, from whose recipe it was drawn
        f"WITH named AS (SELECT id FROM images WHERE {_IMAGES[kind]}) "
        "SELECT DISTINCT id FROM images WHERE id IN (FROM named) OR twin_of IN (FROM named) "
        "ORDER BY id"
    )
    return kind, name, [row["id"] for row in ledger.sql(query, [name])]


def derived_rows(
    ledger: Ledger, images: list[str], triplets: list[str] | None = None
) -> dict[str, list[str]]:
    """Tier 1 of images, or of triplets: ids by table, but for those that go with a triplet."""

    def ids(query: str, *parameters: Any) -> list[str]:
        return [row["id"] for row in ledger.sql(query, list(parameters))]

    triplets = ids(
        "WITH RECURSIVE line AS ("
        "SELECT DISTINCT id FROM triplets WHERE image_id IN (SELECT unnest($1)) "
        "UNION SELECT unnest($2::VARCHAR[]) "
        "UNION SELECT id FROM derivations WHERE source IN (SELECT unnest($1)) "
        "UNION SELECT d.id FROM derivations d JOIN line ON line.id = d.source) "
        "SELECT id FROM line ORDER BY id",
        images,
        triplets or [],
    )
    preferences = ids(
        "SELECT DISTINCT id FROM preferences WHERE image_id IN (SELECT unnest($1)) "
        "OR chosen_id IN (SELECT unnest($2)) OR rejected_id IN (SELECT unnest($2)) ORDER BY id",
        images,
        triplets,
    )
    verifications = ids(
        "SELECT DISTINCT id FROM verifications WHERE image_id IN (SELECT unnest($1)) "
        "OR other_id IN (SELECT unnest($1)) OR triplet_id IN (SELECT unnest($2)) ORDER BY id",
        images,
        triplets,
    )
    items, verdicts = opinions.asked_and_said(ledger, images, triplets)
    return {
        "images": images,
        "triplets": triplets,
        "verifications": verifications,
        "preferences": preferences,
        "items": items,
        "verdicts": verdicts,
        "evaluations": opinions.answered(ledger, images, triplets),
    }


def _counts(ledger: Ledger, rows: dict[str, list[str]]) -> dict[str, int]:
    """Tier 1's rows by table, those included that go with a triplet."""
    counts = {table: len(ids) for table, ids in rows.items()}
    for table in ("judgements", "found", "decisions"):
        found = ledger.sql(
            "WITH gone AS (SELECT unnest($1) AS id) SELECT count(*) AS n FROM gone "
            f"JOIN index_{table}_triplet_id ON key = hash(id)",
            [rows["triplets"]],
        )
        counts[table] = found[0]["n"]
    return counts


def _followed(ledger: Ledger, answer: Reach) -> Reach:
    """The same with models, stages and cost, from the ledger's small tables."""
    models = [
        Checkpoint(**row)
        for row in ledger.sql(
            "SELECT DISTINCT id, role, sequence, parent_id, step FROM models ORDER BY ALL"
        )
    ]
    uses: list[Use] = [
        (r["sequence"], r["row_table"], r["source"], r["maker"], r["first_step"])
        for r in ledger.sql("SELECT sequence, row_table, source, maker, first_step FROM uses")
    ]
    commits = {row["sequence"]: row for row in ledger.sql("SELECT * FROM commits")}
    rounds = {sequence: row["round"] for sequence, row in commits.items()}
    makers = ledger.sql("SELECT sequence, row_table, maker, rows FROM makers")
    seen = _first_uses(ledger, answer.ids)
    derived = closure(models, [m for m in models if _saw(m, seen.get((m.sequence, "triplets")))])
    heard = [_frozen(ledger, answer.ids["preferences"])]
    heard.append(opinions.first_heard(ledger, answer.ids["verdicts"]))
    taught = [
        m
        for m in models
        if any(_saw(m, seen.get((m.sequence, table))) for table in ("preferences", "verdicts"))
        or (m.role == "judge" and any(h is not None and h <= m.sequence for h in heard))
    ]
    certified = opinions.certified(ledger, answer.ids["verdicts"])
    tainted = influenced(models, uses, makers, rounds, derived, taught, certified)
    answer.derived_models = _told(models, derived)
    answer.influenced_models = _told(models, tainted - derived)
    touched = touched_rows(makers, rounds, tainted, certified)
    for row in touched:
        table = row["row_table"]
        answer.influenced_rows[table] = answer.influenced_rows.get(table, 0) + row["rows"]
    answer.datasets = _datasets(ledger, answer.ids["triplets"])
    decided = [row["sequence"] for row in touched if row["row_table"] == "decisions"]
    answer.influenced_datasets = _datasets_since(ledger, min(decided)) if decided else []
    answer.restart_from = clean_ancestor(models, tainted)
    stages = {row["sequence"] for row in touched} | {m.sequence for m in models if m.id in tainted}
    answer.repeat = [commits[s]["folder"] for s in sorted(stages) if s in commits]
    answer.seconds = round(sum(commits[s]["seconds"] for s in stages if s in commits), 2)
    return answer


def _first_uses(ledger: Ledger, rows: dict[str, list[str]]) -> dict[tuple[int, str], int]:
    """The first step at which a training (by its stage) saw a row of tier 1, by the row's table."""
    found = ledger.sql(
        "WITH gone AS (SELECT unnest($1) AS id) "
        "SELECT sequence, row_table, min(coalesce(first_step, 0)) AS step FROM consumption "
        "WHERE rowid IN (SELECT row FROM gone JOIN index_consumption_row_id ON key = hash(id)) "
        "GROUP BY ALL",
        [rows["triplets"] + rows["preferences"] + rows["verdicts"]],
    )
    return {(row["sequence"], row["row_table"]): row["step"] for row in found}


def _frozen(ledger: Ledger, preferences: list[str]) -> int | None:
    """The first stage that committed a frozen pair among `preferences`: it calibrates judges."""
    found = ledger.sql(
        "SELECT min(sequence) AS first FROM preferences "
        "WHERE holdout AND id IN (SELECT unnest($1))",
        [preferences],
    )
    return None if found[0]["first"] is None else int(found[0]["first"])


def _saw(model: Checkpoint, first: int | None) -> bool:
    """Whether a checkpoint was made at or after a training's first use of something."""
    return first is not None and (model.step is None or first <= model.step)


def closure(models: list[Checkpoint], start: Iterable[Checkpoint]) -> set[str]:
    """The ids of models and of all their descendants."""
    found, waiting = set(), {m.id for m in start}
    while waiting:
        found |= waiting
        waiting = {m.id for m in models if m.parent_id in waiting} - found
    return found


def influenced(
    models: list[Checkpoint],
    uses: list[Use],
    makers: list[dict[str, Any]],
    rounds: dict[int, int],
    derived: set[str],
    taught: list[Checkpoint],
    certified: Stages,
) -> set[str]:
    """Ids of all models of either tier: tier 1, judges that tier 1 taught, and what follows.

    `certified` are stages that a verdict of tier 1 may have decided.
    """
    tainted = derived | closure(models, taught)
    while True:
        stages = _judged_stages(makers, rounds, tainted) | certified
        reached = [
            m
            for m in models
            for sequence, table, source, maker, first in uses
            if sequence == m.sequence
            and _saw(m, first)
            and (
                (table in ("triplets", "models") and maker in tainted)
                or (table in FOLLOWED and (source, table) in stages)
            )
        ]
        more = closure(models, reached) - tainted
        if not more:
            return tainted
        tainted |= more


def _judged_stages(
    makers: list[dict[str, Any]], rounds: dict[int, int], tainted: set[str]
) -> Stages:
    """Stages whose rows of FOLLOWED came after a tainted judge judged in their round."""
    judged: dict[int, int] = {}
    for row in makers:
        if row["row_table"] in JUDGED and row["maker"] in tainted:
            number = rounds[row["sequence"]]
            judged[number] = min(judged.get(number, row["sequence"]), row["sequence"])
    return {
        (row["sequence"], row["row_table"])
        for row in makers
        if row["row_table"] in FOLLOWED
        and judged.get(rounds[row["sequence"]], row["sequence"]) < row["sequence"]
    }


def touched_rows(
    makers: list[dict[str, Any]], rounds: dict[int, int], tainted: set[str], certified: Stages
) -> list[dict[str, Any]]:
    """The lines of `makers` whose rows a tainted model wrote, judged or led to."""
    stages = _judged_stages(makers, rounds, tainted) | certified
    return [
        row
        for row in makers
        if (row["maker"] is not None and row["maker"] in tainted)
        or (row["sequence"], row["row_table"]) in stages
    ]


def clean_ancestor(models: list[Checkpoint], tainted: set[str]) -> dict[str, Any] | None:
    """The newest model in neither tier that a tainted one descends from; None where all is clean.

    A parent that no stage made (a base from outside) is older than every model of the workspace.
    """
    known: dict[str, Checkpoint] = {}
    for model in models:  # sorted, so the first commit of equal weights
        known.setdefault(model.id, model)
    found: dict[str, Checkpoint] = {}
    for start in tainted:
        parent, met = known[start].parent_id, {start}
        while parent is not None and parent not in met and parent in tainted:
            met.add(parent)
            parent = known[parent].parent_id
        if parent is not None and parent not in met:
            outside = Checkpoint(parent, "base", START, None, None)
            found[parent] = known.get(parent, outside)
    if not found:
        return None
    return asdict(max(found.values(), key=_age))


def _age(model: Checkpoint) -> tuple[int, float, str]:
    return model.sequence, float("inf") if model.step is None else model.step, model.id


def _told(models: list[Checkpoint], ids: set[str]) -> list[dict[str, Any]]:
    return [asdict(m) for m in sorted(models, key=_age) if m.id in ids]


def _datasets(ledger: Ledger, triplets: list[str]) -> list[str]:
    """Exports that hold any of the triplets."""
    found = ledger.sql(
        "WITH gone AS (SELECT unnest($1) AS id) SELECT DISTINCT dataset_id FROM membership "
        "WHERE rowid IN (SELECT row FROM gone JOIN index_membership_triplet_id ON key = hash(id)) "
        "ORDER BY dataset_id",
        [triplets],
    )
    return [row["dataset_id"] for row in found]


def _datasets_since(ledger: Ledger, sequence: int) -> list[str]:
    """Exports that were made after a stage."""
    query = "SELECT DISTINCT id FROM datasets WHERE sequence > $1 ORDER BY id"
    return [row["id"] for row in ledger.sql(query, [sequence])]


def summary(answer: Reach) -> str:
    """The answer in a few lines for the terminal."""
    rows = ", ".join(f"{n} {table}" for table, n in answer.rows.items() if n)
    influenced_by = ", ".join(f"{n} {table}" for table, n in answer.influenced_rows.items())

    def named(models: list[dict[str, Any]]) -> str:
        return ", ".join(f"{m['role']} {m['id'][:12]}" for m in models) or "none"

    def named_short(ids: list[str]) -> str:
        return ", ".join(name[:12] for name in ids) or "none"

    clean = answer.restart_from
    told_clean = f"{clean['role']} {clean['id']}" if clean else "nothing to restart"
    lines = [
        f"withdraw {answer.kind} {answer.target}",
        f"derives from it     {rows or 'no rows'}",
        f"  checkpoints       {named(answer.derived_models)}",
        f"  exports           {named_short(answer.datasets)}",
        f"influenced by it    {influenced_by or 'no rows'}",
        f"  checkpoints       {named(answer.influenced_models)}",
        f"  exports           {named_short(answer.influenced_datasets)}",
        f"restart from        {told_clean}",
        f"stages to repeat    {len(answer.repeat)}, which took {answer.seconds:.0f} s",
    ]
    return "\n".join(lines)


def recorded(answer: Reach) -> str:
    """The answer as the withdrawal's row keeps it."""
    return json.dumps(answer.to_dict() | {"images": len(answer.images)}, sort_keys=True)
