"""Run: the whole loop in one workspace, which is `runs/<name>` unless another is given.

triptych run configs/demo.yaml
"""

from __future__ import annotations

from pathlib import Path

from engine.config import Config
from pipelines import loop
from pipelines.context import opened
from pipelines.progress import summary


def run_all(config: Config, folder: Path | None) -> None:
    """Run the loop and say what came of it and where that lies."""
    root = folder or config.folder()
    with opened(config, root) as context:
        context.workspace.remember(config.kept())
        loop.run(context)
        context.display.console.print(summary(context.workspace.commits()))
    context.display.say(f"\nreport   {root}/report/index.html\ndataset  {root}/dataset")
    context.display.say(f"a row    triptych lineage trace ID --workspace {root}")
