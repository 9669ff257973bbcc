"""A workspace opened for writing: locked, brought to this version, mended, withdrawals finished."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.lineage import redaction, repair
from engine.workspace import Workspace


@contextmanager
def writing(root: Path, name: str, config: dict[str, Any]) -> Iterator[Workspace]:
    """Open (or make) a workspace as its one writer.

    Raises TriptychError where another run has it open, or another configuration made it.
    """
    workspace = Workspace(root)
    for folder in (workspace.events, workspace.work, workspace.models):
        folder.mkdir(parents=True, exist_ok=True)
    with workspace.locked():
        workspace.claim(name, config)
        _bring_up(workspace)
        yield workspace


@contextmanager
def maintaining(root: Path) -> Iterator[Workspace]:
    """Open an existing workspace as its one writer, whatever configuration made it."""
    workspace = Workspace.existing(root)
    with workspace.locked():
        _bring_up(workspace)
        yield workspace


def _bring_up(workspace: Workspace) -> None:
    """Bring the record to this version, mend it, finish a withdrawal cut short, catch up."""
    workspace.migrate()
    repair.mend(workspace)
    if not redaction.finish(workspace):
        workspace.ledger().sync(workspace.events)
