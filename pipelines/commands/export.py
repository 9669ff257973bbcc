"""What leaves the workspace: the dataset folder and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import TriptychError
from engine.hub import push as hub
from engine.hub.forms import FORMS, check_forms, lying, place_of
from engine.hub.publish import FOLDER, publish
from engine.lineage.withdrawals import withdrawn_ids
from engine.private import MAKE_KEY
from engine.workspace import Workspace
from pipelines.progress import Display
from pipelines.report.page import write_report


def export(
    workspace: Workspace,
    display: Display,
    repo: str | None = None,
    private: bool | None = None,
    dry_run: bool = False,
    forms: Sequence[str] = (),
) -> None:
    """Write `dataset/`: Parquet by split, a card and Croissant metadata; publish it where asked.

    `forms` are written beside it, and those that lie there already again. The workspace is open for
    writing: what was exported is recorded. Raises TriptychError, before anything is written, where
    there is no such form, or a push has to say whether it is `private` and does not.
    """
    check_forms(forms)
    if repo:
        hub.check_name(repo)
        _check_said(workspace, private)
    folder = workspace.root / FOLDER
    url = hub.url_of(repo) if repo else None
    counts = publish(workspace, url, forms)
    rows = ", ".join(f"{n} {split}" for split, n in counts.items())
    display.done(f"dataset: {rows} in {folder}")
    for form in lying(folder):
        display.done(f"the same for {FORMS[form].tool} in {place_of(folder, form)}")
    if repo and dry_run:
        _would_push(hub.upload_of(folder, repo), bool(private), display)
    elif repo:
        _push(workspace, folder, repo, private, display)


def _check_said(workspace: Workspace, private: bool | None) -> None:
    """Raise TriptychError where pictures are neither drawn here nor published, and nobody said
    who may see them: the Hub would make a new dataset public; or their key can be guessed."""
    if any(commit["metrics"].get("weak key") for commit in workspace.commits()):
        raise TriptychError(
            "patients' ids were hashed with a key that is easily guessed: ingest again with "
            f"another ({MAKE_KEY})"
        )
    source = workspace.config.get("source", {"path": "not recorded"})
    if private is None and source["path"] is not None and not source.get("public"):
        raise TriptychError(
            "these pictures are neither drawn here nor published (source.public): say --private, "
            "or --public where anyone may see them"
        )


def _would_push(upload: hub.Upload, private: bool, display: Display) -> None:
    for path, size in upload.files.items():
        display.say(f"{size:12,} B  {path}")
    seen = "private" if private else "public"
    display.say(f"would push {upload.tag} to {hub.url_of(upload.repo)}: {upload.content}")
    display.say(f"as a {seen} dataset, unless it is there already")


def _push(
    workspace: Workspace, folder: Path, repo: str, private: bool | None, display: Display
) -> None:
    upload, others = hub.push(folder, repo, private)
    display.done(f"pushed {upload.tag} to {hub.url_of(repo)}: {upload.content}")
    withdrawn = len(withdrawn_ids(workspace))
    if withdrawn and others:
        display.warn(
            f"{withdrawn} images were withdrawn, and {len(others)} other versions are on the Hub: "
            "delete their tags and squash its history if they hold them"
        )


def report(workspace: Workspace, display: Display) -> None:
    """Write `report/index.html`."""
    display.done(f"report: {write_report(workspace, workspace.root / 'report')}")
