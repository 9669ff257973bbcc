"""What is refused by a rubric's replies as they are stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config.select import Verified
from engine.records import canonical
from generators.filters import rubric
from generators.verification.votes import counted, questions_of
from tests.generators.verification.replies import rows_of

ROW, OTHER = rows_of("left", "right")
(COUNTED,) = counted(questions_of([ROW, OTHER]), 1)


@pytest.mark.parametrize(
    ("failed", "score", "why"),
    [
        ([], 1.0, None),
        ([], 0.9, None),
        ([], 0.89, "rubric: too low a score"),
        ([], None, None),  # nothing that gives points was asked
        (["one_type"], 0.95, "rubric: one_type"),
        (["one_type", "vague (not readable)"], 0.95, "rubric: one_type"),
    ],
)
def test_essentials_must_pass_and_the_score_be_reached(
    failed: list[str], score: float | None, why: str | None
) -> None:
    told = {"items": {}, "score": score, "failed": failed}
    found = replace(COUNTED, rubric=canonical({"items": {}, "answers": {"left": told}}))
    assert rubric.reason(ROW, found, Verified(rubric=0.9)) == why
    assert rubric.reason(OTHER, found, Verified()) == "rubric: this answer was not verified"


def test_what_was_not_measured_is_not_refused() -> None:
    assert rubric.reason(ROW, COUNTED, Verified(rubric=1.0)) is None
