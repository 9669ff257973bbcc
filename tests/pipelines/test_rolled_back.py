"""A GRPO that did harm does not steer the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.records import Evaluation, Model
from engine.workspace import Workspace
from tests.conftest import small
from tests.forked import triptych

INLINE = "cluster.address=inline"

pytestmark = pytest.mark.loop


def test_grpo_that_loses_on_validation_is_rolled_back(tmp_path: Path) -> None:
    """A rate of 1 ruins the weights; the SFT model stays the policy, and the report says so."""
    ruin = small("grpo.lr=1", "grpo.tolerance=0", "reward.refine_pairs=0", INLINE)
    done = triptych("run", "configs/demo.yaml", "-w", tmp_path / "run", *ruin)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SFT stays the policy" in done.stdout
    assert "as SFT" in done.stdout
    workspace = Workspace.existing(tmp_path / "run")
    metrics = next(c["metrics"] for c in workspace.commits() if c["stage"] == "grpo")
    assert metrics["validation"] < metrics["validation_before"]
    assert "policy" not in {m.role for m in workspace.read(Model)}
    answered = {e.model_id for e in workspace.read(Evaluation) if e.arm in ("sft", "policy")}
    assert answered == {m.id for m in workspace.read(Model) if m.role == "sft"}
    assert "rolled back" in (tmp_path / "run" / "report" / "index.html").read_text()
    verified = triptych("lineage", "verify", "-w", tmp_path / "run")
    assert verified.returncode == 0, verified.stdout + verified.stderr
