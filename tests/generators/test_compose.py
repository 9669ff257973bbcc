"""Composed questions: what computes them, how they are written, and that they tell no answer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from benchmarks.compose import told_by_words
from engine.answers.matching import is_correct
from generators.compose.program import (
    COUNT,
    NUMBER,
    WORD,
    Apply,
    Fact,
    Given,
    Look,
    Program,
)
from generators.compose.words import noun, singular
from generators.compose.writer import question, rationale
from generators.filters import reason
from reward_model.process import flaw_of, steps_of
from tests.generators.composed import LEFT, ONE, SMALL, WIDE, from_truth

# Programs


def test_a_stored_program_gives_the_stored_answer_again() -> None:
    for _, _, one, row in from_truth():
        assert row.program is not None
        again = Program.from_json(row.program)
        assert again == one.program
        assert again.answer == row.answer
        assert rationale(again) == row.rationale
        assert again.to_json() == row.program
        assert len(again.run()[1]) == one.steps
        assert 2 <= one.steps <= 5


SEVERAL_OR = Apply("more", (Look(ONE), Given(1, NUMBER)))


def test_a_condition_asks_for_the_side_or_the_size() -> None:
    """If there is more than one lesion, its side, else its size."""
    program = Program(Apply("if", (SEVERAL_OR, Look(LEFT), Look(SMALL))))
    assert program.answer == "small"
    assert question(program, 0) == (
        "If there is more than one cyst, give the affected side; otherwise give the cyst size "
        "(small, medium or large)."
    )
    assert rationale(program) == (
        "The condition does not hold: there is 1 cyst. "
        "So the cyst size is asked for: the cyst size is small."
    )
    two = program.on(lambda fact: 2 if fact.about == COUNT else fact.value)
    assert two is not None
    assert two.answer == "left"
    assert rationale(two).startswith("The condition holds: there are 2 cysts.")


def test_the_branch_that_is_not_taken_is_not_run() -> None:
    program = Program(Apply("if", (SEVERAL_OR, Look(LEFT), Look(SMALL))))
    _, steps = program.run()
    assert [step.fact for step in steps] == [ONE, SMALL]


@pytest.mark.parametrize(
    ("op", "facts", "answer", "said"),
    [
        ("sum", WIDE, "23.5 mm", "12.0, 7.5 and 4.0 mm add up to 23.5 mm."),
        ("difference", WIDE[::2], "8.0 mm", "The difference is 12.0 - 4.0 = 8.0 mm."),
        ("ratio", WIDE[::2], "3.0 times", "The ratio is 12.0 / 4.0 = 3.0 times."),
    ],
)
def test_arithmetic_on_widths(op: str, facts: list[Fact], answer: str, said: str) -> None:
    program = Program(Apply(op, tuple(map(Look, facts))), 100.0)
    assert program.answer == answer
    assert rationale(program).endswith(said)
    assert question(program, 0).startswith("The image is 100 mm wide.")


@pytest.mark.parametrize(
    "tree",
    [
        Apply("more", (Look(LEFT), Given("right", WORD))),  # words are not more
        Apply("is", (Look(LEFT), Given(1, NUMBER))),
        Apply("all", (Look(LEFT), Look(SMALL))),
        Apply("all", (SEVERAL_OR,)),
        Apply("if", (Look(LEFT), Look(ONE), Look(SMALL))),
        Apply("sum", (Look(WIDE[0]), Given(1, NUMBER))),
        Apply("power", (Look(WIDE[0]), Look(WIDE[1]))),
        Apply("is", (Look(replace(ONE, value=True)), Given(1, NUMBER))),
        Look(replace(WIDE[0], value="wide")),
    ],
)
def test_a_tree_without_a_type_is_no_program(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"take|compares|is no|called"):
        Program(tree)


@pytest.mark.parametrize("text", ["", "{}", '{"facts":[],"tree":["look",0]}', "[1]", '{"tree":[]}'])
def test_what_is_no_stored_program_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"program|Expecting"):
        Program.from_json(text)


# What is written


def test_every_row_passes_the_filters_and_contradicts_itself_nowhere() -> None:
    refused = Counter(found for *_, row in from_truth() if (found := reason(row)))
    # A sum with itself ("44.5 - 22.5 = 22.0") reads as a loop to the filter of reasoning.
    assert set(refused) <= {"reasoning: the same words again and again"}
    assert refused.total() < 0.02 * len(from_truth())
    assert {flaw_of(row, None, -np.inf) for *_, row in from_truth()} == {None}


def test_the_rationale_has_a_sentence_a_step_and_says_every_fact_that_was_looked_at() -> None:
    for *_, one, row in from_truth():
        assert len(steps_of(row.rationale)) == one.steps
        for step in one.program.run()[1]:
            if step.fact and isinstance(step.fact.value, float):
                assert f"{step.fact.value:.1f} mm" in row.rationale


def test_numbers_articles_and_verbs_agree() -> None:
    text = " ".join(f"{row.question} {row.rationale}" for *_, row in from_truth())
    assert not re.search(r"\b1 (?:lesions|cysts|nodules|infarcts|statements are)", text)
    assert not re.search(r"\b[2-9] (?:lesion|cyst|nodule|infarct|plaque)\b", text)
    assert not re.search(r"\bthere (?:is [2-9]|are 1)\b", text)
    assert not re.search(r"\ba (?=[aeio])|\ban (?=[^aeio])", text)
    assert not re.search(r"\ban? (?:consolidation|hydronephrosis|drusen|glaucoma|colitis)", text)
    assert "there is drusen" not in text
    assert not re.search(r"[{}]|  |\bNone\b|\bTrue\b|\bFalse\b|\.\.", text)


def test_names_in_other_numbers() -> None:
    words = ["cyst", "metastasis", "liver metastasis", "opacity", "mass", "solid mass", "fracture"]
    many = ["cysts", "metastases", "liver metastases", "opacities", "masses", "solid masses"]
    assert [noun(word).many for word in words] == [*many, "fractures"]
    assert [singular(word) for word in [*many, "fractures"]] == words
    assert [singular(word) for word in words] == words
    assert noun("pneumonia").there() == "there is pneumonia"
    assert noun("infarct").there() == "there is an infarct"
    assert noun("drusen").there(present=False) == "there are no drusen"
    assert noun("stenosis").there() == "there is a stenosis"


def test_a_finding_is_not_named_where_it_is_asked_whether_it_is_there() -> None:
    for *_, one, row in from_truth():
        for fact in one.program.facts:
            if fact.about == "presence":
                said = row.question.replace(noun(fact.subject).there(), "")
                said = said.replace(noun(fact.subject).there(present=False), "")
                assert fact.subject not in said


# Options and balance


def test_options_hold_the_answer_once_and_are_apart() -> None:
    for *_, row in from_truth():
        assert sum(is_correct(option, row.answer, row.options) for option in row.options) == 1
        assert len(set(row.options)) == len(row.options) >= 2
        lengths = [len(option) for option in row.options]
        assert max(lengths) - min(lengths) <= 20
        if row.answer.endswith(("mm", "times")):
            values = [float(option.split()[0]) for option in row.options]
            assert values == sorted(values)
            assert all(1.25 <= b / a <= 1.45 for a, b in pairwise(values))


def test_a_condition_offers_two_of_each_branch() -> None:
    for *_, one, row in from_truth():
        if one.form == "condition":
            _, then, otherwise = one.program.tree.args
            assert {str(then.fact.value), str(otherwise.fact.value)} < set(row.options)
            assert len(row.options) == 4


def test_neither_answer_nor_place_is_taken_more_often() -> None:
    answers: dict[Any, Counter[str]] = defaultdict(Counter)
    places: dict[Any, Counter[int]] = defaultdict(Counter)
    for *_, one, row in from_truth():
        if one.closed or one.form == "counting":
            answers[one.form, one.steps][row.answer] += 1
        places[one.form, len(row.options)][row.options.index(row.answer)] += 1
    for (form, steps), counts in answers.items():
        possible = steps if form == "counting" else 2
        least = min(counts.values()) if len(counts) == possible else 0
        assert max(counts.values()) - least <= 6, (form, steps, counts)
    for (form, number), counts in places.items():
        if form == "counting":
            continue  # the place is the number
        least = min(counts.values()) if len(counts) == number else 0
        assert max(counts.values()) - least <= 2 * (1 + (number == 2)), (form, number, counts)


def test_one_who_reads_the_words_alone_does_not_know_the_answer() -> None:
    """Of closed questions, and of conditions which branch is asked for; and of counts."""
    told = told_by_words(from_truth())
    forms = ("both", "either", "exceeds", "condition")
    right, number = (sum(told[form][n] for form in forms) for n in (0, 1))
    assert number > 220
    assert right / number < 0.5 + 2 * (0.25 / number) ** 0.5, told
    counts = {int(form[-1]): of for form, of in told.items() if form.startswith("counting")}
    chance = sum(of[1] / (n + 1) for n, of in counts.items())
    assert sum(of[0] for of in counts.values()) < chance + 2 * chance**0.5, told
