"""An answer that its own question says."""

from __future__ import annotations

import pytest

from generators.filters import given_away
from generators.phantoms import bank
from tests.generators.filters.rows import row

TELLS = [
    ("What does the black area signify?", "Black", ()),
    ("Which modality is this CT scan?", "CT", ("CT", "MR", "X-ray")),
    ("What is the solid mass in the left breast?", "solid mass", ()),
    ("Which side of the chest is the left effusion on?", "left", ("left", "right")),
    ("In which lung does the left nodule lie?", "left lung", ("left lung", "right lung")),
    ("A scan is shown. What is the infarct seen here?", "infarct", ("tumor", "infarct")),
]
TELLS_NOT = [
    ("Is there a tumor?", "tumor", ("tumor", "no tumor")),
    ("Is this T1 or T2?", "T2", ("T1", "T2")),
    ("What is shown, a cyst or a tumor?", "cyst", ()),
    ("How large is the lesion?", "large", ("small", "medium", "large")),
    ("How dense are the nuclei?", "dense", ("sparse", "dense")),
    ("What is seen in the left lung?", "a mass", ("a mass", "an effusion")),
    ("Which lobe of the left lung holds it?", "left upper lobe", ("left upper lobe", "lingula")),
    ("A mass lies near the gallbladder. Which diagnosis comes first?", "gallbladder cancer", ()),
    ("How many lesions are there?", "3", ("1", "2", "3")),
    ("Is the left lung clear?", "left", ()),
    ("Which is larger in the CT, the MR, by colour?", "CT", ("CT", "MR")),
    ("Which hormone raises it?", "parathyroid hormone", ("parathyroid hormone", "glucagon")),
    ("What abnormality is in the image?", "an abnormality", ()),
    ("", "cyst", ()),
]


@pytest.mark.parametrize(("question", "answer", "options"), TELLS)
def test_a_question_that_says_its_answer_is_out(
    question: str, answer: str, options: tuple[str, ...]
) -> None:
    found = given_away.reason(row(question, answer, *options))
    assert found == "question: it says its answer"


@pytest.mark.parametrize(("question", "answer", "options"), TELLS_NOT)
def test_a_question_that_names_what_it_asks_about_passes(
    question: str, answer: str, options: tuple[str, ...]
) -> None:
    assert given_away.reason(row(question, answer, *options)) is None


@pytest.mark.parametrize("answer", ["yes", "no", "none", "large", "left", "3", "CT"])
def test_the_banks_questions_give_nothing_away(answer: str) -> None:
    for question in bank._index():
        assert given_away.reason(row(question, answer)) is None, question
