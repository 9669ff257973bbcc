"""What leaves the workspace: the dataset folder and the report."""

from __future__ import annotations

from engine.hub.export import export as export_dataset
from engine.workspace import Workspace
from pipelines.progress import Display
from pipelines.report import write_report


def export(workspace: Workspace, display: Display) -> None:
    """Write `dataset/`: Parquet by split and a card, for `datasets.load_dataset(folder)`."""
    folder = workspace.root / "dataset"
    counts = export_dataset(workspace, folder, workspace.config["name"])
    rows = ", ".join(f"{n} {split}" for split, n in counts.items())
    display.say(f"[green]✓[/green] dataset: {rows} in {folder}")


def report(workspace: Workspace, display: Display) -> None:
    """Write `report/index.html`."""
    display.say(f"[green]✓[/green] report: {write_report(workspace, workspace.root / 'report')}")
