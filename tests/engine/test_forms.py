"""Forms: what matches one is read strictly, so an engine held to it writes what can be read."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers import forms
from engine.answers.matching import resolve
from engine.answers.parsing import parse_completion, parse_question, render_question
from generators.phantoms import bank

OPTIONS = st.lists(
    st.text("abcXYZ019 +-().|/*?[]{}^$\\%", min_size=1, max_size=12).map(str.strip), min_size=2
)
ALIKE = {"repeated options", "an empty option"}  # what no regular expression can say


@settings(max_examples=60)
@given(st.sampled_from(bank.ANSWER_FORMATS), st.data())
def test_what_matches_a_questions_form_is_a_question(form: str, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(forms.of_question(form), fullmatch=True))
    read = parse_question(text)
    assert read.problem in (None, *ALIKE)
    if form == "closed":
        assert read.options == ("yes", "no")
    elif read.problem is None:
        assert bool(read.options) == (form == "choice")


@settings(max_examples=60)
@given(OPTIONS, st.booleans(), st.data())
def test_what_matches_an_answers_form_is_one_of_the_options(
    options: list[str], reasoned: bool, data: st.DataObject
) -> None:
    read = parse_question(render_question("Which?", tuple(o for o in options if "|" not in o)))
    if read.problem or not read.options:
        return
    form = forms.of_answer(read.options, reasoned)
    text = data.draw(st.from_regex(form, fullmatch=True))
    said = parse_completion(text, read.options)
    assert said.problem is None
    assert resolve(said.answer, read.options) is not None
    assert bool(re.search("<think>", text)) == reasoned


@settings(max_examples=40)
@given(st.booleans(), st.data())
def test_what_matches_an_open_answers_form_is_an_answer(
    reasoned: bool, data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(forms.of_answer((), reasoned), fullmatch=True))
    assert parse_completion(text).problem is None


def test_the_forms_hold_no_other_text() -> None:
    form = re.compile(forms.of_answer(("left", "a+b (c)"), True))
    assert form.fullmatch("<think>It is dark.</think><answer>a+b (c)</answer>")
    for text in ("<answer>left</answer>", "<think>x</think><answer>aab (c)</answer>"):
        assert not form.fullmatch(text)
