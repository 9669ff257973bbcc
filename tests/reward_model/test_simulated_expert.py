"""The simulated expert's pairs: what is set against what, and how often it is wrong.

Each kind of pair is asked for many times over and its errors are counted against the rate that the
configuration states, by Clopper and Pearson's interval.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from scipy.stats import binomtest

from engine.config import build
from engine.records import Image, Preference, Triplet
from generators.phantoms import reporter
from generators.phantoms.oracle import is_true, reasons_truly, truth_of
from reward_model.experts import open_expert
from reward_model.experts.expert import EXPERT
from reward_model.patient_sets import is_frozen
from tests.drawn_workspace import answered, drawn

RATE = 0.2
CYST = "Is there a cyst?"
SIDES = ("left", "right")


@cache
def images() -> list[Image]:
    """Ultrasound phantoms, every second one with a cyst."""
    return [drawn("ultrasound", n, ("cyst", "none")[n % 2], size=48) for n in range(240)]


@cache
def asked(kind: str) -> tuple[Triplet, ...]:
    """Candidates on every image such that the expert makes one kind of pair of them."""
    rows: list[Triplet] = []
    for image in images():
        truth = truth_of(image)
        assert truth is not None
        true, false = ("yes", "no") if truth.finding == "cyst" else ("no", "yes")
        said = reporter.describe(truth) if kind == "reasoning" else ""
        right = answered(image, CYST, true, rationale=said)
        wrong = answered(image, CYST, false)
        premise = answered(image, "On which side is the solid mass?", "left", SIDES)
        rows += {
            "both": [right, wrong],
            "right": [right],
            "reasoning": [right],
            "wrong": [wrong],
            "premise": [premise],
        }[kind]
    return tuple(rows)


def compared(
    rows: tuple[Triplet, ...], rate: float, number: int = 10_000
) -> tuple[dict[str, Triplet], list[Preference]]:
    """All rows by id, and the expert's pairs."""
    config = build({}, [f"expert.error_rate={rate}"], "the test")
    made, pairs = open_expert(config, images()).pairs(list(rows), number, 7)
    return {r.id: r for r in [*rows, *made]}, pairs


def is_error(pair: Preference, rows: dict[str, Triplet]) -> bool:
    """Whether the worse row was chosen."""
    image = next(i for i in images() if i.id == pair.image_id)
    chosen, rejected = rows[pair.chosen_id], rows[pair.rejected_id]
    if pair.criterion == "reasoning":
        assert reasons_truly(image, chosen) != reasons_truly(image, rejected)
        return not reasons_truly(image, chosen)
    if pair.criterion == "relevance":  # a true row before one that is made up or a false premise
        return not is_true(image, chosen) or chosen.generator_id == "irrelevant"
    assert is_true(image, chosen) != is_true(image, rejected)
    return not is_true(image, chosen)


@pytest.mark.parametrize("kind", ["both", "right", "reasoning", "wrong", "premise"])
def test_without_errors_every_pair_is_right(kind: str) -> None:
    rows, pairs = compared(asked(kind), 0.0)
    assert len(pairs) >= 200
    assert not any(is_error(p, rows) for p in pairs)


@pytest.mark.parametrize(
    ("kind", "criterion"),
    [
        ("both", "factuality"),
        ("right", "factuality"),
        ("wrong", "factuality"),
        ("premise", "factuality"),
        ("premise", "relevance"),
        ("reasoning", "reasoning"),
    ],
)
def test_pairs_are_wrong_as_often_as_stated(kind: str, criterion: str) -> None:
    rows, pairs = compared(asked(kind), RATE)
    mine = [is_error(p, rows) for p in pairs if p.criterion == criterion]
    assert len(mine) >= 60
    low, high = binomtest(sum(mine), len(mine)).proportion_ci(0.999)
    assert low < RATE < high, f"{sum(mine)} of {len(mine)}"


