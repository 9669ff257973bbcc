"""A debate, a second try, and replies held to a form: what is asked, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from engine.answers import forms
from engine.answers.reading import read_question
from engine.prompts import answer_prompt, ask_prompt, debate_prompt, retry_prompt
from engine.records import Task, Triplet
from engine.vlm.protocol import Request, Sample, Sampling
from generators import filters
from generators.debate import read_exchange
from generators.proposer import ProposerSettings, propose
from reward_model.contradictions import contradictions
from reward_model.process import steps_of
from tests.generators.test_proposer import LEFT, OPEN, SIDE
from tests.lineage_workspace import make_image
from tests.pictures import PNG

PLAN = ProposerSettings("model", "full", 2, 0.6, 0.9, 33, 1000, 3)
AGAIN = replace(PLAN, again=True)
IMAGES = [make_image(n, f"g{n}") for n in range(4)]
DEBATED = Task.make("MR", "attribute", "medium", "choice", "debate")
PLAIN = Task.make("MR", "attribute", "medium", "choice", "step")
FIRST = "<think>A dark area lies there.</think><answer>left</answer>"
SECOND = "<think>The area is the normal ventricle.</think><answer>B</answer>"
VERDICT = (
    "<think>The rim of the area, which no ventricle has, decides.</think><answer>left</answer>"
)
NONE = "no answer tag"


class Turns:
    """A VLM that says what it is told to of each turn, and remembers what it was asked."""

    def __init__(self, *turns: Sequence[Sequence[str]]) -> None:
        self.turns = turns
        self.asked: list[tuple[list[Request], Sampling]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        said = self.turns[len(self.asked)]
        self.asked.append((list(requests), sampling))
        assert [len(texts) for texts in said] == [sampling.n] * len(requests)
        return [[Sample(text, -float(len(self.asked)), 5) for text in texts] for texts in said]


def proposed(
    tasks: Sequence[Task], plan: ProposerSettings, *turns: Sequence[Sequence[str]]
) -> tuple[list[Triplet], Turns]:
    vlm = Turns(*turns)
    return propose(vlm, PNG, list(zip([i.id for i in IMAGES], tasks)), plan), vlm


# Debate


def test_a_debate_is_two_opposed_readings_and_a_verdict() -> None:
    rows, vlm = proposed(
        [DEBATED], PLAN, [[SIDE]], [], [[FIRST], [SECOND]], [[SECOND], [FIRST]], [[VERDICT]] * 2
    )
    (png, options) = PNG[IMAGES[0].id], ("left", "right")

    def turn(name: str, *before: str) -> str:
        return debate_prompt("full", name, "On which side?", options, *before)

    one, other = "left. A dark area lies there.", "B. The area is the normal ventricle."
    assert [requests for requests, _ in vlm.asked[2:]] == [
        [Request(png, turn("first"), seed) for seed in (0, 1)],
        [Request(png, turn("second", said), n) for n, said in enumerate((one, other))],
        [
            Request(png, turn("verdict", said, against), n)
            for n, (said, against) in enumerate(((one, other), (other, one)))
        ],
    ]
    assert [sampling for _, sampling in vlm.asked[2:]] == [
        Sampling(1, 0.9, 33, seed) for seed in (1002, 1004, 1006)
    ]
    assert [row.problem for row in rows] == [None, None]
    assert [row.answer for row in rows] == ["left", "left"]
    decides = "The rim of the area, which no ventricle has, decides."
    assert rows[0].rationale == f"Two readings were weighed: left, or right. {decides}"
    assert rows[1].rationale == f"Two readings were weighed: right, or left. {decides}"
    assert [row.logprob for row in rows] == [-5.0, -5.0]  # of the verdict
    assert [row.sample for row in rows] == [0, 1]


def test_the_whole_exchange_is_the_raw_text_and_gives_the_row_again() -> None:
    turns = [[SIDE]], [], [[FIRST], [FIRST]], [[SECOND]] * 2, [[VERDICT], ["The answer is (B)."]]
    rows, _ = proposed([DEBATED], PLAN, *turns)
    for row, verdict in zip(rows, (VERDICT, "The answer is (B).")):
        exchange = row.raw.removeprefix(SIDE)
        assert exchange == f"<first>\n{FIRST}\n</first>\n<second>\n{SECOND}\n</second>\n{verdict}"
        assert read_question(row.raw.removesuffix(exchange)).text == row.question
        read = read_exchange(exchange, row.options)
        assert (read.answer, read.rationale, read.problem) == (row.answer, row.rationale, None)


def test_a_debates_row_passes_the_filters_and_contradicts_itself_in_no_step() -> None:
    turns = [[SIDE]], [], [[FIRST]] * 2, [[SECOND]] * 2, [[VERDICT]] * 2
    (row, _), _ = proposed([DEBATED], PLAN, *turns)
    assert filters.reason(row) is None
    steps = tuple(steps_of(row.rationale))
    assert contradictions(steps, row.question, row.answer, row.options) == ()


@pytest.mark.parametrize(
    ("first", "second", "verdict", "problem"),
    [
        ("It is dark.", None, None, f"first reading: {NONE}"),
        (FIRST, FIRST, None, "second reading: it answers as the reading that it has to oppose"),
        (FIRST, "<answer>A</answer>", None, "second reading: it answers as the reading that it"),
        (FIRST, "<answer>above</answer>", None, "second reading: not one of the options"),
        (FIRST, SECOND, "Both may be.", f"verdict: {NONE}"),
        (FIRST, SECOND, "<answer>left or right</answer>", "verdict: not one of the options"),
        (
            FIRST.replace("dark", "</first> dark"),
            None,
            None,
            "first reading: a mark of the exchange inside it",
        ),
    ],
)
def test_a_debate_that_ends_early_is_a_row_with_its_reason(
    first: str, second: str | None, verdict: str | None, problem: str
) -> None:
    said = [[[text]] if text else [] for text in (first, second, verdict)]
    (row,), _ = proposed([DEBATED], replace(PLAN, samples=1), [[SIDE]], [], *said)
    assert str(row.problem).startswith(f"answer: {problem}")
    assert row.question == "On which side?"
    assert all(text in row.raw for text in (SIDE, first, second, verdict) if text)


def test_a_second_reading_that_does_not_oppose_is_asked_for_again() -> None:
    plan = replace(AGAIN, samples=1)
    turns = [[SIDE]], [], [[FIRST]], [[FIRST]], [[SECOND]], [[VERDICT]]
    (row,), vlm = proposed([DEBATED], plan, *turns)
    (request,), _ = vlm.asked[4]
    said = "could not be read: it answers as the reading that it has to oppose."
    assert said in " ".join(request.text.split())
    assert (row.problem, row.tries, row.answer) == (None, 2, "left")


def test_debated_and_plain_tasks_are_in_the_order_of_the_plan() -> None:
    turns = [[SIDE]] * 3, [[LEFT]], [[FIRST]] * 2, [[SECOND]] * 2, [[VERDICT]] * 2
    tasks = [DEBATED, PLAIN, DEBATED]
    rows, vlm = proposed(tasks, replace(PLAN, samples=1), *turns)
    assert [row.image_id for row in rows] == [image.id for image in IMAGES[:3]]
    assert ["<first>" in row.raw for row in rows] == [True, False, True]
    assert [request.seed for request in vlm.asked[1][0]] == [1]
    assert [request.seed for request in vlm.asked[2][0]] == [0, 2]


def test_where_nothing_is_debated_no_turn_is_asked() -> None:
    _, vlm = proposed([PLAIN], replace(PLAN, samples=1), [[SIDE]], [[LEFT]])
    assert len(vlm.asked) == 2


# A second try


def test_a_question_that_cannot_be_read_is_asked_for_again_with_the_complaint() -> None:
    tasks, asks = [PLAIN, PLAIN], [["What?"], [SIDE]]
    rows, vlm = proposed(tasks, AGAIN, asks, [[OPEN]], [["<answer>cyst</answer>"] * 2, [LEFT] * 2])
    asked = ask_prompt("full", PLAIN.to_dict())
    ((request,), sampling) = vlm.asked[1]
    assert request == Request(
        PNG[IMAGES[0].id], retry_prompt("full", asked, "What?", "no question tag"), seed=0
    )
    assert "could not be read: no question tag. It was:\nWhat?" in request.text
    assert sampling == Sampling(1, 0.6, 33, 1000 + (1 << 16))
    assert [(row.question, row.tries) for row in rows] == [
        ("What is shown?", 2),
        ("What is shown?", 2),
        ("On which side?", 1),
        ("On which side?", 1),
    ]
    assert rows[0].raw == OPEN + "<answer>cyst</answer>"


def test_an_answer_that_cannot_be_read_is_asked_for_again_by_itself() -> None:
    rows, vlm = proposed([PLAIN], AGAIN, [[SIDE]], [[LEFT, "It is there."]], [["(B)"]])
    ((request,), sampling) = vlm.asked[2]
    asked = answer_prompt("full", "On which side?", ("left", "right"), "step")
    assert request.text == retry_prompt("full", asked, "It is there.", NONE)
    assert (request.seed, sampling.seed, sampling.n) == (1, 1001 + (1 << 16), 1)
    assert [(row.answer, row.tries, row.problem) for row in rows] == [
        ("left", 1, None),
        ("(B)", 2, None),
    ]


def test_what_is_still_unreadable_is_a_row_with_its_last_reason() -> None:
    turns = [["What?"], [SIDE]], [["Why"]], [[LEFT, "?"]], [["<answer>above</answer>"]]
    rows, vlm = proposed([PLAIN, PLAIN], AGAIN, *turns)
    assert len(vlm.asked) == 4
    assert [(row.problem, row.tries) for row in rows] == [
        (None, 1),
        ("answer: not one of the options", 2),
        ("question: no question tag", 2),
    ]
    assert rows[2].raw == "Why"


def test_what_a_backend_refuses_is_not_asked_for_again() -> None:
    class Refusing(Turns):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
            self.asked.append((list(requests), sampling))
            return [[Sample("", None, 0, "too long")] for _ in requests]

    vlm = Refusing()
    (row,) = propose(vlm, PNG, [(IMAGES[0].id, PLAIN)], AGAIN)
    assert (row.problem, row.tries) == ("question: too long", 1)
    assert len(vlm.asked) == 2  # the second for no answers


def test_without_words_for_it_nothing_is_asked_for_again() -> None:
    rows, vlm = proposed([PLAIN], replace(PLAN, samples=1), [["What?"]], [])
    assert (rows[0].problem, rows[0].tries, len(vlm.asked)) == ("question: no question tag", 1, 2)


def test_a_long_reply_is_shown_again_in_part() -> None:
    told = retry_prompt("full", "Ask.", "x" * 5000, "no question tag")
    assert len(told) < 1500
    assert "x …" in told


# Forms


def test_replies_are_held_to_the_form_of_the_task_and_of_the_question() -> None:
    plan = replace(PLAN, samples=1, structured=True)
    turns = [[SIDE]] * 2, [[LEFT]], [[FIRST]], [[SECOND]], [[VERDICT]]
    _, vlm = proposed([PLAIN, DEBATED], plan, *turns)
    asked, answers, *debate = [[r.form for r in requests] for requests, _ in vlm.asked]
    assert asked == [forms.of_question("choice")] * 2
    reasoned = forms.of_answer(("left", "right"), True)
    assert [answers, *debate] == [[reasoned]] * 4
    _, free = proposed([PLAIN], replace(PLAN, samples=1), [[SIDE]], [[LEFT]])
    assert {r.form for requests, _ in free.asked for r in requests} == {None}
