"""Further reasonings of a kept answer: which are told apart, which stay, and what they change."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from engine.config.select import Select
from engine.reasons import FURTHER
from engine.records import Decision, Judgement, Triplet, from_arrow, to_arrow
from reward_model.rationales import ALIKE, ENOUGH, SAME, SELF_BELOW, SELF_FLOOR, UNSOUND
from reward_model.threshold import (
    BELOW,
    KEPT,
    KEPT_BY_AGREEMENT,
    WORSE,
    Weighed,
    choices_of,
    confidences,
    decide,
    decisions,
    weighed,
)
from tests.reward_model.test_select import opinion, reasons, row

FIRST = "A bright round area lies in the left half of the image."
OTHERS = (
    "The right side is dark and even, so what is seen belongs to the other one.",
    "Compared with its mirror image, one kidney holds a smooth fluid space.",
    "Sharp edges and no echoes inside: such a cavity, close to the liver's edge, sits there.",
)
TOGETHER = Select(rationales=4, keep=1.0)
Case = tuple[list[Triplet], dict[str, Judgement]]


def question(
    *told: str, number: int = 0, probabilities: tuple[float, ...] = (), answer: str = "left"
) -> Case:
    """Samples that give one answer with these reasonings, the first judged best."""
    rows = [replace(row(number, answer, sample), rationale=r) for sample, r in enumerate(told)]
    chances = probabilities or tuple(0.9 - 0.1 * n for n in range(len(rows)))
    return rows, {t.id: opinion(t, 4 * p, p) for t, p in zip(rows, chances)}


def decided(case: Case, rules: Select = TOGETHER, reasoning: float = -math.inf) -> list[str]:
    """Reasons by a threshold under all questions, in the order of the rows."""
    rows, judged = case
    found = to_arrow(Weighed, _weighed(rows, judged, rules, reasoning=reasoning))
    return list(decisions(found, 0.0, rules, 1, True)["reason"].to_pylist())


def test_up_to_so_many_reasonings_are_kept_the_surest_first() -> None:
    case = question(FIRST, *OTHERS)
    assert decided(case) == [KEPT, FURTHER, FURTHER, FURTHER]
    three = TOGETHER.model_copy(update={"rationales": 3})
    assert decided(case, three) == [KEPT, FURTHER, FURTHER, ENOUGH]
    assert decided((case[0][::-1], case[1]), three) == [ENOUGH, FURTHER, FURTHER, KEPT]


def test_one_reasoning_is_kept_unless_more_are_asked_for() -> None:
    rows, judged = question(FIRST, *OTHERS)
    alone = decide(rows, judged, Select(keep=1.0), 1)
    assert [d.reason for d in alone] == [KEPT, SAME, SAME, SAME]
    named = decide(rows, judged, Select(keep=1.0, rationales=1), 1)
    assert [d.id for d in named] == [d.id for d in alone]  # as in records of before
    assert decide(rows, judged, TOGETHER, 1)[0].id != alone[0].id


@pytest.mark.parametrize(
    "again",
    [
        FIRST.upper(),
        "In the left half of the image lies a round, bright area.",  # other order
        "A bright round mass lies in the left half of the image.",  # one word of eleven
        "",  # no reasoning
    ],
)
def test_much_the_same_reasoning_is_not_kept_again(again: str) -> None:
    assert decided(question(FIRST, again, OTHERS[0])) == [KEPT, ALIKE, FURTHER]


def test_reasonings_are_told_apart_from_further_ones_too() -> None:
    told = decided(question(FIRST, OTHERS[0], OTHERS[0] + " Indeed."))
    assert told == [KEPT, FURTHER, ALIKE]


def test_a_reasoning_that_contradicts_is_no_further_one() -> None:
    false = "The cyst is on the right. It is small."
    assert decided(question(FIRST, false, OTHERS[0])) == [KEPT, UNSOUND, FURTHER]
    judged_unsound = question(FIRST, *OTHERS)
    rows, judged = judged_unsound
    judged[rows[1].id] = replace(judged[rows[1].id], reasoning=-9.0)
    assert decided(judged_unsound, TOGETHER, reasoning=0.0) == [KEPT, UNSOUND, FURTHER, FURTHER]


def test_a_further_row_has_to_be_as_sure_by_itself_as_a_question_has_to_be() -> None:
    sure = question(FIRST, *OTHERS[:2], probabilities=(0.9, 0.8, 0.3))
    least = question(FIRST, number=1, probabilities=(0.4,))
    made = decide([*sure[0], *least[0]], sure[1] | least[1], TOGETHER, 1)
    assert [d.reason for d in made] == [KEPT, FURTHER, SELF_BELOW, KEPT]
    assert [round(d.score, 3) for d in made] == [0.667, 0.8, 0.3, 0.4]  # a question's is the mean


def test_a_further_row_has_to_reach_the_floor_by_itself() -> None:
    case = question(FIRST, *OTHERS[:2], probabilities=(0.9, 0.3, 0.8))
    rules = TOGETHER.model_copy(update={"min_probability": 0.5})
    assert decided(case, rules) == [KEPT, SELF_FLOOR, FURTHER]


def test_nothing_stands_beside_a_choice_that_is_not_kept() -> None:
    sure = question(FIRST, OTHERS[0], number=1, probabilities=(0.9, 0.9))
    unsure = question(FIRST, OTHERS[0], number=2, probabilities=(0.1, 0.99))
    rows, judged = [*sure[0], *unsure[0]], sure[1] | unsure[1]
    half = TOGETHER.model_copy(update={"keep": 0.5})
    told = reasons(decide(rows, judged, half, 1))
    assert [told[t.id] for t in rows[:2]] == [KEPT, FURTHER]
    # Its second row is surer than the threshold, its question is not.
    assert sorted(told[t.id] for t in rows[2:]) == [BELOW, SAME]


def test_where_no_threshold_is_certified_no_further_row_is_kept() -> None:
    rows, judged = question(FIRST, *OTHERS)
    found = to_arrow(Weighed, _weighed(rows, judged))
    made = from_arrow(Decision, decisions(found, math.nan, TOGETHER, 1, True))
    assert not any(d.keep for d in made)
    assert [d.reason for d in made] == ["no threshold is certified", SAME, SAME, SAME]


def test_what_rules_out_a_choice_afterwards_rules_out_what_stands_beside_it() -> None:
    rows, judged = question(FIRST, *OTHERS[:1])
    found = _weighed(rows, judged)
    copied = [replace(found[0], reason="near-duplicate: asks what row a asks"), found[1]]
    made = from_arrow(Decision, decisions(to_arrow(Weighed, copied), 0.0, TOGETHER, 1, True))
    assert [d.reason for d in made] == ["near-duplicate: asks what row a asks", SAME]


def test_a_refused_row_takes_no_place_of_another() -> None:
    rows, judged = question(FIRST, *OTHERS)
    two = TOGETHER.model_copy(update={"rationales": 2})
    found = _weighed(rows, judged, two, {rows[1].id: "rubric: two answers"})
    assert [w.reason for w in found] == [KEPT, "rubric: two answers", FURTHER, ENOUGH]


def test_questions_are_counted_by_their_choices() -> None:
    rows, judged = question(FIRST, *OTHERS)
    found = to_arrow(Weighed, _weighed(rows, judged))
    assert len(confidences(found)) == 1


def test_another_answer_has_no_further_rows() -> None:
    rows, judged = question(FIRST, OTHERS[0])
    other = replace(row(0, "right", 9), rationale=OTHERS[1])
    judged[other.id] = opinion(other, -4.0, 0.2)
    assert decided(([*rows, other], judged)) == [KEPT, FURTHER, WORSE]


def test_without_a_judge_a_row_is_as_sure_as_its_own_words_were_likely() -> None:
    rows = [
        replace(row(0, "left", n, logprob), rationale=told)
        for n, (told, logprob) in enumerate(zip((FIRST, *OTHERS[:2]), (-0.1, -0.2, -3.0)))
    ]
    least = row(1, "left", 0, -1.5)
    made = decide([*rows, least], {}, TOGETHER, 1, trusted=False)
    assert [d.reason for d in made[:3]] == [KEPT_BY_AGREEMENT, FURTHER, SELF_BELOW]
    assert made[1].score == pytest.approx(math.exp(-0.2), abs=1e-6)


def _weighed(
    rows: list[Triplet],
    judged: dict[str, Judgement],
    rules: Select = TOGETHER,
    refused: dict[str, str] | None = None,
    reasoning: float = -math.inf,
) -> list[Weighed]:
    choices = choices_of(rows, judged, rules, True, True, reasoning)
    table = weighed(rows, judged, choices, rules, 1, refused=refused or {})
    return from_arrow(Weighed, table)
