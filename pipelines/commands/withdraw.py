"""Withdraw images, or a reader: what that reaches, then the data is gone and the fact of it stays.

Answers that are in the journal go with the rows that are made of them.
"""

from __future__ import annotations

from engine.hub.publish import leftovers
from engine.lineage.agreement import agreed
from engine.lineage.ledger import Ledger
from engine.lineage.reach import Reach, reach, reach_reader, recorded
from engine.lineage.redaction import Rule, redact
from engine.lines import meant
from engine.records import Image, Refusal, Review, Withdrawal, content_id
from engine.workspace import Workspace, utc
from reward_model.journal import FOLDER as READING
from reward_model.journal import NAME as ANSWERS

JOURNAL = f"{READING}/{ANSWERS}"


def withdraw(
    workspace: Workspace,
    target: str,
    reason: str = "",
    requested_by: str = "",
    group: bool = False,
) -> Reach:
    """Take the images that `target` names, and every row that derives from them, out for good.

    The workspace is open for writing. Weights stay: what is returned says which must not be used.
    Raises TriptychError where `target` names nothing, or more than one thing, and where the ledger
    or a shard is not what was committed: what cannot be undone rests on neither.
    """
    with agreed(workspace, whole=True) as ledger:
        reached = reached_by(workspace, ledger, target, group)
    gone = set(reached.images)
    taken = [i for i in workspace.read(Image) if i.id in gone]
    rules = [*rules_of(reached), *unused(workspace, reached, taken)]
    _take_out(workspace, reached, reason, requested_by, rules, files_of(taken))
    return reached


def withdraw_reader(
    workspace: Workspace, reader: str, reason: str = "", requested_by: str = ""
) -> Reach:
    """Take what a reader said, and every row that came of it, out for good.

    As `withdraw`, and raises as it does.
    """
    with agreed(workspace, whole=True) as ledger:
        reached = reached_by_reader(workspace, ledger, reader)
    _take_out(workspace, reached, reason, requested_by, rules_of(reached), files_of([]))
    return reached


def reached_by(workspace: Workspace, ledger: Ledger, target: str, group: bool = False) -> Reach:
    """What a withdrawal of images reaches, in the journal too. Raises TriptychError."""
    reached = reach(ledger, target, group)
    reached.rows["answers"] = meant(workspace.root / JOURNAL, lines_of(reached))
    return reached


def reached_by_reader(workspace: Workspace, ledger: Ledger, reader: str) -> Reach:
    """What a withdrawal of a reader reaches, in the journal too. Raises TriptychError."""
    answers = meant(workspace.root / JOURNAL, {"reader": [reader]})
    reached = reach_reader(ledger, reader, answers)
    reached.rows["answers"] = meant(workspace.root / JOURNAL, lines_of(reached))
    return reached


def _take_out(
    workspace: Workspace,
    reached: Reach,
    reason: str,
    requested_by: str,
    rules: list[Rule],
    files: list[str],
) -> None:
    when = utc()
    withdrawal = Withdrawal(
        id=content_id("withdrawal", reached.target, reached.images, when),
        subject_kind=reached.kind,
        subject_id=reached.target,
        reason=reason,
        requested_by=requested_by,
        at=when,
        images=len(reached.images),
        answer=recorded(reached),
    )
    redact(workspace, withdrawal, rules, files, {JOURNAL: lines_of(reached)})


def lines_of(reached: Reach) -> dict[str, list[str]]:
    """Which answers go, by key: a reader's, and those about items and triplets that go."""
    triplets = reached.ids["triplets"]
    named = {"item_id": reached.ids["items"], "triplet_id": triplets, "other_id": triplets}
    return {**named, "reader": [reached.target] if reached.kind == "reader" else []}


def unused(workspace: Workspace, reached: Reach, taken: list[Image]) -> list[Rule]:
    """Refusals and reviews that go too: of the same pictures, or of a patient who is withdrawn."""
    refusals = workspace.read(Refusal)
    pictures, patients = set(reached.images), {reached.target}
    if reached.kind == "group":
        copies = [r for r in refusals if r.image_id in pictures]
        patients = {row.patient for row in [*taken, *copies] if row.patient}
    pictures |= {r.image_id for r in refusals if r.patient in patients and r.image_id}
    gone = [r.id for r in refusals if r.patient in patients or r.image_id in pictures]
    reviews = [r.id for r in workspace.read(Review) if r.image_id in pictures]
    return [("refusals", "id", gone), ("reviews", "id", reviews)]


def rules_of(reached: Reach) -> list[Rule]:
    """Which rows go: tier 1's, with what was judged, decided and answered about them."""
    images, triplets = reached.ids["images"], reached.ids["triplets"]
    return [
        ("images", "id", images),
        ("pictures", "id", images),
        ("triplets", "id", triplets),
        ("verifications", "id", reached.ids["verifications"]),
        ("judgements", "triplet_id", triplets),
        ("found", "triplet_id", triplets),
        ("decisions", "triplet_id", triplets),
        ("items", "id", reached.ids["items"]),
        ("verdicts", "id", reached.ids["verdicts"]),
        ("preferences", "id", reached.ids["preferences"]),
        ("evaluations", "id", reached.ids["evaluations"]),
    ]


def files_of(taken: list[Image]) -> list[str]:
    """Files of the workspace, relative to it, that hold the images or name their sources."""
    sources = {i.source for i in taken}
    drawn = [
        f"phantoms/{s}{end}" for s in sorted(sources) for end in ("", ".truth.json", ".drawn.json")
    ]
    drawn += [f"segmentations/{s}" for s in sorted(sources)]
    return [*drawn, *leftovers(), "report", "quarantine", "ingest-report.csv"]
