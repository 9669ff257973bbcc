"""Ingest on its own, and the review of what it quarantined.

triptych ingest STUDIES -w WORKSPACE
triptych ingest --review -w WORKSPACE
"""

from __future__ import annotations

from pathlib import Path

from engine.cluster import INLINE
from engine.config import Config
from engine.config.cluster import Cluster
from engine.errors import TriptychError
from engine.lineage.opening import writing
from pipelines import loop
from pipelines.commands import review
from pipelines.context import config_of, opened
from pipelines.progress import Display


def ingest_images(config: Config, folder: Path | None) -> None:
    """Make a workspace, which is `runs/<name>` unless given, and read the images into it."""
    here = Cluster(address=INLINE)  # decoding has processes of its own and needs no Ray
    with opened(config, folder or config.folder(), here) as context:
        context.workspace.remember(config.kept())
        loop.step(context, "ingest")


def review_images(
    root: Path, overrides: list[str], release: list[str], drop: list[str], by: str
) -> None:
    """Show what waits, after the decisions where there are any; raises TriptychError where
    nobody is named for a decision."""
    config = config_of(root, overrides)
    if (release or drop) and not by.strip():
        raise TriptychError("say who decides: --by PSEUDONYM")
    display = Display()
    with writing(root, config.name, config.recorded()) as workspace:
        if release or drop:
            released, dropped = review.decide(config, workspace, release, drop, by.strip())
            display.done(f"{released} released, {dropped} dropped by {by.strip()}")
        page, table = review.show(config, workspace)
    if table.row_count:
        display.console.print(table)
        display.say(f"{table.row_count} to decide, with pictures in {page}")
    else:
        display.say("nothing waits for a decision")
