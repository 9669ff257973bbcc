"""What leaves the workspace: the dataset folder and the report."""

from __future__ import annotations

from engine.hub.publish import FOLDER, publish
from engine.workspace import Workspace
from pipelines.progress import Display
from pipelines.report import write_report


def export(workspace: Workspace, display: Display) -> None:
    """Write `dataset/`: Parquet by split and a card, for `datasets.load_dataset(folder)`.

    The workspace is open for writing: what was exported is recorded.
    """
    counts = publish(workspace)
    rows = ", ".join(f"{n} {split}" for split, n in counts.items())
    display.say(f"[green]✓[/green] dataset: {rows} in {workspace.root / FOLDER}")


def report(workspace: Workspace, display: Display) -> None:
    """Write `report/index.html`."""
    display.say(f"[green]✓[/green] report: {write_report(workspace, workspace.root / 'report')}")
