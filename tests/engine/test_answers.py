"""Parsing and matching of answers: what is right in any spelling, and what cannot be gamed."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.answers.matching import is_correct, is_valid, resolve
from engine.answers.parsing import (
    Completion,
    ParsedQuestion,
    parse_completion,
    parse_question,
    render_completion,
    render_question,
)
from engine.answers.spelling import normalise, says_something

WORDS = [
    "left",
    "right",
    "small",
    "large",
    "medium",
    "cyst",
    "tumor",
    "effusion",
    "yes",
    "no",
    "none",
    "plaque",
    "upper",
    "lower",
]
LETTERS = "ABCDEFGH"
plain = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
option_lists = st.lists(plain, min_size=2, max_size=5, unique=True).map(tuple)
texts = st.text(max_size=60)
untagged = st.text(st.characters(codec="utf-8", exclude_characters="<>|"), max_size=40)
stripped = untagged.map(str.strip)
filled = stripped.filter(says_something)


@st.composite
def options_and_gold(draw: st.DrawFn) -> tuple[tuple[str, ...], str]:
    options = draw(option_lists)
    return options, draw(st.sampled_from(options))


@st.composite
def respelt(draw: st.DrawFn, text: str) -> str:
    """The text in another case, in quotes or brackets, with a full stop or an article."""
    cased = draw(st.sampled_from([str.lower, str.upper, str.title, str.capitalize]))(text)
    left, right = draw(st.sampled_from([("", ""), ('"', '"'), ("(", ")"), (" ", "\n"), ("'", "'")]))
    a = "an" if text[0] in "aeiou" else "a"
    article = draw(st.sampled_from(["", "the ", "The ", f"{a} ", f"{a.title()} "]))
    return f"{left}{article}{cased}{draw(st.sampled_from(['', '.', '!', ',', ';', '...']))}{right}"


# What is never right


@given(st.text(string.whitespace + string.punctuation, max_size=6), options_and_gold())
def test_an_answer_without_a_word_is_never_right(
    answer: str, case: tuple[tuple[str, ...], str]
) -> None:
    options, gold = case
    assert not is_correct(answer, gold, options)
    assert not is_correct(answer, gold)


@given(st.sampled_from(["", " ", "\n\t"]), texts)
def test_a_blank_answer_is_never_right_whatever_the_gold(answer: str, gold: str) -> None:
    assert not is_correct(answer, gold)
    assert not is_correct(answer, gold, ("yes", "no"))


@given(
    option_lists, st.data(), st.sampled_from([" or ", " and ", ", ", " / ", " | ", "\n", " ", "; "])
)
def test_several_options_at_once_are_never_right(
    options: tuple[str, ...], data: st.DataObject, joiner: str
) -> None:
    several = data.draw(st.lists(st.sampled_from(options), min_size=2, unique=True))
    answer = joiner.join(several)
    assume(normalise(answer) not in map(normalise, options))
    assert not any(is_correct(answer, gold, options) for gold in options)


@given(option_lists, st.data(), st.sampled_from([" or ", ", ", " ", "/", ""]))
def test_several_letters_at_once_are_never_right(
    options: tuple[str, ...], data: st.DataObject, joiner: str
) -> None:
    letters = st.sampled_from(LETTERS[: len(options)])
    answer = joiner.join(data.draw(st.lists(letters, min_size=2, unique=True)))
    assert not any(is_correct(answer, gold, options) for gold in options)


@given(option_lists)
def test_the_option_list_repeated_is_never_right(options: tuple[str, ...]) -> None:
    lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options)]
    for answer in (" | ".join(options), ", ".join(options), "\n".join(lettered), str(options)):
        assume(normalise(answer) not in map(normalise, options))
        assert not any(is_correct(answer, gold, options) for gold in options)


@given(options_and_gold(), st.sampled_from(["I see ", "not ", "surely ", "option ", "sub"]))
def test_a_text_that_contains_the_gold_is_not_the_gold(
    case: tuple[tuple[str, ...], str], extra: str
) -> None:
    options, gold = case
    for answer in (extra + gold, f"{gold} {extra}"):
        assert not is_correct(answer, gold, options)
        assert not is_correct(answer, gold)


@given(options_and_gold(), st.data())
def test_a_part_of_the_gold_is_not_the_gold(
    case: tuple[tuple[str, ...], str], data: st.DataObject
) -> None:
    _, gold = case
    start = data.draw(st.integers(0, len(gold) - 1))
    part = gold[start : data.draw(st.integers(start, len(gold)))]
    assume(normalise(part) != normalise(gold))
    assert not is_correct(part, gold)


@given(texts, option_lists)
def test_an_answer_is_right_for_one_option_at_most(answer: str, options: tuple[str, ...]) -> None:
    assume(len({normalise(o) for o in options}) == len(options))
    assert sum(is_correct(answer, gold, options) for gold in options) <= 1


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        ("asymmetric", ("symmetric", "normal")),
        ("atypical", ("typical", "absent")),
        ("brain", ("lung", "rain")),
    ],
)
def test_a_word_is_not_a_letter_run_together_with_an_option(
    answer: str, options: tuple[str, ...]
) -> None:
    assert resolve(answer, options) is None


def test_a_letter_with_another_options_text_names_neither() -> None:
    assert resolve("A. right", ("left", "right")) is None


def test_a_letter_beyond_the_options_names_none() -> None:
    assert resolve("D", ("left", "right")) is None


def test_an_option_that_is_a_letter_is_named_by_its_text_only() -> None:
    groups = ("B", "A", "O")
    assert [resolve(said, groups) for said in ("A", "b.", "(O)", "C")] == ["A", "B", "O", None]
    assert resolve("B. A", groups) == "A"
    assert resolve("A. A", groups) is None


def test_a_letter_that_another_option_has_in_its_text_names_none() -> None:
    assert resolve("A", ("type B", "type A")) is None
    assert resolve("A", ("type A", "type B")) == "type A"
    assert resolve("B. type A", ("type B", "type A")) == "type A"


def test_an_a_that_tells_options_apart_is_no_article() -> None:
    options = ("A dissection", "B dissection")
    assert resolve("dissection", options) is None
    assert resolve("the A dissection", options) == options[0]
    assert resolve("a dissection", ("dissection", "no dissection")) == "dissection"


@given(st.permutations(["type A", "type B", "no dissection", "a mass"]), st.data())
def test_the_order_of_options_changes_nothing_for_their_texts(
    order: list[str], data: st.DataObject
) -> None:
    gold = data.draw(st.sampled_from(order))
    said = data.draw(respelt(gold)) if not gold.startswith("a ") else gold.upper()
    assert resolve(said, tuple(order)) == gold
    assert not any(is_correct(said, other, tuple(order)) for other in order if other != gold)


# What is right


@given(options_and_gold(), st.data())
def test_a_right_option_in_any_case_and_punctuation_is_right(
    case: tuple[tuple[str, ...], str], data: st.DataObject
) -> None:
    options, gold = case
    answer = data.draw(respelt(gold))
    assert is_correct(answer, gold, options)
    assert is_correct(answer, gold)


@given(option_lists, st.data())
def test_letter_text_and_both_name_the_same_option(
    options: tuple[str, ...], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(options) - 1))
    letter, option = LETTERS[place], options[place]
    for answer in (
        letter,
        letter.lower(),
        f"{letter}.",
        f"({letter})",
        f"{letter})",
        option,
        f"{letter}. {option}",
        f"({letter.lower()}) {option.upper()}",
    ):
        assert resolve(answer, options) == option
        assert is_valid(answer, options), answer
        assert is_correct(answer, option, options)


@given(options_and_gold())
def test_the_gold_may_be_given_by_letter(case: tuple[tuple[str, ...], str]) -> None:
    options, gold = case
    assert is_correct(gold, LETTERS[options.index(gold)], options)


@pytest.mark.parametrize("number", range(11))
def test_a_number_word_is_its_digit(number: int) -> None:
    word = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"][
        number
    ]
    assert is_correct(word.title(), str(number))
    assert is_correct(str(number), word)
    assert not is_correct(word, str(number + 1))


@pytest.mark.parametrize("said", ["yes", "Yes.", "YES", "A", "a) yes"])
def test_yes_is_yes_and_not_no(said: str) -> None:
    assert is_correct(said, "yes", ("yes", "no"))
    assert not is_correct(said, "no", ("yes", "no"))


@pytest.mark.parametrize("said", ["yes and no", "yes, no", "not yes", "maybe", "yesno", "yes no"])
def test_a_hedge_between_yes_and_no_is_not_an_answer(said: str) -> None:
    assert not is_valid(said, ("yes", "no"))


def test_a_single_letter_can_be_an_open_answer() -> None:
    assert is_correct("A", "a")


def test_a_decimal_is_not_its_digits() -> None:
    assert not is_correct("1.5", "15")
    assert is_correct("1.5 cm.", "1.5 cm")
    assert not is_correct(".5 cm", "5 cm")


def test_a_grade_a_is_no_article() -> None:
    assert not is_correct("type", "type A")
    assert not is_correct("type", "type A", ("type A", "type B"))
    assert is_correct("a type A", "type A")


# Form


@given(filled, filled)
def test_two_answer_tags_are_refused(one: str, two: str) -> None:
    for between in ("", " ", "<think>so</think>"):
        text = f"<answer>{one}</answer>{between}<answer>{two}</answer>"
        assert parse_completion(text).problem == "more than one answer"


@given(filled)
def test_an_answer_hidden_in_the_reasoning_is_refused(answer: str) -> None:
    nested = f"<think><answer>{answer}</answer></think>"
    assert parse_completion(nested).problem
    assert parse_completion(nested + f"<answer>{answer}</answer>").problem


@pytest.mark.parametrize("tag", ["question", "options", "think", "answer"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_tag_inside_an_answer_or_a_reason_is_refused(tag: str, end: str) -> None:
    mark = f"<{end}{tag}>"
    assert parse_completion(f"<answer>left {mark} x</answer>").problem
    assert parse_completion(f"<think>a {mark} b</think><answer>left</answer>").problem


NOTHING = [
    "",
    " ",
    "\n",
    ".",
    "-",
    "...",
    "\u200b",
    "\u3002",
    "\u3164",
    "\u2800",
    "\u0301",
    "--",
    "?",
]


@pytest.mark.parametrize("nothing", NOTHING)
def test_an_answer_without_a_letter_or_digit_is_empty(nothing: str) -> None:
    assert parse_completion(f"<answer>{nothing}</answer>") == Completion("", "", "empty answer")
    assert not is_valid(nothing, ())
    assert not is_valid(nothing, ("left", "right"))
    assert resolve(nothing, ("left", "right")) is None
    assert parse_question(render_question(nothing, ())).problem
    assert parse_question(render_question("Which side?", ("left", nothing))).problem


def test_a_sign_is_an_answer_only_where_signs_are_the_options() -> None:
    signs = ("+", "-")
    assert parse_question(render_question("Nitrite?", signs)) == ParsedQuestion("Nitrite?", signs)
    for sign, other in (signs, signs[::-1]):
        assert parse_completion(f"<answer>{sign}</answer>", signs) == Completion("", sign)
        assert is_correct(sign, sign, signs)
        assert not is_correct(other, sign, signs)
        assert not is_correct(sign, sign)
    assert is_correct("\u2212", "-", signs)  # a minus by another character
    assert is_correct("A", "+", signs)


@given(filled, filled)
def test_text_outside_the_tags_is_refused(text: str, answer: str) -> None:
    assert parse_completion(f"{text}<answer>{answer}</answer>").problem == "text outside the tags"
    assert parse_completion(f"<answer>{answer}</answer>{text}").problem == "text after the answer"


@given(texts)
def test_text_without_an_answer_tag_has_none(text: str) -> None:
    assume("<answer>" not in text)
    assert parse_completion(text) == Completion("", "", "no answer tag")


@given(stripped, filled)
def test_a_completion_is_parsed_as_it_was_rendered(rationale: str, answer: str) -> None:
    assert parse_completion(render_completion(rationale, answer)) == Completion(rationale, answer)


@given(filled, st.lists(plain, min_size=2, max_size=5, unique_by=normalise).map(tuple))
def test_a_question_is_parsed_as_it_was_rendered(text: str, options: tuple[str, ...]) -> None:
    assert parse_question(render_question(text, options)) == ParsedQuestion(text, options)
    assert parse_question(render_question(text, ())) == ParsedQuestion(text, ())


@pytest.mark.parametrize("form", ["{}. {}", "({}) {}", "{}) {}", "{}: {}"])
def test_options_numbered_by_letters_are_their_texts(form: str) -> None:
    def numbered(*texts: str) -> ParsedQuestion:
        listed = tuple(form.format(letter, text) for letter, text in zip("ABC", texts))
        return parse_question(render_question("Side?", listed))

    assert numbered("left", "right") == ParsedQuestion("Side?", ("left", "right"))
    assert numbered("left", "right", "Left.").problem == "repeated options"
    other = ("B. burgdorferi", "C. difficile")  # letters of their names
    assert parse_question(render_question("Which?", other)).options == other


def test_a_question_with_much_white_space_is_read_at_once() -> None:
    gap = " " * 200_000
    assert parse_question(f"<question>Side?</question>{gap}x").problem == "no question tag"
    assert parse_question(f"<question>Side?</question>{gap}x<options>a | b</options>").problem
    spaced = f"<question>Side?</question>{gap}<options>left | right</options>{gap}"
    assert parse_question(spaced) == ParsedQuestion("Side?", ("left", "right"))


def test_options_that_say_the_same_are_refused() -> None:
    assert parse_question(render_question("Side?", ("left", "The LEFT."))).problem
    assert parse_question(render_question("Side?", ("left",))).problem


# Anything at all

tagged = st.lists(
    st.one_of(
        texts,
        st.sampled_from(
            [f"<{e}{t}>" for e in ("", "/") for t in ("question", "options", "think", "answer")]
        ),
        st.sampled_from(["|", "A.", "left", "one"]),
    ),
    max_size=8,
).map("".join)


@given(tagged, tagged, st.lists(texts, max_size=5).map(tuple))
def test_no_text_raises_and_a_problem_is_never_without_a_reason(
    text: str, gold: str, options: tuple[str, ...]
) -> None:
    for parsed in (parse_completion(text), parse_question(text)):
        assert parsed.problem is None or parsed.problem
    assert is_correct(text, gold, options) in (True, False)
    assert resolve(text, options) in (None, *options)
    assert isinstance(normalise(text), str)


@given(tagged)
def test_a_well_formed_completion_has_an_answer_without_tags(text: str) -> None:
    parsed = parse_completion(text)
    if parsed.problem is None:
        assert parsed.answer
        assert "answer>" not in parsed.answer + parsed.rationale


@given(texts)
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
