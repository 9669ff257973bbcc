"""The report page and its statistics."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import TriptychError
from engine.hub.card import SYNTHETIC_NOTE
from engine.hub.export import export
from engine.lineage.opening import maintaining, writing
from engine.records import Verdict
from engine.statistics import auc, cluster_bootstrap, wilson
from engine.workspace import Workspace
from pipelines.report.page import _drift, _rewards, write_report
from tests.lineage_workspace import commit
from tests.read_workspace import read_workspace
from tests.round_workspace import ingest, make_images


def test_the_report_is_one_file_that_fetches_nothing(full: Workspace, tmp_path: Path) -> None:
    html = write_report(full, tmp_path).read_text()
    assert html.count("<svg ") == 8
    assert html.count("<article") == 18
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)
    assert "&lt;tumor&gt;" in html
    assert "<tumor>" not in html
    assert SYNTHETIC_NOTE in html
    assert "burned-in text" in html
    assert html == write_report(full, tmp_path).read_text()


def test_a_judge_drifts_by_what_it_was_worth_on_its_own_round(full: Workspace) -> None:
    assert _drift(full.commits()) == {
        "AUC": {1: 0.8, 2: 0.8},
        "calibration error": {1: 0.05, 2: 0.05},
    }


def test_the_parts_of_grpos_reward_are_drawn_by_step() -> None:
    by_step = {"step": [1, 2], "correct": [0.5, 0.6], "judge": [0.4, None], "kl": [0.1, 0.2]}
    commits = [
        {"stage": "grpo", "round": n, "metrics": {"by_step": steps} if steps else {}}
        for n, steps in enumerate([None, by_step, {"step": [1], "correct": [0.5]}])
    ]
    [(title, _, svg)] = _rewards(commits)
    assert title == "GRPO by step, round 1"
    assert all(f">{name}</text>" in svg for name in ("correct", "judge", "step"))
    assert "kl" not in svg


@pytest.mark.parametrize("ingested", [False, True])
def test_the_report_is_written_for_a_workspace_that_has_hardly_begun(
    tmp_path: Path, ingested: bool
) -> None:
    with writing(tmp_path / "w", "young", {}) as workspace:
        if ingested:
            ingest(workspace, make_images())
        html = write_report(workspace, tmp_path / "report").read_text()
        with pytest.raises(TriptychError, match="nothing to export"):
            export(workspace, tmp_path / "out", "young")
    assert "No model has been evaluated yet" in html
    assert "<svg " not in html


def test_wilson_matches_a_published_value() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0


def test_auc_counts_ties_half() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 5, 60), rng.random(60) < 0.4
    gaps = scores[labels][:, None] - scores[~labels][None]
    assert auc(scores, labels) == pytest.approx(np.mean((gaps > 0) + 0.5 * (gaps == 0)))
    assert np.isnan(auc([1.0, 2.0], [1, 1]))


def test_answers_of_one_patient_count_as_one_observation() -> None:
    correct = np.repeat([0, 1] * 10, 20)
    low, high = cluster_bootstrap(correct, np.repeat(np.arange(20), 20), seed=3)
    alone = cluster_bootstrap(correct, np.arange(400), seed=3)
    assert low < alone[0] < 0.5 < alone[1] < high
    assert (low, high) == cluster_bootstrap(correct, np.repeat(np.arange(20), 20), seed=3)


def test_the_report_tells_how_far_readers_agree(tmp_path: Path) -> None:
    workspace = read_workspace(tmp_path / "w")
    third = next(v for v in workspace.read(Verdict) if v.stream == "informative")
    later = replace(third, id="v9", expert="R9")
    with maintaining(workspace.root) as place:
        commit(place, "collect", 2, [later])
    page = write_report(workspace, tmp_path / "report").read_text()
    assert "Agreement of readers" in page
    cells = re.sub("<[^>]+>", "|", page[page.index(f"{third.expert} and R9") :])[:60]
    assert cells.startswith(f"{third.expert} and R9||–||–||100%||1||1|")
