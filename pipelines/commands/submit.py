"""Submit: the same run as a Ray job on a cluster.

triptych submit configs/medgr2-7b.yaml --address http://HEAD:8265 --workspace /shared/runs/ours
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from engine import cluster
from engine.config import load
from pipelines.source import check_names


def submit_run(config_file: Path, address: str, folder: Path | None, overrides: list[str]) -> int:
    """Hand `triptych run` to the cluster and follow its output; returns its exit code."""
    config = load(config_file, overrides)
    check_names(config)
    root = (folder or config.folder()).resolve()
    words = [sys.executable, "-m", "pipelines.cli", "run", str(config_file.resolve())]
    words += ["--workspace", str(root)]
    for override in overrides:
        words += ["--set", override]
    return cluster.submit(address, shlex.join(words))
