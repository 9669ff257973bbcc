"""What is refused as answered without the image, by figures as they are stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config.select import Verified
from engine.records import canonical
from generators.filters import blind
from generators.verification.votes import counted, questions_of
from tests.generators.verification.replies import rows_of

(ROW,) = rows_of("left")
(COUNTED,) = counted(questions_of([ROW]), 1)
BLIND = "blind: answered as well without the image"


@pytest.mark.parametrize(
    ("image", "without", "least", "refused"),
    [
        (3, [0, 0, 0], 0.0, False),
        (3, [2, 0, 0], 0.0, False),
        (3, [2, 0, 0], 0.25, True),  # more than the least
        (3, [0, 3, 0], 0.0, True),  # a tie
        (2, [0, 0, 3], 0.0, True),
        (1, [1], 0.0, True),
        (0, [0, 0, 0], 0.5, False),  # hard, and no guess
        (0, [1, 0, 0], 0.0, True),
        (3, [], 0.5, False),  # not asked without
    ],
)
def test_a_row_is_out_where_it_is_given_as_often_without_the_image(
    image: int, without: list[int], least: float, refused: bool
) -> None:
    shown = dict(zip(("none", "blank", "other"), without)) | {"image": image}
    said = {k: {"answers": {"left": n, "right": 3 - n}, "unreadable": 1} for k, n in shown.items()}
    found = replace(COUNTED, blind=canonical(said))
    why = blind.reason(ROW, found, Verified(margin=least))
    assert why == (BLIND if refused else None)


def test_what_was_not_measured_is_not_refused() -> None:
    assert blind.reason(ROW, COUNTED, Verified(margin=0.5)) is None
