"""Free text from outside (reports, labels, questions and answers): a keep-list of words.

The approach is Philter's (Norgeot et al. 2020, npj Digital Medicine 3:57): what is not known to be
harmless is masked. A word stays if it is in a vocabulary of medical and everyday words and does not
stand where a name stands; a number stays if it is short, no part of a date, time or id, and no age
over 89 (45 CFR 164.514(b)(2)(i)(C)). Everything else becomes `___`. The text is refused where too
much of it is masked to mean anything, or where it has no lower case, so that names cannot be told
by their capitals.

A word of the vocabulary that is also a name (Brown, Young, Small) is masked when it has a capital,
unless it begins a sentence and stands before a noun ("Small effusion"). A lower-case name that is
also a word is known only where people are named ("seen by brown", "patient: brown").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from engine.imaging.lexicon import (
    ACTS,
    ADVERBS,
    AFTER_PATIENT,
    AMBIGUOUS,
    FUNCTION,
    MONTHS,
    PARTICLES,
    PEOPLE,
    PERSONS,
    TITLES,
    VERBS,
    acronyms,
    given_names,
    names,
    vocabulary,
)

MASK = "___"
MOST_MASKED = 0.3  # share of words; above it a text is refused
FEW = 6  # words; a text of no more may be written as a label is
AGES = range(90, 131)  # whole numbers that may be an age over 89
_TOKEN = re.compile(r"[^\W_]+(?:[-'’./:,@_][^\W_]+)*|\s+|.", re.DOTALL)
_NUMBER = re.compile(r"\d{1,3}(\.\d{1,2})?")
_SIZES = re.compile(r"\d{1,3}(\.\d)?(x\d{1,3}(\.\d)?){0,2}(mm|cm|ml|cc|hu|mg|kg|%)?", re.I)
_ORDINAL = re.compile(r"1st|2nd|3rd|\d{1,2}th")
_LEVEL = re.compile(r"[CTLS]\d{1,2}")  # a vertebra, T1, T2
_WRITTEN = frozenset("kV kVp mA mAs mL dL mGy mSv mmHg MHz kHz Hz".split())  # units
_COMPOUND = re.compile(r"[A-Z][a-z]+(-[a-z]+)+")
_POSSESSIVE = re.compile(r"['’]s$")
_SEQUENCES = frozenset(("T1", "T2", "FLAIR", "DWI", "ADC"))
_UNIT = re.compile(
    r"[\s-]*(%|°|x|×|mm|cm|ml|cc|hu|mg|kg|kvp?|mas?|ms|bpm|beats|mmhg|degrees?|percent|hounsfield)"
    r"(?![a-z])",
    re.I,
)
_CENTILE = re.compile(r"\W*(per)?centile", re.I)
_NAME = r"[^\W\d_]+"
_AND = r"\s*(?:[,/&]|\band\b|\bor\b)\W*"
_WHO = re.compile(  # what ends where a person is named, one word after it, or after "X and"
    rf"(?:\b(?:{'|'.join(PEOPLE)})\s*:|\b(?:{'|'.join(ACTS)})\s+by\b)"
    rf"\W*(?:{_NAME}(?:\W+{_NAME})?{_AND}){{0,4}}(?:{_NAME}\W+)?$",
    re.I,
)
_ROMAN = re.compile("[ivx]+")
_PERSON = re.compile(rf"\b(?:{'|'.join(PERSONS)})\s+$", re.I)
_REVERSED = re.compile(rf"({_NAME})\s*,\s*({_NAME})\W*")  # surname, given name


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`text` is None where it was refused, for `reason`."""

    text: str | None
    masked: int = 0
    reason: str = ""


