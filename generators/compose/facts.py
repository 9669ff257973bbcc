"""Facts read by rule: from rows, labels and a phantom's truth; and whether they agree.

A row says something only where its question is of the bank or of one of a few plain forms, and its
answer is one that such a question can have: what is not understood is no fact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from engine.answers.matching import resolve
from engine.answers.spelling import normalise
from engine.records import Image, Triplet
from generators.compose.program import (
    COUNT,
    PRESENCE,
    SEVERAL,
    SIDE,
    SIZE,
    Fact,
    Value,
)
from generators.compose.words import LESION, singular
from generators.phantoms import bank
from generators.phantoms.base import SIZES, Truth
from generators.phantoms.oracle import truth_of

FINDING, LARGER = "finding", "larger"
MOST = 9  # that is counted; more is no number that can be seen
_NOTHING = ("none", "normal", "no finding", "no abnormality")

_NAME = r"(?P<name>[a-z][a-z-]*(?: [a-z][a-z-]*){0,2}?)"
_FORMS = (  # of a question in lower case without its mark
    (PRESENCE, rf"(?:is|are) there (?:any |evidence of |signs? of )*(?:an? )?{_NAME}"),
    (PRESENCE, rf"does the (?:image|scan|picture) show (?:any |evidence of )*(?:an? )?{_NAME}"),
    (SEVERAL, rf"(?:is|are) there more than one {_NAME}"),
    (COUNT, rf"how many {_NAME} (?:are there|are visible|are seen)"),
    (SIDE, rf"(?:on )?(?:which|what) side is the {_NAME}(?: on)?"),
    (SIZE, rf"how (?:large|big) is the {_NAME}"),
)
_READ = tuple((about, re.compile(form)) for about, form in _FORMS)
_NO_NAME = frozenset(
    "no not other others another more less left right the same different abnormal normal anything "
    "something one or and of in on with than evidence".split()
)
_FINDINGS = frozenset(f for findings in bank.FINDINGS.values() for f in findings)
_LABELS = {
    "finding": FINDING,
    "diagnosis": FINDING,
    "side": SIDE,
    "laterality": SIDE,
    "count": COUNT,
    "size": SIZE,
}


def of_row(row: Triplet, kind: str, confidence: float = 1.0) -> Fact | None:
    """What a row says of its image; None where its question or its answer is none of ours."""
    asked = _asked(row.question)
    if asked is None or row.problem or row.program:
        return None
    about, subject = asked
    said = normalise(resolve(row.answer, row.options) or row.answer)
    value = _value(about, said)
    if value is None:
        return None
    return Fact(about, subject, value, kind, row.id, confidence=confidence)


def _asked(question: str) -> tuple[str, str] | None:
    """What a question asks, and of which subject."""
    known = bank.kind_of(question)
    if known:
        kind, finding = known
        of_image = kind in ("modality", "anatomy", FINDING) or (
            kind in bank.ATTRIBUTES and not bank.ATTRIBUTES[kind].of
        )
        return kind, finding or ("" if of_image else LESION)
    text = " ".join(question.lower().split()).rstrip(" ?.")
    for about, form in _READ:
        found = form.fullmatch(text)
        if found and _NO_NAME.isdisjoint(found["name"].split()):
            name = found["name"]
            return about, singular(name) if about in (COUNT,) else name
    return None


def _value(about: str, said: str) -> Value | None:
    """An answer as a value of what was asked; None where it cannot be one."""
    if about in (PRESENCE, SEVERAL, LARGER):
        return {"yes": True, "no": False}.get(said)
    if about == COUNT:
        return int(said) if re.fullmatch(r"\d", said) and int(said) <= MOST else None
    if about == FINDING:
        return "none" if said in _NOTHING else said or None
    known = values_of(about)
    return next((value for value in known if normalise(value) == said), None)


def values_of(about: str, subject: str = "", value: Value = "") -> tuple[str, ...]:
    """The words that something can have as its value, `subject` and `value` narrowing them."""
    if about in (SIDE, SIZE):
        return bank.SIDES if about == SIDE else SIZES
    if about == "modality":
        return bank.RADIOLOGY if value in bank.RADIOLOGY else bank.MODALITIES
    if about == "anatomy":
        return bank.ANATOMIES.get(str(value), tuple(bank.ANATOMIES))
    attribute = bank.ATTRIBUTES.get(about)
    return (attribute.allowed(subject) or attribute.values) if attribute else ()


def of_labels(image: Image) -> Iterator[Fact]:
    """What an image's labels say, of columns called finding, diagnosis, side, laterality, count,
    size, or as an attribute of the bank."""
    cells = json.loads(image.labels) if image.labels else {}
    for column, cell in cells.items():
        name = column.strip().lower()
        about = _LABELS.get(name, name if name in bank.ATTRIBUTES else "")
        value = _value(about, normalise(cell)) if about else None
        if value is not None:
            subject = "" if about == FINDING else LESION
            yield Fact(about, subject, value, "labels", image.id)


def of_truth(image: Image) -> Iterator[Fact]:
    """What a phantom's truth says, but for measures; nothing of an image that is none."""
    truth = truth_of(image)
    if truth is not None:
        for about, subject, value in told(truth):
            yield Fact(about, subject, value, "truth", image.id)


