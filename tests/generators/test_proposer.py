"""What a generator is asked, with which seeds, and what becomes of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from engine.answers.parsing import render_completion, render_question
from engine.config.backend import Transformers
from engine.prompts import answer_prompt, ask_prompt
from engine.records import Prompt, Task, Triplet
from engine.vlm import tiny
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import Request, Sample, Sampling
from generators.proposer import ProposerSettings, prompt_of, propose
from tests.drawn_workspace import drawn
from tests.lineage_workspace import make_image
from tests.pictures import PNG

PLAN = ProposerSettings("model", "compact", 2, 0.6, 0.9, 33, 1000, 3)
IMAGES = [make_image(n, f"g{n}") for n in range(4)]
STYLES = ("direct", "step", "meta", "direct")
TASKS = [Task.make("MR", "disease", "easy", "choice", style) for style in STYLES]
SIDE = "<question>On which side?</question><options>left | right</options>"
OPEN = "<question>What is shown?</question>"
LEFT, THOUGHT = "<answer>left</answer>", "<think>It is dark.</think><answer>B</answer>"


class Scripted:
    """A VLM that says what it is told to, and remembers what it was asked."""

    def __init__(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> None:
        self.turns = [[[q] for q in questions], [list(a) for a in answers]]
        self.asked: list[tuple[list[Request], Sampling]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        said = self.turns[len(self.asked)]
        self.asked.append((list(requests), sampling))
        assert len(said) == len(requests)
        # The log-probability tells question and answer, request and sample apart.
        turn = len(self.asked)
        return [
            [Sample(text, -turn - k / 10 - n / 100, 5) for n, text in enumerate(texts)]
            for k, texts in enumerate(said)
        ]


def proposed(
    questions: Sequence[str], answers: Sequence[Sequence[str]], plan: ProposerSettings = PLAN
) -> tuple[list[Triplet], Scripted]:
    vlm = Scripted(questions, answers)
    return propose(vlm, PNG, list(zip([i.id for i in IMAGES], TASKS))[: len(questions)], plan), vlm


@pytest.mark.parametrize("words", ["compact", "full"])
def test_a_question_is_asked_for_in_the_tasks_words_about_its_image(words: str) -> None:
    plan = replace(PLAN, prompts=words)
    _, vlm = proposed([SIDE, OPEN], [[LEFT] * 2] * 2, plan)
    requests, sampling = vlm.asked[0]
    assert requests == [
        Request(PNG[image.id], ask_prompt(words, task.to_dict()), seed=place)
        for place, (image, task) in enumerate(zip(IMAGES, TASKS[:2]))
    ]
    assert sampling == Sampling(n=1, temperature=0.6, max_tokens=33, seed=1000)


@pytest.mark.parametrize("words", ["compact", "full"])
def test_an_answer_is_asked_for_in_the_tasks_style_with_the_next_seed(words: str) -> None:
    plan = replace(PLAN, prompts=words)
    _, vlm = proposed([SIDE, "no tag", OPEN], [[LEFT] * 2] * 2, plan)
    requests, sampling = vlm.asked[1]
    assert requests == [
        Request(
            PNG[IMAGES[0].id],
            answer_prompt(words, "On which side?", ("left", "right"), "direct"),
            0,
        ),
        Request(PNG[IMAGES[2].id], answer_prompt(words, "What is shown?", (), "meta"), seed=2),
    ]
    assert sampling == Sampling(n=2, temperature=0.9, max_tokens=33, seed=1001)


def test_both_halves_are_in_the_row_and_in_its_raw_text() -> None:
    (first, second), _ = proposed([SIDE], [[LEFT, THOUGHT]])
    assert (first.question, first.options) == ("On which side?", ("left", "right"))
    assert (first.answer, first.rationale, first.raw) == ("left", "", SIDE + LEFT)
    assert (second.answer, second.rationale, second.raw) == ("B", "It is dark.", SIDE + THOUGHT)
    assert (first.sample, second.sample) == (0, 1)
    assert (first.logprob, second.logprob) == (-2.0, -2.01)  # of the answers
    for row in (first, second):
        assert row.problem is None
        assert (row.image_id, row.task_id) == (IMAGES[0].id, TASKS[0].id)
        assert (row.generator_id, row.seed, row.round) == ("model", 1000, 3)
        assert row.prompt_hash == prompt_of("compact", TASKS[0]).id


def test_real_models_forms_are_read_and_their_raw_text_is_kept() -> None:
    asked = (
        "Sure!\n```json\n" + '{"question": "On which side?", "options": ["A) left", "B) right"]}'
    )
    said = ["It is dark.\n</think>\n\n**Answer:** B", "The answer is (B)."]
    (first, second), vlm = proposed([asked + "\n```"], [said])
    assert vlm.asked[1][0][0].text == answer_prompt(
        "compact", "On which side?", ("left", "right"), TASKS[0].prompt_style
    )
    assert (first.question, first.options) == ("On which side?", ("left", "right"))
    assert (first.rationale, first.answer, first.problem) == ("It is dark.", "B", None)
    assert (second.rationale, second.answer, second.problem) == ("", "(B)", None)
    assert first.raw == asked + "\n```" + said[0]


def test_a_question_that_does_not_parse_is_one_row_with_its_reason() -> None:
    rows, vlm = proposed(
        ["What?", SIDE, "<question>A</question><options>x</options>"], [[LEFT] * 2]
    )
    assert [r.problem for r in rows] == [
        None,
        None,
        "question: no question tag",
        "question: a single option",
    ]
    assert len(vlm.asked[1][0]) == 1  # nobody answers what was not asked
    assert [r.raw for r in rows[:2]] == [SIDE + LEFT] * 2  # its own question's words
    failed = rows[2]
    assert (failed.raw, failed.question, failed.answer) == ("What?", "", "")
    assert (failed.image_id, failed.task_id, failed.sample) == (IMAGES[0].id, TASKS[0].id, 0)
    assert failed.logprob == -1.0  # of the question
    assert rows[3].image_id == IMAGES[2].id


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("It is there.", "answer: no answer tag"),
        ("left\nright", "answer: no answer tag"),
        ("<answer>left", "answer: the answer is cut off"),
        ("Answer: left\nAnswer: right", "answer: more than one answer"),
        ("<answer>left</answer> or so", "answer: text after the answer"),
        ("<answer>above</answer>", "answer: not one of the options"),
        ("<answer>left or right</answer>", "answer: not one of the options"),
        ("<answer> </answer>", "answer: empty answer"),
    ],
)
def test_an_answer_that_is_none_is_a_row_with_its_reason(said: str, problem: str) -> None:
    (row, good), _ = proposed([SIDE], [[said, LEFT]])
    assert row.problem == problem
    assert (row.question, row.options, row.raw) == (
        "On which side?",
        ("left", "right"),
        SIDE + said,
    )
    assert good.problem is None


def test_where_no_question_parses_nothing_is_answered() -> None:
    rows, vlm = proposed(["a", "b"], [])
    assert [r.problem for r in rows] == ["question: no question tag"] * 2
    assert vlm.asked[1][0] == []


def test_a_row_is_named_by_all_that_made_it_and_by_nothing_else() -> None:
    def ids(plan: ProposerSettings = PLAN, question: str = SIDE, at: int = 0) -> list[str]:
        vlm = Scripted([question], [[LEFT, LEFT]])
        return [r.id for r in propose(vlm, PNG, [(IMAGES[at].id, TASKS[at])], plan)]

    same = ids()
    assert len(set(same)) == 2  # two samples of one text are two rows
    assert ids() == ids(replace(PLAN, round=9, temperature=0.1)) == same
    others = [
        ids(replace(PLAN, generator_id="another")),
        ids(replace(PLAN, prompts="full")),
        ids(replace(PLAN, seed=1001)),
        ids(question=OPEN),
        ids(at=1),
    ]
    assert len({name for some in [same, *others] for name in some}) == 12


def test_the_prompt_of_a_row_can_be_read_again() -> None:
    prompt = prompt_of("full", TASKS[0])
    assert isinstance(prompt, Prompt)
    assert prompt.text == ask_prompt("full", TASKS[0].to_dict())
    harder = Task.make("MR", "disease", "hard", "choice", "direct")
    names = {
        prompt_of(words, task).id for words in ("compact", "full") for task in (TASKS[0], harder)
    }
    assert len(names) == 4
    assert prompt.id in names


def test_the_tiny_model_writes_rows_whose_halves_are_their_raw_text() -> None:
    vlm = open_vlm(Transformers(), str(tiny.FOLDER), threads=1)
    pairs = [
        (drawn(kind, n).id, Task.make(kind, "disease", "easy", "closed", "step"))
        for n, kind in enumerate(("MR", "ultrasound", "MR", "ultrasound"))
    ]
    plan = replace(PLAN, max_tokens=48)
    rows = propose(vlm, PNG, pairs, plan)
    good = [r for r in rows if r.problem is None]
    assert len(good) >= 4
    for row in good:
        asked = render_question(row.question, row.options)
        assert row.raw == asked + render_completion(row.rationale, row.answer)
        assert row.logprob < 0
    assert propose(vlm, PNG, pairs, plan) == rows
