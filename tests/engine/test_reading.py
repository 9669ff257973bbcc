"""Replies of real models: what is read of each known form, and what stays unreadable, and why."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.answers.matching import is_valid, resolve
from engine.answers.parsing import (
    Completion,
    ParsedQuestion,
    parse_completion,
    parse_question,
    render_completion,
    render_question,
)
from engine.answers.reading import read_completion, read_question
from engine.answers.spelling import normalise
from tests.engine.reply_forms import (
    ANSWERS,
    BAD_QUESTIONS,
    NO_OPTION,
    QUESTIONS,
    SIDES,
    SPELT,
    STEM,
    TWO_SIDES,
    UNREADABLE,
)
from tests.engine.test_answers import filled, option_lists, plain, stripped, tagged, texts


def complaint(text: str, options: tuple[str, ...] = SIDES) -> str | None:
    """Why a reply is no answer, as a row would have it."""
    read = read_completion(text, options)
    valid = not options or is_valid(read.answer, options)
    return read.problem or (None if valid else NO_OPTION)


# The table


def test_the_table_has_what_was_promised() -> None:
    tables = (ANSWERS, SPELT, UNREADABLE, QUESTIONS, BAD_QUESTIONS)
    assert sum(map(len, tables)) >= 150
    assert all(len({row[0] for row in table}) == len(table) for table in tables)
    assert all("/" in row[-1] and row[-1].strip() for table in tables for row in table)


@pytest.mark.parametrize(("text", "letter", "seen"), ANSWERS)
def test_a_known_form_names_its_option(text: str, letter: str, seen: str) -> None:
    read = read_completion(text, SIDES)
    assert read.problem is None, seen
    assert resolve(read.answer, SIDES) == SIDES["ABCDE".index(letter)]
    written = render_completion(read.rationale, read.answer)
    assert parse_completion(written, SIDES) == read


@pytest.mark.parametrize(("text", "options", "place", "seen"), SPELT)
def test_a_known_form_names_its_option_in_other_characters(
    text: str, options: tuple[str, ...], place: int, seen: str
) -> None:
    read = read_completion(text, options)
    assert resolve(read.answer, options) == options[place], seen


@pytest.mark.parametrize(("text", "problem", "seen"), UNREADABLE)
def test_a_form_that_answers_nothing_or_more_than_one_thing_is_unreadable(
    text: str, problem: str, seen: str
) -> None:
    assert complaint(text) == problem, seen


@pytest.mark.parametrize(("text", "seen"), QUESTIONS)
def test_a_known_form_asks_its_question(text: str, seen: str) -> None:
    assert read_question(text) == ParsedQuestion(STEM, TWO_SIDES), seen


@pytest.mark.parametrize(("text", "problem", "seen"), BAD_QUESTIONS)
def test_a_question_that_is_not_one_is_refused(text: str, problem: str, seen: str) -> None:
    assert read_question(text).problem == problem, seen


# What is kept of a reply


@pytest.mark.parametrize(
    ("text", "rationale", "answer"),
    [
        ("It is dark.\nTherefore, the best answer is:\n(B) right", "It is dark.", "(B) right"),
        ("Explanation: it is dark.\n**Answer:** B", "it is dark.", "B"),
        ("Sure! Here is my answer:\nIt is dark.\n<answer>B</answer>", "It is dark.", "B"),
        ("It is dark.\n</think>\n\n**Answer:** B", "It is dark.", "B"),
        ("<think>Dark.</think>\nAir is dark.\n<answer>B</answer>", "Dark.\n\nAir is dark.", "B"),
        ('{"reasoning": ["Air is dark.", "So B."], "answer": "B"}', "Air is dark.\nSo B.", "B"),
        ("It is dark.\nThe answer is B.\n\\boxed{B}", "It is dark.", "B"),
        ("It is 10⁵ × 2 cm².\nAnswer: B", "It is 10⁵ × 2 cm².", "B"),
    ],
)
def test_the_reasoning_before_an_answer_is_its_rationale(
    text: str, rationale: str, answer: str
) -> None:
    assert read_completion(text, SIDES) == Completion(rationale, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Final answer: amyloid ﬁbrils", "amyloid fibrils"),
        ("**Answer:** T2*", "T2*"),
        ("The answer is 5'.", "5'"),
        (r"The answer is \boxed{3 cm}.", "3 cm"),
        ('{"answer": 3}', "3"),
        ("It is round.\n\nFinal answer: simple cyst.", "simple cyst"),
    ],
)
def test_an_open_answer_is_read_whole(text: str, answer: str) -> None:
    assert read_completion(text).answer == answer


@pytest.mark.parametrize(
    "text",
    [
        "cyst",
        "The answer is a cyst or a tumour.",
        "The answer is a cyst, but it may be a tumour.",
        "Answer: cyst. Actually a tumour.",
        "Answer: cyst\nAnswer: tumour",
        "Answer: cyst\nIt may be a tumour.",
        '{"answer": true}',
        '{"answer": "cyst", "Answer": "tumour"}',
        '{"answer": "cyst", "final_answer": "tumour"}',
    ],
)
def test_an_open_answer_in_free_text_is_one_and_no_hedge(text: str) -> None:
    assert read_completion(text).problem


def test_dashes_ligatures_and_full_width_letters_are_read() -> None:
    options = ("T cell-mediated", "amyloid fibrils")
    for said in ("Answer: T cell–mediated", "Ａｎｓｗｅｒ：Ａ", "（Ａ）", "A — T cell‑mediated"):
        assert resolve(read_completion(said, options).answer, options) == options[0], said
    for said in ("Answer: amyloid ﬁbrils", "“amyloid ﬁbrils”", "B – amyloid ﬁbrils"):
        assert resolve(read_completion(said, options).answer, options) == options[1], said


@pytest.mark.parametrize(
    "said", ["asymmetric", "Answer: asymmetric", "<answer>asymmetric</answer>"]
)
def test_no_letter_is_read_out_of_a_word(said: str) -> None:
    assert complaint(said, ("symmetric", "normal"))
    assert complaint(said.replace("asymmetric", "B-cell"), ("T", "cell"))


@pytest.mark.parametrize(
    ("listed", "options"),
    [
        ("left ｜ right", ("left", "right")),
        ("left\nright", ("left", "right")),
        ("- left\n- right", ("left", "right")),
        ("1. left\n2. right", ("left", "right")),
        ("(A) left\n(B) right\n", ("left", "right")),
        ("A) left B) right", ("left", "right")),
        ("A) left, B) right", ("left", "right")),
        ("yes/no", ("yes", "no")),
        ("Yes or No", ("Yes", "No")),
        ("<option>left</option><option>right</option>", ("left", "right")),
        ("T1\nT2*", ("T1", "T2*")),
        ("B. burgdorferi\nC. difficile", ("B. burgdorferi", "C. difficile")),
    ],
)
def test_options_are_parted_as_they_are_listed(listed: str, options: tuple[str, ...]) -> None:
    for text in (
        f"<question>{STEM}</question>\n<options>{listed}</options>",
        f"<Question>{STEM}</Question>\n<OPTIONS>\n{listed}\n</OPTIONS>\n<answer>left</answer>",
    ):
        assert read_question(text) == ParsedQuestion(STEM, options)


@pytest.mark.parametrize(
    "text",
    [
        f"<question>{STEM}</question><question>{STEM}</question>",
        f"<question>{STEM}<options>left | right</options></question>",
        f"<question>{STEM}</question><options>left | right</options><options>a | b</options>",
        f"<question>{STEM}</question> But look closer. <options>left | right</options>",
        f"<question>{STEM}</question><options>left | right</options> or both",
        f"<question>{STEM}</question><options>left, right</options>",
        f'{{"question": "{STEM}", "options": ["left | right", "both"]}}',
        f'{{"question": "{STEM}", "options": [["left"], ["right"]]}}',
        f'{{"question": "{STEM}", "options": ["left", "Left."]}}',
        f"Question: {STEM}\nA) left\nC) right",
        "left\nright",
    ],
)
def test_a_question_in_pieces_is_refused(text: str) -> None:
    assert read_question(text).problem


# Nothing that is refused for gaming becomes an answer

wrapped = st.sampled_from(
    [
        "{}",
        "<answer>{}</answer>",
        "Answer: {}",
        "The answer is {}.",
        "**Answer:** {}",
        "\\boxed{{{}}}",
        '{{"answer": "{}"}}',
        "It is dark.</think>\n{}",
        "```\n<answer>{}</answer>\n```",
    ]
)


@given(option_lists, st.data(), wrapped, st.sampled_from([" or ", " and ", ", ", " / ", "\n", " "]))
def test_several_options_at_once_are_no_answer(
    options: tuple[str, ...], data: st.DataObject, wrap: str, joiner: str
) -> None:
    form = data.draw(st.sampled_from(["{1}", "{0}. {1}", "{0}", "({0})"]))
    named = [form.format("ABCDE"[n], option) for n, option in enumerate(options)]
    several = joiner.join(data.draw(st.lists(st.sampled_from(named), min_size=2, unique=True)))
    assume(resolve(several, options) is None)  # "large cyst" of "large" and "cyst" is one
    assume(not any(normalise(several.removesuffix(o)) == "" for o in options))
    assert complaint(wrap.format(several), options), wrap.format(several)


@given(filled, filled)
def test_two_answer_tags_are_refused(one: str, two: str) -> None:
    for first in ("answer", "Answer", "ANSWER"):
        for between in ("", " ", "<think>so</think>", "\nNo:\n"):
            text = f"<{first}>{one}</{first}>{between}<answer>{two}</answer>"
            assert read_completion(text).problem == "more than one answer"


@given(filled, st.sampled_from(["<answer>{}</answer>", "<ANSWER>{}</ANSWER>"]))
def test_an_answer_hidden_in_the_reasoning_is_refused(answer: str, tag: str) -> None:
    nested = f"<think>{tag.format(answer)}</think>"
    assert read_completion(nested).problem
    assert "ANSWER" in tag or read_completion(nested + f"<answer>{answer}</answer>").problem
    assert read_completion(nested.removeprefix("<think>") + f"<answer>{answer}</answer>").problem


@given(st.sampled_from(SIDES), filled)
def test_text_after_an_answer_is_refused(answer: str, after: str) -> None:
    assume(complaint(after) is not None or resolve(after, SIDES) is not None)
    for text in (f"<answer>{answer}</answer>{after}", f"Answer: {answer}\n\n{after}"):
        assume(resolve(read_completion(after, SIDES).answer, SIDES) is None)
        assert complaint(text), text


@pytest.mark.parametrize("tag", ["question", "options", "think", "answer", "THINK", "reasoning"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_tag_inside_an_answer_or_a_reason_is_refused(tag: str, end: str) -> None:
    mark = f"<{end}{tag}>"
    for options in ((), SIDES):
        assert complaint(f"<ANSWER>left {mark} x</ANSWER>", options)
        assert complaint(f"a {mark} b\nAnswer: left {mark}", options)
        assert complaint(f'{{"answer": "left {mark}"}}', options)
        if tag.lower() not in ("think", "reasoning") or not end:
            assert complaint(f"<think>a {mark} b</think>\nAnswer: left", options)


@pytest.mark.parametrize("nothing", ["", " ", ".", "-", "...", "\u200b", "\u3002", "\u2800", "?"])
def test_an_empty_answer_is_none(nothing: str) -> None:
    for text in (f"<Answer>{nothing}</Answer>", f"Answer: {nothing}", f'{{"answer": "{nothing}"}}'):
        assert complaint(text)
        assert complaint(text, ())


@given(st.permutations(SIDES), st.sampled_from(["{}\n", "**{}**\n\n", "Sure! {}. ", "{}: no. "]))
def test_an_option_that_stands_before_another_answer_is_a_second_one(
    order: list[str], form: str
) -> None:
    one, two = order[:2]
    for said in (one, "ABCDE"[SIDES.index(one)]):
        for reply in (f"<answer>{two}</answer>", f"Answer: {two}", f'{{"answer": "{two}"}}'):
            assert complaint(form.format(said) + reply) == "more than one answer"


def test_options_that_are_all_listed_before_the_answer_are_no_answers() -> None:
    listed = "\n".join(f"{letter}. {side}" for letter, side in zip("ABCDE", SIDES))
    assert read_completion(f"{listed}\n\nAnswer: B", SIDES) == Completion(listed, "B")
    assert complaint(f"{listed}\nB. right") == "no answer tag"


def test_a_denial_is_no_answer() -> None:
    for text in (
        "It is false that the answer is B.",
        "I doubt that the answer is B.",
        "Wrong: the answer is B",
        "The wrong answer is B",
        "Incorrect answer: B",
        "If the answer is B, it is dark.",
        "It is not \\boxed{B}",
        "Could the answer be B?",
        "The answer is not B",
        "The answer is either A or B",
    ):
        assert complaint(text), text


@pytest.mark.parametrize("reader", ["training/composite_reward.py", "evaluation/examination.py"])
def test_rewards_and_examinations_read_strictly(reader: str) -> None:
    source = (Path(__file__).parents[2] / "pipelines" / reader).read_text(encoding="utf-8")
    assert "import parse_completion" in source
    assert "import read_completion" not in source


# Laws


@given(tagged, st.one_of(st.just(()), option_lists))
def test_what_is_strictly_right_is_read_as_strictly(text: str, options: tuple[str, ...]) -> None:
    strict = parse_completion(text, options)
    if strict.problem is None and (not options or is_valid(strict.answer, options)):
        assert read_completion(text, options) == strict
    asked = parse_question(text)
    if asked.problem is None:
        assert read_question(text) == asked


harmless = st.lists(
    st.sampled_from(
        [
            "```\n{}\n```",
            "```xml\n{}\n```",
            "Sure! Here is what you asked for:\n{}",
            "Certainly. Here is my reply:\n\n{}",
            "{}<|im_end|>",
            "{}</s>",
            "\n\n{}\n\n",
            "\ufeff{}",
        ]
    ),
    max_size=3,
)


def dressed(text: str, wrappings: list[str]) -> str:
    for wrapping in wrappings:
        text = wrapping.replace("{}", text)
    return text


words = st.lists(plain, min_size=1, max_size=4).map(". ".join)


@given(words, plain, harmless, st.booleans())
def test_a_wrapped_completion_is_what_was_rendered(
    rationale: str, answer: str, wrappings: list[str], capital: bool
) -> None:
    text = render_completion(rationale, answer)
    text = text.replace("answer>", "Answer>").replace("think>", "THINK>") if capital else text
    assert read_completion(dressed(text, wrappings)) == Completion(rationale, answer)
    unopened = text.removeprefix("<think>").removeprefix("<THINK>")
    assert read_completion(unopened) == Completion(rationale, answer)


@given(option_lists, st.data(), plain.map("it shows {}".format))
def test_an_option_is_read_in_every_form(
    options: tuple[str, ...], data: st.DataObject, rationale: str
) -> None:
    place = data.draw(st.integers(0, len(options) - 1))
    letter, option = "ABCDE"[place], options[place]
    said = data.draw(
        st.sampled_from([letter, f"({letter})", f"{letter}. {option}", f"{letter} - {option}"])
    )
    for form in (
        "{0}",
        "Answer: {0}",
        "**Answer:** {0}",
        "**Answer: {0}**",
        "{1}.\n\nThe answer is {0}.",
        "{1}.\nFinal answer:\n{0}",
        '{{"answer": "{0}"}}',
        "{1}</think>\n\n\\boxed{{{0}}}",
        "{1}</think><answer>\\text{{{0}}}</answer>",
    ):
        text = form.format(said, rationale)
        assert resolve(read_completion(text, options).answer, options) == option, text


@given(words, st.lists(plain, min_size=2, max_size=5, unique_by=normalise).map(tuple), harmless)
def test_a_wrapped_question_is_what_was_rendered(
    stem: str, options: tuple[str, ...], wrappings: list[str]
) -> None:
    text = dressed(render_question(stem, options), wrappings)
    assert read_question(text) == ParsedQuestion(stem, options)


PIECES = """Answer: |the answer is |\\boxed{|}|{|"answer": |[|```json
|A) left
|B. right|Question: |Options:
|**|$|<ANSWER>|</Think>|<|im_end|>|&lt;answer&gt;|
|{'question': '|</option>|The answer is|, |B|left""".split("|")
anything = st.lists(st.one_of(tagged, texts, st.sampled_from(PIECES)), max_size=8).map("".join)


@given(anything, st.one_of(st.just(()), option_lists, st.lists(texts, max_size=4).map(tuple)))
def test_no_text_raises_and_what_is_read_is_strictly_right(
    text: str, options: tuple[str, ...]
) -> None:
    read = read_completion(text, options)
    if read.problem is None:
        assert parse_completion(render_completion(read.rationale, read.answer), options) == read
    else:
        assert read.problem
    asked = read_question(text)
    if asked.problem is None:
        assert parse_question(render_question(asked.text, asked.options)) == asked
    else:
        assert asked.problem


@given(stripped)
def test_a_reply_without_any_mark_declares_no_open_answer(text: str) -> None:
    assume("answer" not in text.lower() and "option" not in text.lower())
    assume("choice" not in text.lower() and not any(mark in text for mark in "{<&"))
    assert read_completion(text).problem


HEAVY = [
    "<answer>",
    "</answer>",
    "</think>",
    "<question>a</question><options>",
    "the answer is ",
    "answer: A\n",
    "\\boxed{",
    '{"',
    '{"a":',
    "[",
    "```json\n",
    "<|im_end|>",
    "A) x\n",
    "(a) ",
    " | ",
    "**",
    "- ",
    "1. ",
    " ",
    "\n",
    "Question: ",
    "&lt;answer&gt;",
]


@pytest.mark.parametrize("unit", HEAVY)
def test_two_hundred_kilobytes_are_read_in_linear_time(unit: str) -> None:
    """A quadratic step over as many characters would take minutes."""
    text = unit * (200_000 // len(unit))
    begun = time.process_time()
    for whole in (text, f"<question>a</question>{text}x", f"Answer: {text}"):
        read_completion(whole, SIDES)
        read_completion(whole)
        read_question(whole)
    assert time.process_time() - begun < 40
