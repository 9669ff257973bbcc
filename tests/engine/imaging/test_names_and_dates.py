"""Dates in short texts, ages as ordinals, and names that are also small words."""

from __future__ import annotations

import pytest

from engine.imaging.reports import clean_text, harmless

REST = " The lungs are clear and the heart is normal in size."


@pytest.mark.parametrize(
    "text",
    ["12 may", "may 12", "on 12 may", "What was seen on 12 may?", "3rd of may", "12 MAY", "3 May"],
)
def test_a_month_beside_a_digit_is_a_date_however_short_the_text(text: str) -> None:
    assert not harmless(text)


def test_the_day_before_a_month_is_masked_with_it() -> None:
    assert "3rd" not in (clean_text("It was seen on the 3rd of May." + REST).text or "")


@pytest.mark.parametrize("text", ["Her 95th birthday", "is she in her 95th year", "in his 90th"])
def test_an_ordinal_may_be_an_age_over_89(text: str) -> None:
    assert not harmless(text)
    assert "9" not in (clean_text(text + "." + REST).text or "")


def test_a_percentile_and_a_younger_ordinal_stay() -> None:
    for text in ("Weight is at the 95th percentile.", "The 5th rib is broken.", "5th rib"):
        assert harmless(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Will was seen with chest pain.", "Will"),
        ("An Nguyen was seen with pain.", "An"),
        ("Will, with fever.", "Will"),
        ("See was seen with chest pain.", "See"),
        ("Will Young was seen with pain.", "Will"),
        ("Read by white and black.", "black"),
        ("Read by white, black and green.", "green"),
        ("Read by white/black.", "black"),
        ("The film of XI WU is here.", "XI"),
    ],
)
def test_a_small_word_that_names_somebody_is_masked(text: str, name: str) -> None:
    assert name not in (clean_text(text + REST).text or "").split(REST)[0].replace(".", " ").split()


@pytest.mark.parametrize("text", ["green, rose", "patient brown", "Patient brown"])
def test_a_label_of_names_in_lower_case_is_none(text: str) -> None:
    assert not harmless(text)


@pytest.mark.parametrize(
    "text",
    ["An MRI was done.", "Was this patient given IV contrast?",
     "See also the right lung.", "He was seen with pain.", "Will it be seen?",
     "So the heart is normal.", "All were normal.", "As seen on CT, the lung is clear.",
     "The patient has pain and the patient lies on the left side.", "heart, lung",
     "Cranial nerve XI is normal."],
)  # fmt: skip
def test_small_words_that_name_nobody_stay(text: str) -> None:
    assert harmless(text)
