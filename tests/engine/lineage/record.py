"""Shared by the tests of the record."""

from __future__ import annotations

from pathlib import Path

import duckdb

from engine.lineage.verify import verify
from engine.workspace import Workspace


def problems(workspace: Workspace) -> set[str]:
    return {p["what"] for p in verify(workspace).problems}


def written_over(workspace: Workspace, statement: str) -> None:
    with duckdb.connect(str(workspace.root / "ledger.duckdb")) as db:
        db.execute(statement)


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file without changing its size or its Parquet footer."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at) if len(data) < 4000 else 1000] ^= 1
    path.write_bytes(data)
