"""How many of a question's samples must give the row's answer."""

from __future__ import annotations

import pytest

from engine.config.select import Verified
from generators.filters import refused, self_consistency
from generators.verification.votes import counted, questions_of
from tests.generators.verification.replies import rows_of

ROWS = rows_of("left", "A", "left", "right")
(FOUND,) = counted(questions_of(ROWS), 1)


@pytest.mark.parametrize(
    ("least", "out"), [(0.0, []), (0.25, []), (0.3, [3]), (0.75, [3]), (0.8, [0, 1, 2, 3])]
)
def test_rows_with_too_few_voices_are_out(least: float, out: list[int]) -> None:
    held_to = Verified(self_consistency=least)
    found = [n for n, row in enumerate(ROWS) if self_consistency.reason(row, FOUND, held_to)]
    assert found == out


def test_it_asks_for_nothing_by_default() -> None:
    assert [refused(row, FOUND, Verified()) for row in ROWS] == [None] * 4
