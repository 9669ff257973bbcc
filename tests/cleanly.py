"""What every finished run must pass."""

from __future__ import annotations

from pathlib import Path

from engine.lineage.verify import verify
from engine.workspace import Workspace


def clean(workspace: Path) -> Workspace:
    """The workspace, of which `lineage verify` reports nothing."""
    place = Workspace.existing(workspace)
    report = verify(place)
    assert report.problems == []
    assert report.rows > 100
    assert {c["stage"] for c in place.commits()} >= {"seed", "compare", "refine", "grpo", "export"}
    return place
