"""From what experts said to what a judge learns from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.records import Preference, Triplet, Verdict
from reward_model.examples import IMPLIED, SAID, Example, examples_of
from reward_model.preferences import preference
from tests.lineage_workspace import make_image, make_triplet
from tests.opinions import verdict

IMAGE = make_image(0, "g")


def row(answer: str, sample: int = 0, **more: Any) -> Triplet:
    known = {"question": "Which side?", "options": ("left", "right", "none"), "rationale": ""}
    return replace(make_triplet(IMAGE, "m", sample, 1), answer=answer, **known | more)


def prefers(
    one: Triplet, other: Triplet, outcome: str, criterion: str = "factuality"
) -> Preference:
    said = preference(one, other, criterion, "perturbed", "a", False)
    return replace(said, outcome=outcome)


def said(*verdicts: Verdict, rows: list[Triplet]) -> list[Example]:
    return [e for e in examples_of(verdicts, [], rows)[0] if e.kind == SAID]


@pytest.mark.parametrize(
    ("reasons", "targets"),
    [
        ((), {"factuality": 0.0}),
        (("wrong side",), {"factuality": 0.0}),
        (("reasoning wrong",), {"reasoning": 0.0}),
        (("bad question", "wrong finding"), {"factuality": 0.0, "relevance": 0.0}),
        (("a word that nobody knows",), {"factuality": 0.0}),
    ],
)
def test_a_rejected_row_is_wrong_by_its_reasons_and_nothing_is_said_of_the_rest(
    reasons: tuple[str, ...], targets: dict[str, float]
) -> None:
    [found] = said(verdict(row("left"), "reject", reasons=reasons), rows=[row("left")])
    assert found.targets == targets
    assert (found.accepted, found.second) == (0.0, None)


def test_an_accepted_row_is_right_by_all_that_it_speaks_of() -> None:
    bare, reasoned = row("left"), row("left", 1, rationale="I see it.")
    found = said(verdict(bare, "accept"), verdict(reasoned, "accept"), rows=[bare, reasoned])
    assert [e.targets for e in found] == [
        {"factuality": 1.0, "relevance": 1.0},
        {"factuality": 1.0, "reasoning": 1.0, "relevance": 1.0},
    ]


def test_readers_who_disagree_give_a_target_between() -> None:
    told = [verdict(row("left"), "accept", r) for r in "ab"]
    told.append(verdict(row("left"), "reject", "c", reasons=("wrong side",)))
    [found] = said(*told, rows=[row("left")])
    assert found.targets == {"factuality": pytest.approx(2 / 3), "relevance": 1.0}
    assert found.accepted == pytest.approx(2 / 3)
    assert set(found.sources) == {v.id for v in told}


def test_who_cannot_tell_or_is_asked_again_teaches_nothing_and_is_counted() -> None:
    told = [
        verdict(row("left"), "cannot tell"),
        verdict(row("left"), "accept", repeat=True),
        verdict(row("right", 5), "accept"),
    ]
    pairs = [
        prefers(row("left"), row("right", 1), "cannot tell"),
        replace(prefers(row("left"), row("right", 1), "better"), repeat=True),
    ]
    found, left_out = examples_of(told, pairs, [row("left"), row("right", 1)])
    assert found == []
    assert left_out == {"cannot tell": 2, "asked again": 2, "the row is gone": 1}


def test_a_preference_is_a_pair_a_tie_half_of_one_and_both_bad_two_rejected_rows() -> None:
    one, other = row("left"), row("right", 1)
    outcomes = ("better", "tie", "both bad")
    pairs = [prefers(one, other, outcome, "reasoning") for outcome in outcomes]
    found, left_out = examples_of([], pairs, [one, other])
    assert not left_out
    shown = [(e.first.id, e.second and e.second.id, dict(e.targets)) for e in found]
    assert shown == [
        (one.id, other.id, {"reasoning": 1.0}),
        (one.id, other.id, {"reasoning": 0.5}),
        (one.id, None, {"reasoning": 0.0}),
        (other.id, None, {"reasoning": 0.0}),
    ]
    assert all(e.accepted is None for e in found)


def implied(*verdicts: Verdict, rows: list[Triplet]) -> list[tuple[str, str]]:
    found = [e for e in examples_of(verdicts, [], rows)[0] if e.kind == IMPLIED]
    assert all(e.second is not None and e.targets == {"factuality": 1.0} for e in found)
    assert all(set(e.sources) <= {v.id for v in verdicts} for e in found)
    return sorted((e.first.answer, e.second.answer) for e in found if e.second)


def test_an_accepted_answer_sets_each_other_answer_of_its_question_behind_it() -> None:
    rows = [row("left"), row("Left.", 1), row("right", 2), row("right", 3), row("none", 4)]
    assert implied(verdict(rows[0], "accept"), rows=rows) == [("left", "none"), ("left", "right")]
    other = replace(rows[2], id="x", question="Which lung?")
    assert implied(verdict(other, "accept"), rows=[*rows, other]) == []


def test_a_correction_does_so_too_and_one_that_is_no_option_does_not() -> None:
    rows = [row("left"), row("none", 1)]
    corrected = verdict(rows[0], "reject", correction="right")
    assert implied(corrected, rows=rows) == [("right", "left"), ("right", "none")]
    assert implied(verdict(rows[0], "reject", correction="above"), rows=rows) == []


def test_of_an_open_answer_others_may_say_the_same_in_other_words() -> None:
    rows = [row("pneumonia", options=()), row("an infection", 1, options=())]
    assert implied(verdict(rows[0], "accept"), rows=rows) == []
    closed = [row(a, n, options=()) for n, a in enumerate(("yes", "no", "perhaps"))]
    assert implied(verdict(closed[0], "accept"), rows=closed) == [("yes", "no")]


def test_where_two_answers_were_accepted_nothing_follows() -> None:
    rows = [row("left"), row("right", 1)]
    told = [verdict(r, "accept") for r in rows]
    assert implied(*told, rows=rows) == []
    assert examples_of(told, [], rows)[1] == {"two right answers to one question": 1}
    doubted = [verdict(rows[0], "accept"), verdict(rows[0], "reject", "b")]
    assert implied(*doubted, rows=rows) == []


def test_an_implied_pair_has_reasoning_on_both_sides_or_on_none() -> None:
    rows = [row("left", rationale="There."), row("right", 1), row("none", 2, rationale="Gone.")]
    found, _ = examples_of([verdict(rows[0], "accept")], [], rows)
    told = [(e.first.rationale, e.second.rationale) for e in found if e.second]
    assert sorted(told) == [("", ""), ("There.", "Gone.")]
