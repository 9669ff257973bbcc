"""A verifier's reply read: what says yes or no, and what says neither."""

from __future__ import annotations

import pytest

from engine.answers.yes_no import is_bare, read_yes_no

YES = [
    "yes", "Yes", "YES.", " yes\n", "**Yes**", "Yes!", "<answer>yes</answer>", "Answer: yes",
    "The answer is yes.", "```\nyes\n```", '{"answer": "yes"}', "<think>It is clear.</think>\nyes",
    "Yes, the question is clear.", "Yes. All options are sizes.", "**Yes.** They are all places.",
    "Yes - it shows a cyst.", "Yes\n\nThe side can be seen.", "Yes: there is no other reading.",
]  # fmt: skip
NO = [
    "no", "No.", "**No**", "Answer: no", "<answer>No</answer>", "No, two options are right.",
    "No. The stem names the organ.", "No\nIt needs the report.", "No: nothing is said of it.",
]  # fmt: skip
NEITHER = {
    "": "an empty reply",
    "  \n": "an empty reply",
    "A": "neither yes nor no",  # of no list: a letter names nothing here
    "yes and no": "neither yes nor no",
    "Yes or no?": "neither yes nor no",
    "No doubt about it": "neither yes nor no",
    "yesterday": "neither yes nor no",
    "The options are not of one type, no.": "neither yes nor no",
    "I think yes": "neither yes nor no",
    "Not yes": "neither yes nor no",
    "Is the answer yes?": "neither yes nor no",
    "Yes, but the second is right as well.": "a hedge",
    "Yes, if the scan is axial.": "a hedge",
    "No, although one could argue.": "a hedge",
    "Yes, partly.": "a hedge",
    "Yes. No.": "both yes and no",
    "No. Yes, on second thoughts.": "both yes and no",
    "Yes, because the question": "cut off",
    "No, the options": "cut off",
}


@pytest.mark.parametrize("text", YES)
def test_a_yes_is_read_in_the_forms_that_models_write(text: str) -> None:
    assert read_yes_no(text) == (True, "")


@pytest.mark.parametrize("text", NO)
def test_a_no_is_read_in_the_forms_that_models_write(text: str) -> None:
    assert read_yes_no(text) == (False, "")


@pytest.mark.parametrize("text", NEITHER)
def test_what_says_neither_has_its_reason(text: str) -> None:
    assert read_yes_no(text) == (None, NEITHER[text])


def test_a_probability_is_of_the_word_alone() -> None:
    assert [t for t in (*YES, *NO, *NEITHER) if is_bare(t)] == [
        "yes", "Yes", "YES.", " yes\n", "no", "No.",
    ]  # fmt: skip
