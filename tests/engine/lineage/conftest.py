"""Shared by the tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.lineage.opening import maintaining
from engine.records import Image
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw


@pytest.fixture(scope="module")
def withdrawn(original: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `original` with a withdrawal in it, so that no table is empty; to be read only."""
    root = tmp_path_factory.mktemp("withdrawn") / "w"
    shutil.copytree(original.root, root)
    with maintaining(root) as workspace:
        withdraw(workspace, workspace.read(Image)[0].id)
    return root


@pytest.fixture
def place(withdrawn: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(withdrawn, tmp_path / "w")
    return Workspace.existing(tmp_path / "w")
