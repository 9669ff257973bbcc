"""Submit: the same run as a Ray job on a cluster, to which our code and the configuration travel.

triptych submit configs/medgr2-7b.yaml --address http://HEAD:8265 --workspace /shared/runs/ours
"""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

from engine import cluster
from engine.config import load
from engine.errors import printable
from engine.lineage.runs import code_id
from engine.records import content_id
from engine.workspace import check_place
from pipelines.commands.shipping import CONFIG, pack, stays
from pipelines.source import check_names


def submit_run(config_file: Path, address: str, folder: Path | None, overrides: list[str]) -> int:
    """Hand `triptych run` to the cluster and follow its output; returns its exit code.

    The same submission finds the job that is at work, or is its next attempt, which goes on where
    the one before stopped.
    """
    config = load(config_file, overrides)
    check_names(config)
    check_place(folder or config.folder())
    root = (folder or config.folder()).resolve()
    places = {"workspace": root, **stays(config)}
    told = ", ".join(f"{key} {place}" for key, place in places.items())
    print(printable(f"on all nodes: {told}"), flush=True)
    with TemporaryDirectory(prefix="triptych-") as packed:
        pack(config, Path(packed))
        job = cluster.Job(
            command=shlex.join(
                ["python3", "-m", "pipelines.cli", "run", CONFIG, "--workspace", str(root)]
            ),
            folder=Path(packed),
            place=f"{config.name}.{content_id('place', str(root))[:12]}",
            what=content_id("what", config.model_dump(mode="json"), code_id())[:12],
        )
        return cluster.submit(address, job)