def clean_text(text: str) -> Cleaned:
    """De-identify a text, or refuse it."""
    letters = [c for c in text if c.isalpha()]
    if not letters:
        return Cleaned(text=None, reason="no words")
    if sum(c.islower() for c in letters) < 0.5 * len(letters):
        return Cleaned(text=None, reason="capitals only: names cannot be told from words")
    tokens = _TOKEN.findall(" ".join(text.split()))
    kept = [_kept(tokens, place) for place in range(len(tokens))]
    words = [t for t in tokens if t[0].isalnum()]
    masked = sum(k == MASK for k in kept)
    if masked > MOST_MASKED * len(words):
        return Cleaned(None, masked, f"{masked} of {len(words)} words are not known to be harmless")
    return Cleaned("".join(kept), masked)


def harmless(text: str) -> bool:
    """Whether a question, an answer or an option may stay as it is: nothing of it is masked."""
    pair = _REVERSED.fullmatch(text.strip().lower())
    if pair and pair[1] in names()[1] and pair[2] in given_names():
        return False
    few = len(text.split()) <= FEW
    return (few and harmless_label(text)) or clean_text(text).text == " ".join(text.split())


def harmless_label(value: str) -> bool:
    """Whether a label may stay as it is: a short number, or words of the vocabulary in any case."""
    if _NUMBER.fullmatch(value.lstrip("-")):
        return not _age(value, "")
    parts = [p for p in re.split(r"[\W_]+", value) if p]
    known = all(_known(p) or _ORDINAL.fullmatch(p) or (p.isdigit() and len(p) <= 2) for p in parts)
    named = any(_named(p) for p in parts) or any(_title(parts, n) for n in range(len(parts)))
    aged = _spelled_age(value.lower()) or any(
        _age(m[0], value[m.end() :]) for m in re.finditer(r"\d+(?:st|nd|rd|th)?", value)
    )
    told = any(
        _WHO.search(value[: m.start()])
        or (m[0].lower() in names()[1] - AFTER_PATIENT and _PERSON.search(value[: m.start()]))
        for m in _ends(value)
    )
    dated = _dated(parts) or re.search(r"\d\W\d", value)
    return bool(parts) and known and not (named or aged or told or dated)


def _dated(parts: list[str]) -> bool:
    """Whether a month stands beside a digit ("12 may", "3rd of May")."""
    words = [p.lower() for p in parts if p.lower() not in ("of", "the")]
    return any(
        (one in MONTHS and two[0].isdigit()) or (two in MONTHS and one[0].isdigit())
        for one, two in pairwise(words)
    )


def _named(word: str) -> bool:
    """Whether a word of a label is a name, or part of a date: one with a capital."""
    lower = word.lower()
    acronym = word.isupper() and lower in acronyms()
    return word[0].isupper() and not acronym and (lower in names()[1] or lower in MONTHS)


def _ends(value: str) -> list[re.Match[str]]:
    return list(re.finditer(r"\b[^\W\d_]+", value))


def _known(word: str) -> bool:
    acronym = word.isupper() and word.lower() in acronyms()
    return acronym or word.lower() in vocabulary() or bool(_LEVEL.fullmatch(word)) or word == "MR"


def _kept(tokens: list[str], place: int) -> str:
    token = tokens[place]
    if not token[0].isalnum():
        return token if token.isascii() else MASK
    before = next((p for p in range(place - 1, -1, -1) if tokens[p][0].isalnum()), None)
    if before is not None and _title(tokens, before):
        return MASK
    if (
        (token in ("L", "R") and _before_noun(tokens, place))
        or _LEVEL.fullmatch(token)
        or token in _WRITTEN
        or (token == "MR" and not _title(tokens, place))
    ):
        return token
    if any(c.isdigit() for c in token):
        return token if _measure(tokens, place) else MASK
    parts = re.split(r"\W", _POSSESSIVE.sub("", token))
    if _COMPOUND.fullmatch(token) and _starts_sentence(tokens, place):
        parts = token.lower().split("-")  # Ring-enhancing
    return token if all(_harmless(part, tokens, place) for part in parts) else MASK


