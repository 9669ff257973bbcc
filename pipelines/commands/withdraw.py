"""Withdraw images: what that reaches, then the data is gone and the fact of it stays."""

from __future__ import annotations

from engine.hub.publish import FOLDER
from engine.lineage import withdraw as asking
from engine.lineage.agreement import agreed
from engine.lineage.redaction import Rule, redact
from engine.records import Image, Refusal, Review, Withdrawal, content_id
from engine.workspace import Workspace, utc


def withdraw(
    workspace: Workspace,
    target: str,
    reason: str = "",
    requested_by: str = "",
    group: bool = False,
) -> asking.Answer:
    """Take the images that `target` names, and every row that derives from them, out for good.

    The workspace is open for writing. Weights stay: the answer says which must not be used. Raises
    TriptychError where `target` names nothing, or more than one thing, and where the ledger or a
    shard is not what was committed: what cannot be undone rests on neither.
    """
    with agreed(workspace, whole=True) as ledger:
        answer = asking.withdraw(ledger, target, group)
    gone = set(answer.images)
    taken = [i for i in workspace.read(Image) if i.id in gone]
    when = utc()
    withdrawal = Withdrawal(
        id=content_id("withdrawal", answer.target, answer.images, when),
        subject_kind=answer.kind,
        subject_id=answer.target,
        reason=reason,
        requested_by=requested_by,
        at=when,
        images=len(answer.images),
        answer=asking.recorded(answer),
    )
    rules = [*rules_of(answer), *unused(workspace, answer, taken)]
    redact(workspace, withdrawal, rules, files_of(taken))
    return answer


def unused(workspace: Workspace, answer: asking.Answer, taken: list[Image]) -> list[Rule]:
    """Refusals and reviews that go too: of the same pictures, or of a patient who is withdrawn."""
    refusals = workspace.read(Refusal)
    pictures, patients = set(answer.images), {answer.target}
    if answer.kind == "group":
        copies = [r for r in refusals if r.image_id in pictures]
        patients = {row.patient for row in [*taken, *copies] if row.patient}
    pictures |= {r.image_id for r in refusals if r.patient in patients and r.image_id}
    gone = [r.id for r in refusals if r.patient in patients or r.image_id in pictures]
    reviews = [r.id for r in workspace.read(Review) if r.image_id in pictures]
    return [("refusals", "id", gone), ("reviews", "id", reviews)]


def rules_of(answer: asking.Answer) -> list[Rule]:
    """Which rows go: tier 1's, with what was judged, decided and answered about them."""
    images, triplets = answer.ids["images"], answer.ids["triplets"]
    return [
        ("images", "id", images),
        ("pictures", "id", images),
        ("triplets", "id", triplets),
        ("judgements", "triplet_id", triplets),
        ("decisions", "triplet_id", triplets),
        ("preferences", "id", answer.ids["preferences"]),
        ("evaluations", "image_id", images),
    ]


def files_of(taken: list[Image]) -> list[str]:
    """Files of the workspace, relative to it, that hold the images or name their sources."""
    sources = {i.source for i in taken}
    drawn = [f"phantoms/{s}{end}" for s in sorted(sources) for end in ("", ".truth.json")]
    drawn += [f"segmentations/{s}" for s in sorted(sources)]
    exports = [f".{FOLDER}.partial", f".{FOLDER}.old"]  # of an export that was cut short
    return [*drawn, *exports, "report", "quarantine", "ingest-report.csv"]
