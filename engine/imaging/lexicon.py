"""The words by which free text is cleaned: a vocabulary, names, and what tells the two apart.

The vocabulary is the words of DICOM's coded concepts (PS3.16, from pydicom) and `words.txt`, less
those that are names and nothing else. `surnames.txt` are the 20,005 most frequent surnames of the
US census of 2000, `given_names.txt` the given names of that of 1990, both by frequency and in the
public domain. All sets are of lower-case words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Any

TITLES = frozenset(
    ("dr", "mr", "mrs", "ms", "prof", "professor", "doctor", "md", "nurse", "sister")
)
MONTHS = frozenset(
    "january february march april may june july august september october november december "
    "jan feb mar apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday "
    "saturday sunday".split()
)
PARTICLES = frozenset("al bin da de del della den der di dos du el la le ten ter van von".split())
# Words that begin a sentence far more often than they name somebody.
FUNCTION = frozenset(
    "a all an and any are as at be by can do each for from he her his how if in is it its male "
    "man many no not of on one or overall see she so still such that the then there these they "
    "this to was way we what when where which will with you".split()
)
# Words of reports that few are called by.
RATHER = frozenset(
    "arch blood body bone bones border brain child cuff days eye finger grade height knee layer "
    "line lines loop loss lower lung male marrow mass matter organ plate pons port risk severe "
    "stage stem surface vessels weight".split()
)
# What follows a person who begins a sentence, and does not follow an adjective.
VERBS = frozenset(
    "after again alone also am are arrived asked before began but came can comes complained "
    "complains coughs could denied denies described did does during feels felt gave goes got "
    "had has have is later lives may might must needed needs never noted notes now performed "
    "presented presents read reads received reported reports requested returned reviewed said "
    "saw says seen should showed shows signed since stated states takes today took underwent "
    "until wants was went were who whose will works would wrote".split()
)
# Function words that name somebody where one of VERBS follows that is no adverb, or a capital.
AMBIGUOUS = frozenset("an do see so still such way will".split())
ADVERBS = frozenset(
    "after again alone also before during later never now read seen since until who whose".split()
)
# Before a colon, or before `by`: what is said next is who.
PEOPLE = frozenset(
    "attending author by cc clinician consultant dictated dictator doctor from name nurse "
    "operator patient physician provider radiologist reader referrer reporter resident reviewer "
    "signed sonographer surgeon technician technologist to transcriptionist".split()
)
ACTS = frozenset(
    "approved authorised authorized checked dictated discussed done drawn examined finalised "
    "finalized interpreted performed read reported requested reviewed said seen sent signed "
    "supervised transcribed verified written".split()
)
# Capitals that are names too, and mean a unit, a chamber, a view, an operation or a plane here.
_ACRONYMS = frozenset(("ap", "co", "hu", "la", "mi", "pa", "peg", "sax", "us"))

# Of PEOPLE: after whom a name may follow without a colon.
PERSONS = PEOPLE - frozenset("attending author by cc from name reporter signed to".split())

# Also names, and after "patient" rather words.
AFTER_PATIENT = VERBS | frozenset(
    "able back call chin due even given going hand handler holding just key less likely mask mean "
    "means more most nail pair pass poor rather ready record records shows situ skin than via "
    "wait".split()
)


def _words(name: str) -> list[str]:
    return resources.files("engine.imaging").joinpath(name).read_text("utf-8").split()


@cache
def names() -> tuple[frozenset[str], frozenset[str]]:
    """Names in lower case: all that are listed, and those that are not rather a word."""
    listed = frozenset(_words("surnames.txt") + _words("given_names.txt"))
    return listed, listed - FUNCTION - RATHER


@cache
def given_names() -> frozenset[str]:
    """Given names in lower case."""
    return frozenset(_words("given_names.txt"))


@cache
def vocabulary() -> frozenset[str]:
    """Lower-case words that may stay; a name is among them where it is also written small."""
    coded = " ".join(name for name, _ in _concepts())
    found = {w.lower() for w in re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}(?![a-z])", coded)}
    ours = frozenset(_words("words.txt"))
    return frozenset(found - (names()[0] - _said(str.islower))) | ours


@cache
def acronyms() -> frozenset[str]:
    """What is no name when it stands in capitals."""
    coded = frozenset(w.lower() for w in _said(str.isupper) if len(w) <= 4)
    return coded - names()[0] | _ACRONYMS


def _said(written: Callable[[str], bool]) -> set[str]:
    """The words of the coded concepts' meanings that are written so."""
    said = " ".join(meaning for _, meaning in _concepts())
    return {word for word in re.findall("[A-Za-z]{2,}", said) if written(word)}


def _concepts() -> Iterator[tuple[str, str]]:
    """Name and meaning of DICOM's coded concepts; of animals' breeds, which are places, none."""
    from pydicom.sr import _concepts_dict

    schemes: dict[str, Any] = _concepts_dict.concepts
    for scheme in schemes.values():
        for name, codes in scheme.items():
            for meaning, _ in codes.values():
                if not name.endswith("Breed"):
                    yield name, meaning