def _title(tokens: list[str], place: int) -> bool:
    """Whether a title is before a name; MR before a small word is the modality."""
    if tokens[place].lower() not in TITLES:
        return False
    after = next((t for t in tokens[place + 1 :] if t[0].isalnum()), "mr")
    return tokens[place] != "MR" or not (after.islower() or after in _SEQUENCES)


def _measure(tokens: list[str], place: int) -> bool:
    """A short number or size: not beside a month, next to another number, or maybe an age."""
    far = 5 if tokens[place + 2 : place + 3] == ["of"] else 4
    beside = [t.lower() for t in tokens[max(0, place - 3) : place + far] if t[0].isalnum()]
    next_to = tokens[max(0, place - 2) : place] + tokens[place + 1 : place + 3]
    part_of_more = any(c.isdigit() for t in next_to for c in t)
    fits = any(form.fullmatch(tokens[place]) for form in (_NUMBER, _SIZES, _ORDINAL))
    old = _age(tokens[place], "".join(tokens[place + 1 : place + 4]))
    return bool(fits) and not old and not part_of_more and not any(w in MONTHS for w in beside)


def _age(number: str, after: str) -> bool:
    """Whether a number may be an age over 89: it is as high, and no unit or percentile follows."""
    whole = re.fullmatch(r"(\d{2,3})(\.\d+)?(st|nd|rd|th)?", number)
    unit = _CENTILE if whole and whole[3] else _UNIT
    return whole is not None and int(whole[1]) in AGES and not unit.match(after)


def _spelled_age(lower: str) -> bool:
    return "ninet" in lower


def _harmless(word: str, tokens: list[str], place: int) -> bool:
    lower = word.lower()
    listed, people = names()
    if lower in MONTHS | TITLES | PARTICLES or _spelled_age(lower) or not _known(word):
        return False
    named = lower in listed and not (word.islower() and lower in FUNCTION)
    before = "".join(tokens[max(0, place - 20) : place])
    if named and (_WHO.search(before) or (lower not in AFTER_PATIENT and _PERSON.search(before))):
        return False
    if _first_name(lower, tokens, place):
        return False
    if word.islower():
        return True
    if word.isupper() and 2 <= len(word) <= 4 and (lower not in listed or lower in acronyms()):
        return True  # CT, PA, COPD
    if not _starts_sentence(tokens, place):
        return False
    adjective = word == tokens[place] and not word.isupper() and _before_noun(tokens, place)
    return lower not in people or adjective


def _first_name(lower: str, tokens: list[str], place: int) -> bool:
    """Whether a word that is also a given name stands before a verb of persons or a surname.

    "Will was seen", "An Nguyen", "XI WU"; not "An MRI" or "See also".
    """
    space, word = [*tokens[place + 1 : place + 3], "", ""][:2]
    if space == ",":  # "Will, with fever"
        return tokens[place] in ("An", "Do", "See", "Will") and _starts_sentence(tokens, place)
    if space != " " or tokens[place].islower():
        return False
    surname = word.lower() in names()[1] and word.lower() not in acronyms()
    if tokens[place].isupper():
        short = len(tokens[place]) <= 3 and word.isupper() and len(word) > 1
        return short and surname and bool(lower in names()[0] or _ROMAN.fullmatch(lower))
    if lower not in AMBIGUOUS or not _starts_sentence(tokens, place):
        return False
    capital = word[:1].isupper() and word[1:].islower() and (surname or not _known(word))
    return capital or word in VERBS - ADVERBS


def _before_noun(tokens: list[str], place: int) -> bool:
    """Whether a lower-case word follows that is none of those that follow a person."""
    space, word = [*tokens[place + 1 : place + 3], "", ""][:2]
    told = word in VERBS or word in FUNCTION or word.endswith("ed")
    return space == " " and word.islower() and word in vocabulary() and not told


def _starts_sentence(tokens: list[str], place: int) -> bool:
    before = next((tokens[p] for p in range(place - 1, -1, -1) if not tokens[p].isspace()), ".")
    return before[-1] in ".:;!?"
