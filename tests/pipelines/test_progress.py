"""What a run tells while it goes on."""

from __future__ import annotations

import time

import pytest

from pipelines.progress import Display, summary


def test_a_stage_that_counts_questions_and_then_steps_tells_the_rate_of_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    display, clock = Display(), iter(range(0, 4000, 100))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    with display.stage("grpo", 1, False):
        display.advance(100, 200, "questions")
        display.advance(200, 200, "questions")
        display.advance(1, 50, "steps")
        display.advance(3, 50, "steps")
    told = capsys.readouterr().out
    assert "200/200 questions, 1.0 questions/s, 0 s left" in told
    assert "3/50 steps, 0.0 steps/s, 2350 s left" in told


def test_the_judge_is_shown_as_last_measured_where_refinement_had_no_pairs() -> None:
    def commit(stage: str, round: int, **metrics: object) -> dict[str, object]:
        return {"stage": stage, "round": round, "rows": {}, "metrics": metrics}

    table = summary(
        [
            commit("reward", 0, auc=0.7),
            commit("refine", 1, accepted=False, why="no new pairs"),
            commit("refine", 2, accepted=True, auc_after=0.8),
            commit("refine", 3, accepted=False, why="no new pairs"),
        ]
    )
    assert list(table.columns[4].cells) == ["0.700", "0.800", "0.800"]
