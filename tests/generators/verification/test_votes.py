"""How a question's samples voted."""

from __future__ import annotations

import json
from dataclasses import replace

from generators.verification.votes import counted, questions_of
from tests.generators.verification.replies import rows_of


def test_the_answer_of_most_samples_is_verified_by_its_surest_row() -> None:
    rows = rows_of("right", "left", "A", "(A) left")
    (one,) = counted(questions_of(rows[::-1]), 1)
    assert (one.answer, one.samples, one.agreeing) == ("left", 4, 3)  # "A" is the option left
    assert json.loads(one.answers) == {"left": 3, "right": 1}
    assert one.triplet_id == rows[1].id
    assert (one.question_id, one.image_id) == (rows[0].question_key, rows[0].image_id)
    assert (one.margin, one.score, one.blind, one.rubric) == (None, None, "", "")


def test_of_as_many_samples_the_surer_answer_is_verified_whatever_the_order() -> None:
    rows = rows_of("left", "right", "right", "left")
    assert counted(questions_of(rows), 1) == counted(questions_of(rows[::-1]), 1)
    tied = rows_of("right", "left")
    assert counted(questions_of(tied), 1)[0].answer == "right"
    unknown = [replace(row, logprob=None) for row in tied]
    assert counted(questions_of(unknown), 1)[0].answer == "left"  # by its words


def test_rows_that_did_not_parse_have_no_vote_and_each_question_its_own() -> None:
    rows = rows_of("left", "right", "right")
    rows[2] = replace(rows[2], problem="answer: no answer tag")
    other = rows_of("right", question="Where is it?")
    found = counted(questions_of([*rows, *other]), 1)
    assert sorted(one.samples for one in found) == [1, 2]
    assert len({one.id for one in found}) == 2