def test_a_right_sample_is_set_against_a_wrong_one_of_its_question() -> None:
    rows, pairs = compared(asked("both"), 0.0)
    facts = [p for p in pairs if p.criterion == "factuality"]
    assert len(facts) == 240
    given = {r.id for r in asked("both")}
    for pair in facts:
        assert {pair.chosen_id, pair.rejected_id} <= given
        assert rows[pair.chosen_id].question_key == rows[pair.rejected_id].question_key


def test_a_question_answered_rightly_by_all_gets_the_answer_of_another_image() -> None:
    rows, pairs = compared(asked("right"), 0.0)
    facts = [p for p in pairs if p.criterion == "factuality"]
    assert len(facts) > 200  # one in two has a cyst
    for pair in facts:
        wrong = rows[pair.rejected_id]
        assert wrong.generator_id == "perturbed"
        assert wrong.answer != rows[pair.chosen_id].answer
    said = Counter((rows[p.chosen_id].answer, rows[p.rejected_id].answer) for p in facts)
    assert said[("yes", "no")] == said[("no", "yes")] == len(facts) / 2


def test_a_question_answered_wrongly_by_all_gets_the_experts_answer() -> None:
    rows, pairs = compared(asked("wrong"), 0.0)
    assert [p.criterion for p in pairs] == ["factuality"] * 240
    for pair in pairs:
        right = rows[pair.chosen_id]
        assert (right.generator_id, right.derived_from) == (EXPERT, (pair.rejected_id,))


def test_a_false_premise_loses_to_a_row_of_the_experts_in_fact_and_relevance() -> None:
    rows, pairs = compared(asked("premise"), 0.0)
    assert [p.criterion for p in pairs] == ["factuality", "relevance"] * 240
    for pair in pairs:
        assert rows[pair.chosen_id].generator_id == EXPERT
        assert rows[pair.chosen_id].question != rows[pair.rejected_id].question


def test_reasoning_about_another_image_is_worse_than_reasoning_about_this_one() -> None:
    rows, pairs = compared(asked("reasoning"), 0.0)
    mine = [p for p in pairs if p.criterion == "reasoning"]
    assert len(mine) > 40
    for pair in mine:
        good, bad = rows[pair.chosen_id], rows[pair.rejected_id]
        assert (good.answer, good.question_key) == (bad.answer, bad.question_key)
        assert (pair.tier_chosen, pair.tier_rejected) == (10, 0)


def test_what_was_asked_of_another_kind_of_image_is_irrelevant() -> None:
    brains = [drawn("MR", n, ("tumor", "none")[n % 2], size=48) for n in range(20)]
    told = [answered(i, "Is there a tumor?", ("yes", "no")[n % 2]) for n, i in enumerate(brains)]
    config = build({}, ["expert.error_rate=0"], "the test")
    some = [*images()[:20], *brains]
    expert = open_expert(config, some)
    made, pairs = expert.pairs([*asked("right")[:20], *told], 10_000, 7)
    rows = {row.id: row for row in made}
    mine = [p for p in pairs if p.criterion == "relevance"]
    assert mine
    kinds = {image.id: image.modality for image in some}
    for pair in mine:
        assert (pair.tier_chosen, pair.tier_rejected) == (10, -6)
        other = [kinds[i] for i in rows[pair.rejected_id].derived_from if i in kinds]
        assert other != [kinds[pair.image_id]]
        assert len(other) == 1


def test_the_pairs_of_a_frozen_patient_are_frozen() -> None:
    _, pairs = compared(asked("both"), RATE)
    groups = {image.id: image.group for image in images()}
    assert all(p.holdout == is_frozen(groups[p.image_id]) for p in pairs)
    assert 0.35 < sum(p.holdout for p in pairs) / len(pairs) < 0.65


def test_no_more_pairs_are_given_than_asked_for_and_none_of_a_row_with_a_problem() -> None:
    _, pairs = compared(asked("premise"), 0.0, 5)
    assert 4 <= len(pairs) <= 5  # what goes together stays together
    broken = tuple(replace(r, problem="answer: no answer tag") for r in asked("both"))
    assert compared(broken, 0.0) == ({r.id: r for r in broken}, [])