def told(truth: Truth) -> Iterator[tuple[str, str, Value]]:
    """All that can be asked of a truth: about what, of which subject, its value."""
    for finding in bank.FINDINGS[bank.shown_kind(truth)]:
        yield PRESENCE, finding, finding == truth.finding
    values = {SIDE: truth.side, COUNT: truth.count, SIZE: truth.size}
    for about in bank.told_of_lesion(truth):
        value = values[about]
        if value is not None:
            yield about, truth.finding, value
    for about, value in truth.attributes.items():
        if about in bank.ATTRIBUTES:
            yield about, truth.finding if bank.ATTRIBUTES[about].of else "", value


def agreed(facts: Iterable[Fact]) -> tuple[list[Fact], str | None]:
    """An image's facts, each once and under one name for its lesion; and which contradict, if any.

    "Which finding is shown?" is presence. A lesion that is not named is the one finding there is.
    Facts contradict where they give one thing two values, or say how many, which side or how large
    is what another says is not there, more than one of what is one, larger than small what is
    small, or a finding where another says that there is none.
    """
    found = _named([*_as_presence(facts)])
    known: dict[tuple[str, str, str], Fact] = {}
    for fact in found:
        first = known.setdefault(fact.key, fact)
        if first.value != fact.value:
            return [], _against(first, fact)
        if fact.confidence > first.confidence:
            known[fact.key] = fact
    for fact in known.values():
        for other in known.values():
            if _apart(fact, other):
                return [], _against(fact, other)
    return [f for f in known.values() if f.about not in (FINDING, LARGER)], None


def _as_presence(facts: Iterable[Fact]) -> Iterator[Fact]:
    for fact in facts:
        if fact.about == FINDING and fact.value != "none":
            yield replace(fact, about=PRESENCE, subject=str(fact.value), value=True)
        elif fact.about == COUNT and fact.value == 0:
            yield replace(fact, about=PRESENCE, value=False)
        else:
            yield fact


def _named(facts: list[Fact]) -> list[Fact]:
    """The same, "lesion" under the name of the one finding that there is."""
    there = {f.subject for f in facts if f.subject and _there(f)} - {LESION}
    if len(there) != 1:
        return facts
    name = there.pop()
    return [replace(f, subject=name) if f.subject == LESION else f for f in facts]


def _there(fact: Fact) -> bool:
    """Whether a fact says, or takes for granted, that its subject is there."""
    return fact.value is True or fact.about in (COUNT, SIDE, SIZE) or fact.about in bank.ATTRIBUTES


def _apart(one: Fact, other: Fact) -> bool:
    """Whether a fact denies what another, of another kind, says."""
    if one.about == FINDING:  # of none
        return _there(other) and other.subject != ""
    if one.subject != other.subject:
        return False
    if one.about == PRESENCE and not one.value:
        return other.about != PRESENCE and other.value is not False
    if one.about == SEVERAL and other.about == COUNT:
        return one.value != (int(other.value) > 1)
    return one.about == LARGER and other.about == SIZE and one.value == (other.value == "small")


def _against(one: Fact, other: Fact) -> str:
    def words(fact: Fact) -> str:
        return f"{fact.about} of {fact.subject or 'the image'} is {fact.value} ({fact.kind})"

    return f"{words(one)}, {words(other)}"
