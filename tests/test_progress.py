"""What a run tells while it goes on."""

from __future__ import annotations

import time

import pytest

from pipelines.progress import Display


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
