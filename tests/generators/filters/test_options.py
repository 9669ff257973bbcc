"""Options of which exactly one can be right."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.filters import options
from tests.generators.filters.rows import row

REFUSED = [
    (("left", "left and right"), "one holds another"),
    (("left", "left lower lobe", "right"), "one holds another"),
    (("mass", "solid mass"), "one holds another"),
    (("mild", "mild to moderate", "severe"), "one holds another"),
    (("effusion", "effusion with a mass"), "one holds another"),
    (("cyst", "Cysts", "tumor"), "two say the same"),
    (("CT", "MR", "CTs"), "two say the same"),
    (("left and right", "right and left"), "two say the same"),
    (("mass, effusion", "effusion and mass"), "two say the same"),
    (("2", "two"), "two say the same"),
    (("1-3", "2-4"), "two overlap"),
    (("3 or more", "3", "1"), "two overlap"),
    (("less than 2 cm", "under 3 cm"), "two overlap"),
    (("at least 2", "2", "0"), "two overlap"),
    (("cyst", "tumor", "all of the above"), "one names others"),
    (("cyst", "tumor", "both A and B"), "one names others"),
    (("cyst", "none of the above", "tumor"), "one names those above it, and is not the last"),
    (("cyst", "none", "none of the above"), "two say none"),
    (("cyst", "no abnormality", "None of these."), "two say none"),
    (("cyst",), "a single one"),
]
LET_PASS = [
    ("cyst", "no cyst"),
    ("with contrast", "without contrast"),
    ("contrast", "without contrast"),
    ("heart", "heart failure"),
    ("brain", "brain stem", "liver"),
    ("lung", "chest wall", "rib"),
    ("benign", "malignant", "normal", "abnormal"),
    ("1", "2", "3", "4"),
    ("less than 1 cm", "1 cm", "more than 1 cm"),
    ("0-5 mm", "5-10 mm", "over 10 mm"),
    ("0", "1", "2 or more"),
    ("2-3 days", "2-3 weeks"),
    ("T1", "T2", "T2*", "FLAIR"),
    ("type 1", "type 1b", "type 2"),
    ("IL-2", "IL-10", "IL-13", "IL-4"),
    ("A", "B", "C"),
    ("CT", "PET/CT", "MR"),
    ("cyst", "tumor", "none of the above"),
    ("hypodense", "isodense", "hyperdense"),
    ("GIC and silicate", "zinc phosphate and silicate"),
    ("tumor", "plaque", "infarct", "none"),
    ("L4/5", "L5/S1", "L3/4"),
    ("yes", "no"),
    ("gas", "pus", "lens", "fundus"),
]


@pytest.mark.parametrize(("choice", "fault"), REFUSED)
def test_options_that_a_board_refuses_are_out(choice: tuple[str, ...], fault: str) -> None:
    assert options.reason(row("Which?", choice[0], *choice)) == f"options: {fault}"


@pytest.mark.parametrize("choice", LET_PASS)
def test_options_of_which_one_can_be_right_pass(choice: tuple[str, ...]) -> None:
    assert options.reason(row("Which?", choice[0], *choice)) is None


@pytest.mark.parametrize("answer", ["right lung", "left, right", "", "Z"])
def test_an_answer_that_is_no_option_is_out(answer: str) -> None:
    found = options.reason(row("Which side?", answer, "left", "right"))
    assert found == "answer: not one of the options"


def test_a_question_without_options_is_not_looked_at() -> None:
    assert options.reason(row("Which side?", "anything at all")) is None


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=20))
def test_any_text_has_a_reason_or_none_and_raises_nothing(choice: list[str], said: str) -> None:
    found = options.reason(row("Which?", said, *choice))
    assert found is None or found.startswith(("options: ", "answer: "))


@pytest.mark.parametrize("choice", [c for c, fault in REFUSED if "last" not in fault])
def test_the_order_of_options_decides_nothing_but_what_is_above(choice: tuple[str, ...]) -> None:
    for order in permutations(choice):
        assert options.reason(row("Which?", order[0], *order))
