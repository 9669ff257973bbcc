"""Words that are none, and words that no list has."""

from __future__ import annotations

import random

import pytest

from generators.filters import spelling
from generators.filters.dictionary import known
from tests.generators.filters.rows import row

NONE = [
    ("The tumortumortumor is small.", "a word that says itself twice"),
    ("IsIs does the lesion?", "words run together"),
    ("IsIs3 small?", "words run together"),
    ("IsDoes the image show a tumor?", "words run together"),
    ("Isultrasound breast: 3 small?", "words run together"),
    ("Which side ofthe brain is shown?", "words run together"),
    ("Is the lesionleft of it?", None),  # neither is a word of grammar
    ("A thesolid mass is seen.", "words run together"),
    ("The lesionlesion is small.", "a word that says itself twice"),
    ("The lesvxn is small.", "letters that are no word"),
    ("Is there a qwzkj?", "letters that are no word"),
]
# In none of the lists, and right.
UNLISTED = """holoprosencephaly craniopharyngioma hemangioblastoma xanthogranulomatous moyamoya
chondrocalcinosis duodenojejunal metatarsophalangeal lymphangioleiomyomatosis
plagiocephaly sacroiliitis polymicrogyria endometrioma thyroglossal kyphoplasty
leukoaraiosis tenosynovitis calcaneonavicular oligohydramnios spondylodiscitis
dolichoectasia vesicoureteral phlebolith""".split()


@pytest.mark.parametrize(("text", "fault"), NONE)
def test_a_word_that_is_none_is_out(text: str, fault: str | None) -> None:
    assert spelling.misspelt(text) == fault


@pytest.mark.parametrize("word", UNLISTED)
def test_a_word_of_medicine_that_no_list_has_passes(word: str) -> None:
    assert not known(word)
    assert spelling.misspelt(f"Is {word} seen in this image?") is None
    assert spelling.misspelt(word.capitalize()) is None


@pytest.mark.parametrize(
    "text",
    [
        "Krukenberg tumour, Waldenström disease and an Osgood-Schlatter lesion",
        "The PleurX drain, the DVT and an eGFR of 60",
        "inhomogeneous, anechoic, infolding, isoattenuating, quinolone",
        "Is there ground-glass in the right lower lobe?",
        "5.6cm focal, predominantly hypodense",
    ],
)
def test_names_abbreviations_and_words_that_begin_as_grammar_does_pass(text: str) -> None:
    assert spelling.misspelt(text) is None


def test_a_name_may_be_an_answer_and_no_word_may_be_an_option() -> None:
    assert spelling.reason(row("Which drain is it?", "Xqtzra")) is None
    found = spelling.reason(row("Which?", "cyst", "cyst", "xqtzra"))
    assert found == "options: letters that are no word"


def test_most_random_letters_are_no_word() -> None:
    rng = random.Random(77)
    made = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(200)]
    found = [word for word in made if spelling.misspelt(f"There is {word} seen.")]
    assert len(found) > 0.85 * len(made)
