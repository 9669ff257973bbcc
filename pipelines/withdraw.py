"""Withdraw images: what that reaches, then the data is gone and the fact of it stays."""

from __future__ import annotations

from engine.lineage import withdraw as asking
from engine.lineage.redaction import Rule, redact
from engine.records import Image, Withdrawal, content_id
from engine.workspace import Workspace, utc


def withdraw(
    workspace: Workspace, target: str, reason: str = "", requested_by: str = ""
) -> asking.Answer:
    """Take the images that `target` names, and every row that derives from them, out for good.

    The workspace is open for writing. Weights stay: the answer says which must not be used.
    """
    answer = asking.withdraw(workspace.ledger(), target)
    when = utc()
    withdrawal = Withdrawal(
        id=content_id("withdrawal", answer.target, answer.images, when),
        subject_kind="image" if answer.images == [answer.target] else "group",
        subject_id=answer.target,
        reason=reason,
        requested_by=requested_by,
        at=when,
        images=len(answer.images),
        answer=asking.recorded(answer),
    )
    redact(workspace, withdrawal, rules_of(answer), files_of(workspace, answer.images))
    return answer


def rules_of(answer: asking.Answer) -> list[Rule]:
    """Which rows go: tier 1's, with what was judged, decided and answered about them."""
    images, triplets = answer.ids["images"], answer.ids["triplets"]
    return [
        ("images", "id", images),
        ("triplets", "id", triplets),
        ("judgements", "triplet_id", triplets),
        ("decisions", "triplet_id", triplets),
        ("preferences", "id", answer.ids["preferences"]),
        ("evaluations", "image_id", images),
    ]


def files_of(workspace: Workspace, images: list[str]) -> list[str]:
    """Files of the workspace, relative to it, that hold the images or name their sources."""
    gone = set(images)
    sources = {i.source for i in workspace.read(Image) if i.id in gone}
    drawn = [f"phantoms/{s}{end}" for s in sorted(sources) for end in ("", ".truth.json")]
    return [*drawn, "report", "ingest-report.csv"]
