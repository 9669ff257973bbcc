"""What a row is, is found from what was written: type, format, difficulty by agreement, steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.question_types import found_format
from engine.records import Found, Triplet
from generators.found import difficulty_of, found_of
from generators.phantoms import bank
from tests.drawn_workspace import answered
from tests.lineage_workspace import make_image

IMAGE = make_image(0, "g")


def samples(*answers: str, question: str = "Is there a cyst?") -> list[Triplet]:
    """Samples of one question; of an empty answer nothing could be read."""
    return [
        replace(
            answered(IMAGE, question, answer, sample=n),
            problem=None if answer else "answer: no answer tag",
        )
        for n, answer in enumerate(answers)
    ]


def found(rows: list[Triplet], chosen: str = "yes", steps: int | None = None) -> list[Found]:
    key = rows[0].question_key
    return found_of(rows, {key: chosen}, {key: steps} if steps else None)


@pytest.mark.parametrize(
    ("answers", "rate", "difficulty"),
    [
        (("yes", "yes", "yes", "yes"), 1.0, "easy"),
        (("yes", "Yes.", "YES", "no"), 0.75, "easy"),  # however it is spelt
        (("yes", "yes", "no", "no"), 0.5, "medium"),
        (("yes", "no", "no", "no"), 0.25, "hard"),
        (("yes", "no", "no"), 0.3333, "hard"),
        (("yes", "no", "", ""), 0.5, ""),  # two could be read: too few to find a hard one
        (("yes",), 1.0, ""),
    ],
)
def test_difficulty_is_the_share_of_samples_that_give_the_chosen_answer(
    answers: tuple[str, ...], rate: float, difficulty: str
) -> None:
    rows = samples(*answers)
    told = found(rows)
    assert [one.triplet_id for one in told] == [row.id for row in rows if row.problem is None]
    assert {(one.pass_rate, one.difficulty) for one in told} == {(rate, difficulty)}
    assert {one.samples for one in told} == {len([a for a in answers if a])}


def test_a_question_without_a_chosen_answer_has_no_difficulty() -> None:
    (one, *_) = found_of(samples("yes", "yes", "no", "no"), {})
    assert (one.pass_rate, one.difficulty, one.question_type) == (None, "", "disease")
    assert difficulty_of(None, 8) == ""


def test_questions_do_not_count_for_each_other() -> None:
    easy, hard = samples(*["yes"] * 4), samples("yes", "no", "no", "no", question="Is there a rib?")
    chosen = {rows[0].question_key: "yes" for rows in (easy, hard)}
    told = {one.triplet_id: one.difficulty for one in found_of([*hard, *easy], chosen)}
    assert {told[row.id] for row in easy} == {"easy"}
    assert {told[row.id] for row in hard} == {"hard"}


def test_steps_are_those_of_what_composed_the_question_else_one() -> None:
    assert found(samples("yes"))[0].steps == 1
    assert found(samples("yes"), steps=3)[0].steps == 3


@pytest.mark.parametrize(
    ("options", "answer", "form"),
    [
        (("yes", "no"), "yes", "closed"),
        (("No", "Yes"), "no", "closed"),
        (("yes", "no", "cannot be told"), "yes", "choice"),
        (("left", "right"), "left", "choice"),
        ((), "Yes", "closed"),
        ((), "a cyst", "open"),
        ((), "", "open"),
    ],
)
def test_a_format_is_told_by_options_and_answer(
    options: tuple[str, ...], answer: str, form: str
) -> None:
    assert found_format(options, answer) == form


def test_every_question_of_the_bank_has_its_own_format() -> None:
    for kind, (_, questions) in bank.TEMPLATES.items():
        closed = kind in bank.CLOSED
        for options in [("yes", "no") if closed else ("one", "two", "three"), ()]:
            qa = bank.QA(kind, questions[0], options, "yes" if closed else "one")
            assert found_format(qa.options, qa.answer) == qa.answer_format
