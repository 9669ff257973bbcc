"""What is one text in two spellings, and what a clinician tells apart."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.matching import is_correct
from engine.answers.spelling import normalise, normalise_question, says_something

SAME = [
    ("the left lung", "Left lung."),
    ("a mass", "mass"),
    ("a unilateral effusion", "unilateral effusion"),
    ("an MRI", "MRI"),
    ("a 5 cm mass", "5 cm mass"),
    ("there is a mass", "there is mass"),
    ("a type 2 lesion", "type 2 lesion"),
    ("a type A dissection", "type A dissection"),
    ("ring-enhancing lesion", "Ring enhancing lesion"),
    ("T2-weighted", "T2 weighted"),
    ("X-ray", "X ray"),
    ("Crohn’s disease", "Crohn's disease"),
    ("Crohn's disease", "Crohns disease"),
    ("“left”", "left"),
    ("**left**", "left"),
    ("(left)", "left"),
    ("left & right", "left and right"),
    ("left; right", "left, right"),
    ("chronic sinusitis vs. hemorrhage", "chronic sinusitis vs hemorrhage"),
    ("5cm", "5 cm"),
    ("1,5 cm", "1.5 cm"),
    ("1·5 cm", "1.5 cm"),
    (".5 cm", "0.5 cm"),
    ("5.0 cm", "5 cm"),
    ("1,500 ml", "1500 ml"),
    ("6.5 × 6.2 cm", "6.5x6.2cm"),
    ("5 %", "5%"),
    ("two lesions", "2 lesions"),
    ("½ tablet", "1/2 tablet"),
    ("1½ cm", "1 1/2 cm"),
    ("−5", "-5"),
    ("3–5", "3 - 5"),
    ("≥ 5 mm", ">=5 mm"),
    ("± 5", "+/-5"),
    ("HIV (-)", "HIV -"),
    ("TNF-α", "TNF alpha"),
    ("β-blocker", "beta blocker"),
    ("5 µm", "5 μm"),
    ("5 µg", "5 mcg"),
    ("5 um", "5µm"),
    ("S. aureus", "S aureus"),
    ("E/e'", "E/e′"),
    ("* left", "left"),
    ("CO₂", "CO2"),
    ("m²", "m2"),
    ("grade Ⅱ", "grade II"),
    ("Ｙｅｓ。", "yes"),
    ("٣ cm", "3 cm"),
    ("ﬁbrosis", "fibrosis"),
    ("lef\u00adt", "left"),
    ("left\u200b", "left"),
    ("le\u2060ft", "left"),
    ("left\u00a0lung", "left lung"),
    # a measure, and nothing else
    ("1,50 cm", "1.5 cm"),
    ("1,5-cm mass", "1.5 cm mass"),
    ("1,5 x 2,50 cm", "1.5x2.5 cm"),
    ("1,5 to 2,5 cm", "1.5 to 2.50 cm"),
    ("1,5 years", "1.5 years"),
    ("1,5%", "1.50 %"),
    ("1,5T", "1.5 T"),
    ("0,5", "0.5"),
    ("<1,5", "< 1.50"),
    ("2.0", "2"),
    ("(-2.50)", "-2.5"),
    ("ribs 3,10", "ribs 3, 10"),
    ("with a mass", "with mass"),
    # letters, signs and bullets
    ("the A segment", "A segment"),
    ("in the A segment", "in A segment"),
    ("the A virus", "A virus"),
    ("30º", "30°"),
    ("30 ˚C", "30°C"),
    ("α1", "alpha1"),
    ("α1", "alpha 1"),
    ("α-1 antitrypsin", "alpha-1 antitrypsin"),
    ("TGF-β1", "TGF-beta1"),
    ("TGF-β1", "TGF beta-1"),
    ("β₂ agonist", "beta2-agonist"),
    ("HIF-1α", "HIF-1alpha"),
    ("5-α reductase", "5-alpha reductase"),
    ("λ chain", "lambda chain"),
    ("- left", "left"),
    ("– left lung", "left lung"),
    ("- five", "-5"),
    ('5"', "5''"),
    ("5″", "5''"),
    ("5mM", "5 mM"),
    ("5 µM", "five uM"),
]
DIFFERENT = [
    # letters that are no articles
    ("hepatitis A virus", "hepatitis virus"),
    ("hepatitis A", "hepatitis"),
    ("hepatitis A", "hepatitis B"),
    ("hepatitis B and A virus", "hepatitis B and virus"),
    ("influenza a virus", "influenza virus"),
    ("vitamin A deficiency", "vitamin deficiency"),
    ("group a strep", "group strep"),
    ("type A aortic dissection", "type aortic dissection"),
    ("A aortic dissection", "aortic dissection"),
    ("grade A lesion", "grade lesion"),
    ("A-lines", "lines"),
    ("A lines", "lines"),
    ("a wave", "wave"),
    ("A-mode", "mode"),
    ("A scan", "scan"),
    ("A fib", "fib"),
    ("A positive", "positive"),
    ("A type", "type"),
    ("A and B", "B"),
    ("A beta", "beta"),
    ("A strep", "strep"),
    ("A pattern", "pattern"),
    ("the A dissection", "dissection"),
    ("Aβ", "β"),
    ("a few nodules", "few nodules"),
    ("A virus", "virus"),
    ("infected with A virus", "infected with virus"),
    ("rupture of A pulley", "rupture of pulley"),
    ("A haemophilia", "haemophilia"),
    ("A hemophilia", "hemophilia"),
    ("A mutation", "mutation"),
    ("with A mutation", "with mutation"),
    ("A enterovirus", "enterovirus"),
    ("A serotype", "serotype"),
    ("A influenza", "influenza"),
    ("A haemoglobin", "haemoglobin"),
    ("A segment", "segment"),
    ("A viral hepatitis", "viral hepatitis"),
    ("transfused with A plasma", "transfused with plasma"),
    ("Nº", "no"),
    ("the A segment", "the segment"),
    # sides, negation, doubt
    ("left", "right"),
    ("left lung", "lung"),
    ("bilateral", "unilateral"),
    ("no effusion", "effusion"),
    ("no effusion", "no, effusion"),
    ("no effusion", "No. Effusion"),
    ("no effusion", "No: effusion"),
    ("no effusion", "No (effusion)"),
    ("non-contrast", "contrast"),
    ("w/ contrast", "w/o contrast"),
    ("without contrast", "with contrast"),
    ("hypodense", "hyperdense"),
    ("asymmetric", "symmetric"),
    ("?fracture", "fracture"),
    ("# 5", "5"),
    ("№", "no"),
    # numbers
    ("5 cm", "0.5 cm"),
    ("5 cm", ".5 cm"),
    ("1,5 cm", "15 cm"),
    ("1,5 cm", "1, 5 cm"),
    ("1.5", "15"),
    ("1.500", "1500"),
    ("1.500", "1.5"),
    ("ribs 3,10", "ribs 3,1"),
    ("ribs 3,10", "ribs 3.10"),
    ("teeth 1,20", "teeth 1,2"),
    ("segments 4,5", "segments 4.5"),
    ("segments 4,5", "segments 45"),
    ("segments 4,5 and 6", "segments 4.5 and 6"),
    ("4,5", "4.5"),
    ("code 2.10", "code 2.1"),
    ("code 2.0", "code 2"),
    ("2'", "2''"),
    ("2'", '2"'),
    ("2''", "2"),
    ("5 mm", "5 cm"),
    ("5 mg", "5 µg"),
    ("5 g", "5 mg"),
    ("10²", "102"),
    ("10⁻³", "10-3"),
    ("10^3", "10 3"),
    ("1½", "11/2"),
    ("1/2", "12"),
    ("5'", '5"'),
    ("5'", "5"),
    ("3-5", "35"),
    ("3-5", "3.5"),
    ("3-5", "3 5"),
    ("1:80", "180"),
    ("1:80", "1:800"),
    ("T1", "T2"),
    ("L4-L5", "L4 L5"),
    ("L4", "L5"),
    ("grade I", "grade II"),
    ("grade 1", "grade 2"),
    ("stage IIA", "stage IIB"),
    ("5%", "5"),
    # signs
    ("-5", "5"),
    ("- 5", "5"),
    ("- five", "five"),
    ("+5", "-5"),
    (">5", "<5"),
    (">5", "5"),
    ("≥5", ">5"),
    ("≤5", "<5"),
    ("±5", "5"),
    ("~5", "5"),
    ("BE -5", "BE 5"),
    ("HIV-", "HIV+"),
    ("HIV-", "HIV"),
    ("Rh -", "Rh"),
    ("2+", "2"),
    ("++", "+"),
    ("ER-PR+", "ER PR+"),
    ("ER - PR +", "ER PR +"),
    ("R>L", "L>R"),
    ("T2*", "T2"),
    ("T2* weighted", "T2 weighted"),
    ("E/e'", "E/e"),
    ("left = right", "left right"),
    ("↑ T2", "↓ T2"),
    ("♀", "♂"),
    ("α", "a"),
    ("α", "β"),
    ("µ", "m"),
    ("µs", "US"),
]
clinical = st.lists(
    st.sampled_from(
        "left right no a the an A type hepatitis effusion 5 1,5 0.5 .5 -5 >5 <5 ± cm mm + - , . ? "
        "; T2 L4-L5 grade II α μm 10² ½ ( ) ' x-ray and mass lines one 1:80 % vs. "
        "T2* e' = ** 3,10 2.0 2.10 1,50 x to 2'' 5\" 30º º virus segment β1 alpha-1 -α λ "
        "five".split()
    ),
    max_size=7,
).map(" ".join)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_is_one_text_is_equal(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)
    assert is_correct(one, other)
    assert is_correct(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_a_clinician_tells_apart_is_never_equal(one: str, other: str) -> None:
    for spelt in (str, str.upper, str.title, lambda text: f" {text}. ", lambda text: f"({text})"):
        assert normalise(spelt(one)) != normalise(other)
        assert not is_correct(spelt(one), other)
        assert not is_correct(other, spelt(one))
    options = (one, other)
    assert not is_correct(one, other, options)
    assert not is_correct(other, one, options)


@given(st.one_of(st.text(max_size=40), clinical), st.one_of(st.text(max_size=40), clinical))
def test_equality_is_symmetric_and_reflexive(one: str, other: str) -> None:
    assert is_correct(one, other) == is_correct(other, one)
    assert is_correct(one, one) == says_something(one)


@given(st.one_of(st.text(max_size=40), clinical), st.sampled_from(["NFC", "NFD"]))
def test_canonically_equal_texts_are_one(text: str, form: str) -> None:
    assert normalise(unicodedata.normalize(form, text)) == normalise(text)  # type: ignore[arg-type]


@given(clinical, st.sampled_from([str.upper, str.lower, str.title, str.casefold]))
def test_case_tells_nothing(text: str, cased: object) -> None:
    assert callable(cased)
    assert normalise(cased(text)) == normalise(text)


@given(clinical, st.sampled_from(["\u200b", "\u00ad", "\ufeff", "\u2060", "\u3164"]), st.data())
def test_what_cannot_be_seen_tells_nothing(text: str, unseen: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    assert normalise(text[:place] + unseen + text[place:]) == normalise(text)


@given(clinical, st.sampled_from(["\n", "\t", "  ", "\u00a0", "\u3000"]))
def test_white_space_is_white_space(text: str, space: str) -> None:
    assert normalise(space + text.replace(" ", space) + space) == normalise(text)


@given(st.one_of(st.text(max_size=40), clinical))
def test_a_spelling_is_its_own(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(clinical, st.sampled_from(["left", "right", "no", "5", "-5", "not"]))
def test_a_word_more_is_another_text(text: str, word: str) -> None:
    assert normalise(f"{text} {word}") != normalise(text)
    assert normalise(f"{word} {text}") != normalise(text)


@pytest.mark.parametrize("molar", ["5 mM", "5mM", "5 ｍＭ", "5-mM", "five mM", "5 uM", "5 nM"])
def test_molar_is_no_metre_and_other_case_tells_nothing(molar: str) -> None:
    assert normalise(molar) != normalise(molar.lower())
    assert normalise(molar.upper()) == normalise(molar.lower())
    assert normalise("mM") == normalise("mm")


def test_a_question_is_one_with_and_without_its_mark() -> None:
    assert normalise_question("Is there a mass?") == normalise_question("is there a mass")
    assert normalise_question("Is there a mass?") != normalise_question("Is there no mass?")
