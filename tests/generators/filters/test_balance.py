"""Balance: no constant guess is right far above chance, and the surest rows of each value stay."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.filters.balance import Balance, Placed, guesses, strata

ASK, YES_NO = "Is there a cyst?", ("yes", "no")
answers = st.lists(st.sampled_from(YES_NO), max_size=120)


def kept(rows: Iterable[str], margin: float, threshold: float = -1.0) -> list[int]:
    """Which rows are kept at a threshold, of answers from the surest; row n is as sure as -n."""
    balance, rows = Balance(margin), list(rows)
    moved: dict[str, Placed] = {}
    for n, answer in enumerate(rows):
        for placed in balance.add(str(n), 1 - n / 1000, strata(ASK, YES_NO, answer)):
            moved[placed.id] = placed
    moved |= {placed.id: placed for placed in balance.left()}
    sure = [moved[str(n)].confidence if str(n) in moved else 1 - n / 1000 for n in range(len(rows))]
    return [n for n, own in enumerate(sure) if own is not None and own >= threshold]


def test_one_value_alone_is_kept_while_it_may_be_chance() -> None:
    assert kept(["yes"] * 50, 0.0) == [0, 1, 2]  # three of three: from 44 % on
    assert len(kept(["yes"] * 50, 0.2)) == 8


def test_rows_in_balance_are_all_kept() -> None:
    assert kept(["yes", "no"] * 40, 0.0) == list(range(80))


def test_a_value_comes_in_when_another_makes_room_and_the_least_sure_stay_out() -> None:
    rows = ["yes"] * 40 + ["no"] * 20
    found = kept(rows, 0.0)
    assert found[-20:] == list(range(40, 60))
    yes = [n for n in found if n < 40]
    assert yes == list(range(len(yes)))
    assert 20 < len(yes) < 40


@given(answers, st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 120))
def test_a_threshold_keeps_what_would_be_kept_of_the_rows_above_it(
    rows: list[str], margin: float, cut: int
) -> None:
    above = rows[:cut]
    at = 1 - (cut - 1) / 1000
    assert kept(rows, margin, at) == kept(above, margin)


@given(answers, st.sampled_from([0.0, 0.1, 0.3]))
def test_what_is_kept_is_within_the_bound(rows: list[str], margin: float) -> None:
    found = guesses(strata(ASK, YES_NO, rows[n]) for n in kept(rows, margin))
    assert all(guess.low <= guess.chance + margin for guess in found)


def test_the_place_of_an_answer_is_measured_and_balanced_too() -> None:
    words = [f"word{n}" for n in range(60)]
    rows = [strata(f"Is {w} left?", (w, "other", "third"), w, again=False) for w in words]
    worst = guesses(rows)[0]
    assert (worst.stratum.guessed, worst.guess, worst.share) == ("place", "1", 1.0)
    balance = Balance(0.1)
    for n, at in enumerate(rows):
        assert not list(balance.add(str(n), 1.0, at))
    assert len(list(balance.left())) > 40


def test_rows_without_options_have_no_chance_to_compare_with() -> None:
    assert strata("Which finding is shown?", (), "cyst") == {}
    assert strata("Is there a cyst?", (), "Yes")


def test_options_in_another_order_and_other_wordings_are_one_stratum() -> None:
    one = strata("On which side is it?", ("left", "right"), "left")
    other = strata("It is on which side?", ("right", "left"), "left")
    assert {s for s in one if s.guessed == "value"} == {s for s in other if s.guessed == "value"}
    assert [v for s, v in one.items() if s.guessed == "place"] == ["1"]
    assert [v for s, v in other.items() if s.guessed == "place"] == ["2"]


def test_rows_of_earlier_rounds_count() -> None:
    balance = Balance(0.0)
    at = strata(ASK, YES_NO, "yes")
    for _ in range(10):
        balance.count(at)
    assert not list(balance.add("new", 1.0, at))
    [placed] = balance.left()
    assert placed.confidence is None
    assert placed.reason.startswith("balance: 'yes' is guessed as the value of")


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_nothing_gives_nothing(margin: float) -> None:
    assert kept([], margin) == []
    assert guesses([]) == []
