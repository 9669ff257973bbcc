"""What a question asks: other words for the same are one, a word that tells makes another."""

from __future__ import annotations

import pytest

from generators.filters.wording import asked, wording
from generators.phantoms import bank

ALIKE = [
    ("On which side is the cyst?", "The cyst is on which side?"),
    ("On which side is the cyst?", "Which side is the cyst on in this image?"),
    ("Is there a tumour?", "Does the image show a tumor?"),
    ("Is there a fracture?", "Can you see any evidence of a fracture in this scan?"),
    ("Is a fracture present?", "is there a FRACTURE ?"),
    ("How large is the lesion?", "What is the size of the lesion?"),
    ("How many lesions are there?", "What is the number of lesions shown here?"),
    ("What organ is shown?", "Identify the organ in the picture."),
    ("Is there oedema?", "Is edema visible?"),
    ("Where is the lesion?", "Where is the lesion located?"),
]
APART = [
    ("Is there a left effusion?", "Is there a right effusion?"),
    ("Is the lesion larger than 3 cm?", "Is the lesion smaller than 3 cm?"),
    ("Is the lesion larger than 3 cm?", "Is the lesion larger than 4 cm?"),
    ("Is the lesion larger than 3 cm?", "Is the lesion larger than 3 mm?"),
    ("Are there two lesions?", "Are there three lesions?"),
    ("Is there one lesion?", "Is there a lesion?"),
    ("Is there a cyst?", "Is there no cyst?"),
    ("Is it with contrast?", "Is it without contrast?"),
    (
        "Is the left lung larger than the right lung?",
        "Is the right lung larger than the left lung?",
    ),
    ("Is the mass above the kidney?", "Is the kidney above the mass?"),
    ("Did the mass cause the effusion?", "Did the effusion cause the mass?"),
    ("What is the finding?", "Is there a finding?"),
    ("Is the nodule benign?", "Is the nodule malignant?"),
    ("What is this?", "What is that?"),
    ("Is there a cyst?", "Is there a cyst or a mass?"),
    ("Is the cyst in the upper lobe?", "Is the cyst in the lower lobe?"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_other_words_for_the_same_question_are_one(one: str, other: str) -> None:
    assert wording(one) == wording(other)


@pytest.mark.parametrize(("one", "other"), APART)
def test_a_word_that_tells_makes_another_question(one: str, other: str) -> None:
    assert wording(one) != wording(other)


def test_options_are_compared_as_a_set() -> None:
    side = "On which side is it?"
    assert asked(side, ("left", "right")) == asked(side, ("Right", "left"))
    assert asked(side, ("left", "right")) != asked(side, ("left", "right", "both"))
    assert asked(side, ("left", "right")) != asked(side, ())


def test_of_the_banks_questions_only_those_of_one_kind_are_one() -> None:
    kinds: dict[object, set[object]] = {}
    for question in bank._index():
        kinds.setdefault(wording(question), set()).add(bank.kind_of(question))
    assert all(len(found) == 1 for found in kinds.values())
    assert len(kinds) < len(bank._index())


def test_a_question_of_nothing_but_harmless_words_has_a_wording() -> None:
    assert wording("What is shown?") == ("is", "shown", "what")
    assert wording("") == ()
