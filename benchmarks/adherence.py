"""How often rows are as they were asked to be, in recorded runs: docs/quotas.md.

    python -m benchmarks.adherence runs/demo runs/vqa-rad

Counts nothing anew but what rows turned out to be (`generators.found`), so that a record that was
made without it can be asked too. A table, then one line of JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from engine.records import Decision, Found, Task, Triplet, to_arrow
from engine.sql import Scan
from engine.workspace import Workspace
from generators.found import found_of
from pipelines.adherence import adherence_of
from reward_model.threshold import OF_CHOICES


def adherence(workspace: Workspace, round: int) -> dict[str, dict[str, float | None]]:
    """Shares of a decided round's rows that are as asked: of those read and of those kept."""
    rows: list[Triplet] = workspace.read(Triplet, "generate", round)
    decisions: list[Decision] = workspace.read(Decision, "select", round)
    choices = {d.triplet_id for d in decisions if d.reason in OF_CHOICES}
    chosen = {row.question_key: row.answer for row in rows if row.id in choices}
    with Scan() as scan:
        scan.register("triplets", to_arrow(Triplet, rows))
        scan.register("decisions", to_arrow(Decision, decisions))
        scan.register("tasks", to_arrow(Task, workspace.read(Task, "plan", round)))
        told = workspace.read(Found, "select", round) or found_of(rows, chosen)
        scan.register("found", to_arrow(Found, told))
        return adherence_of(scan)


def main(workspaces: Annotated[list[Path], typer.Argument(help="Folders of runs.")]) -> None:
    """Print how often rows are as asked."""
    told = [
        {"workspace": root.name, "round": commit["round"], "of": of, **shares}
        for root in workspaces
        for workspace in (Workspace.existing(root),)
        for commit in workspace.commits()
        if commit["stage"] == "select"
        for of, shares in adherence(workspace, commit["round"]).items()
    ]
    for line in told:
        shares = (f"{v:.0%}" if isinstance(v, float) else str(v) for v in line.values())
        print(f"| {' | '.join(shares)} |")
    print(json.dumps({"benchmark": "adherence", "rounds": told}))


if __name__ == "__main__":
    typer.run(main)
