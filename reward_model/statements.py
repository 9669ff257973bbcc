"""What a step of a rationale states, in a form in which two statements can be compared.

A statement says of a subject ("cyst"; `ANY` where a text says "lesion") which values something may
have: its side, count or size, whether it is present. Two statements of one subject contradict each
other where no value is left. Only what can be read without doubt becomes a statement: a clause that
is one of a few forms from its first word to its last, or a report's line ("CT head: 2 small infarct
left."). A sentence that weighs, compares or looks back states nothing, so most true things that are
said are passed over, and next to nothing that is true is taken for a contradiction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from engine.imaging.anatomy import MODALITY_NAMES

SIDE, COUNT, SIZE, PRESENCE = "side", "count", "size", "presence"
NAMED, HEADED, ANSWERED = "name", "kind of image", "answer"
ANY, ALL = "", "*"  # the lesion whatever it is; anything abnormal
YES, NO = frozenset(["yes"]), frozenset(["no"])
SIZES = ("small", "medium", "large")
SIDES = ("left", "right")
MOST = 100  # more than anybody counts

_NUMBERS = "zero one two three four five six seven eight nine ten".split()
_N = r"\d{1,2}"
SIDE_WORD = "left|right"
SIZE_WORD = "|".join(SIZES)
NAME = r"[a-z][a-z-]+(?: [a-z][a-z-]+){0,2}?"
_PLACE = (
    rf"(?: (?:on|in|at) the (?P<side>{SIDE_WORD})(?: side| lung| breast| kidney| hemisphere)?)?"
)
_HERE = r"(?P<here> (?:here|visible|seen|present|in total|overall|in (?:this|the) (?:image|scan)))?"
_THING = rf"(?:(?:(?P<no>no)|(?P<count>{_N})|an?) )?(?:(?P<size>{SIZE_WORD}) )?(?P<name>{NAME})"
IMAGE = r"(?:image|scan|picture|study|ct|mri|mr|x-ray|radiograph|film|ultrasound|slice)"
_IT = rf"(?:(?:the|this|that) (?P<name>{NAME})|(?P<it>it))"


def whole(pattern: str) -> re.Pattern[str]:
    """A form that a clause has from its first word to its last."""
    return re.compile(rf"(?:{pattern})\Z")


_THERE = whole(rf"there (?:is|are) {_THING}{_PLACE}{_HERE}")
_SHOWS = whole(rf"(?:the|this) {IMAGE} (?:shows|demonstrates|reveals|contains) {_THING}{_PLACE}")
_I_SEE = whole(rf"(?:i|we) (?:see|count|find|note) {_THING}{_PLACE}{_HERE}")
_NONE = whole(
    rf"no (?:evidence of |signs? of )?(?:an? )?(?P<name>{NAME})(?: is| are)?{_HERE}"
    rf"|(?:the |an? )?(?P<absent>{NAME}) (?:is|are) (?:absent|not (?:seen|present|visible))"
    rf"|there (?:is|are) no (?:evidence|signs?) of (?:an? )?(?P<no_sign>{NAME})"
)
_LIES = whole(
    rf"{_IT} (?:is|lies|sits|appears)(?: seen| located| situated)? (?:on|in|at) the (?:patient's )?"
    rf"(?P<side>{SIDE_WORD})(?: side)?"
)
_SIZED = whole(rf"{_IT} is (?P<size>{SIZE_WORD})(?: in size)?")
_TOTAL = whole(
    rf"(?:the |their )?(?:count|number|total)(?: of (?P<name>{NAME}))? (?:is|=) (?P<count>{_N})"
)
_BARE_COUNT = whole(rf"(?:i|we) count (?P<count>{_N})")
_NOT = whole(rf"not (?:an? )?(?P<name>{NAME})")
_IS = whole(
    rf"(?:this|it|the (?:finding|diagnosis|abnormality|lesion|modality|sequence|organ)) is "
    rf"(?:an? )?(?P<name>{NAME})"
)
_ANSWER = whole(r"(?:the )?(?:final |right |correct )?answer(?: is|:) (?P<answer>[^?]+)")
_PLACED = whole(rf"on the (?:patient's )?(?P<side>{SIDE_WORD})(?: side)?")

_LEADING = re.compile(
    r"(?:\(?[\da-z][.)] |step \d+: |[-*•] |(?:so|thus|therefore|hence|and|but|then|also|finally|"
    r"however|next|overall|in summary|in conclusion),? )+"
)
# Who weighs, compares or looks back states nothing of what is there.
_DOUBT = re.compile(
    r"\?|\b(?:if|would|could|might|may|possibly|perhaps|probably|likely|maybe|unless|either|or|"
    r"whether|suppose|assume|than|compared|unlike|versus|vs|prior|previous(?:ly)?|before|history|"
    r"formerly|was|were|had|resolved|initially|first|glance|seems?|looks?|mimics?|other|another|"
    r"others|more|each|respectively|both|bilateral(?:ly)?|of the image|image's|viewer|caption|"
    r"option|report|question)\b"
)
_NO_NAME = frozenset(
    "no not of in on at to by with and or more other another left right the a an this that it side "
    "same each both only few several many second third one normal sure clear is are was were has "
    "have there which who what than as from for certain doubt reason way need problem answer "
    "change difference side sides sign signs evidence".split()
) | {*SIZES, *_NUMBERS}
_ANY = frozenset("lesion finding focus".split())
_ALL = frozenset("none abnormality anomaly pathology disease".split())
# What a lesion is by its name: who says that there is no lesion says that there is none of these.
LESIONS = frozenset(
    "cyst mass nodule tumor tumour plaque metastasis polyp neoplasm solid-mass infarct".split()
)
_MODALITY = "|".join(sorted(MODALITY_NAMES - {"other"})).lower()
_REPORT = re.compile(rf"(?P<head>(?:{_MODALITY}|mri)(?: [\w-]+){{0,5}}): ?(?P<items>[^:;]+)")
_ITEM = whole(
    rf"(?:(?P<count>{_N}) )?(?:(?P<size>{SIZE_WORD}) )?"
    rf"(?P<name>[a-z][\w-]*(?: [a-z][\w-]*){{0,2}}?)(?: (?P<side>{SIDE_WORD}))?"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """That something `about` a subject has one of `values`.

    A `firm` one is of all there is ("there are 2 cysts", "the cyst is on the left"), so that
    another firm one cannot speak of something else. A `finding` is what a report's line is about:
    the lesion, whatever its name.
    """

    about: str
    subject: str
    values: frozenset[str | int]
    firm: bool = False
    finding: bool = False

    @property
    def words(self) -> str:
        """What it says, for a person."""
        told = sorted(self.values, key=str)
        low = min((v for v in told if isinstance(v, int)), default=0)
        value = f"{low} or more" if len(told) > 3 else " or ".join(map(str, told))
        return f"{self.about} {value}" + (f" of {self.subject}" if self.subject.isalpha() else "")


def plain(text: str) -> str:
    """A text in lower case with single spaces and digits for number words, for the forms above."""
    words = text.lower().replace("’", "'").split()
    numbered = [re.sub(r"^(\w+)\b", lambda m: _digit(m[1]), word) for word in words]
    return " ".join(numbered)


def _digit(word: str) -> str:
    return str(_NUMBERS.index(word)) if word in _NUMBERS else word


def subject_of(name: str) -> str | None:
    """The one name of a subject, in the singular; None for what is none."""
    words = name.split()
    if not words or not _NO_NAME.isdisjoint(words):
        return None
    words[-1] = _singular(words[-1])
    one = " ".join(words)
    return ANY if one in _ANY else ALL if one in _ALL else one


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "as")):
        return word[:-1]
    return word


@lru_cache(maxsize=1 << 14)
def statements_of(step: str) -> tuple[Statement, ...]:
    """What a step states, in the order of its words."""
    text = plain(step).rstrip(" .!;")
    report = _REPORT.fullmatch(_LEADING.sub("", text, count=1) if text[:1] == "(" else text)
    if report:
        return tuple(_of_report(report["head"], report["items"]))
    found = _NOT.match(text)
    if found and (name := subject_of(found["name"])) is not None:
        # "Not none" says no more than that something is there.
        return (Statement(PRESENCE, name, YES if found["name"] == "none" else NO, True),)
    if _DOUBT.search(text):
        return ()
    clauses = [clause.strip() for clause in re.split(r"[,:;]| – | - ", text)]
    return tuple(
        statement
        for place, clause in enumerate(clauses)
        for statement in _of_clause(_bare(clause), place == len(clauses) - 1, len(clauses) == 1)
    )


def _bare(clause: str) -> str:
    """A clause without what leads to it."""
    found = _LEADING.match(clause)
    return clause[found.end() :] if found else clause


def _of_report(head: str, items: str) -> Iterator[Statement]:
    """A heading, and a finding with what is told of it; more than one finding are not counted."""
    yield Statement(HEADED, ALL, frozenset(head.split()), True)
    found = [_ITEM.match(item.strip()) for item in items.split(",")]
    counted = [one for one in found if one and (one["count"] or one["side"])]
    for one in found:
        if one is None or (name := _name_in_report(one["name"])) is None:
            continue
        if one["name"] == "none":
            yield Statement(PRESENCE, ALL, NO, True)
            continue
        yield Statement(NAMED, ALL, frozenset([one["name"]]))
        alone = len(counted) < 2
        for told in _of_thing(one, name, one["side"], alone, alone):
            yield replace(told, finding=True)


def _name_in_report(name: str) -> str | None:
    words = name.split()
    if {*SIDES, *SIZES, "no", "not", "the"} & set(words):
        return None
    return subject_of(name) if name != "none" else ALL


def _of_clause(clause: str, last: bool, alone: bool) -> Iterator[Statement]:
    """What one clause states; `last` and `alone` say where it stands in its sentence."""
    if found := _ANSWER.match(clause):
        yield Statement(ANSWERED, ALL, frozenset([found["answer"]]), True)
    elif found := _NONE.match(clause):
        name = subject_of(found["name"] or found["absent"] or found["no_sign"])
        if name is not None and last:  # else a list may go on, and end with where it holds
            yield Statement(PRESENCE, name, NO, alone)
    elif found := _TOTAL.match(clause) or _BARE_COUNT.match(clause):
        name = subject_of(found.groupdict().get("name") or "lesion")
        if name is not None:
            yield Statement(COUNT, name, frozenset([int(found["count"])]), True)
    elif found := _LIES.match(clause) or _SIZED.match(clause):
        name = IT if found["it"] else subject_of(found["name"])
        if name is not None:
            about = SIDE if "side" in found.groupdict() else SIZE
            yield Statement(about, name, frozenset([found[about]]), True)
    elif (found := _IS.match(clause)) and subject_of(found["name"]):
        yield Statement(NAMED, ALL, frozenset([found["name"]]))
    elif found := _PLACED.match(clause):
        yield Statement(SIDE, IT, frozenset([found["side"]]))
    elif found := _THERE.match(clause) or _SHOWS.match(clause) or _I_SEE.match(clause):
        yield from _existing(found, last, alone)


IT = "it"  # what the step before spoke of


def _existing(found: re.Match[str], last: bool, alone: bool) -> Iterator[Statement]:
    """ "There are 2 small cysts on the left", "the scan shows no cyst"."""
    name = subject_of(found["name"])
    if name is None:
        return
    here = found.groupdict().get("here") or ""
    side = None if "image" in here or "scan" in here else found["side"]
    if found["no"]:
        if last and not found["side"] and not found["size"]:
            yield Statement(PRESENCE, name, NO, alone)
        return
    yield from _of_thing(found, name, side, alone and not found["side"], False)


def _of_thing(
    found: re.Match[str], name: str, side: str | None, total: bool, single: bool
) -> Iterator[Statement]:
    """Presence, count, size and side of a thing.

    `total`: all that there is of it is meant; `single`: what is told of it holds of all.
    """
    if found["count"] == "0":
        yield Statement(PRESENCE, name, NO, total)
        return
    yield Statement(PRESENCE, name, YES, total)
    if found["count"]:
        counted = frozenset([int(found["count"])])
        yield Statement(COUNT, name, counted, total and (single or not found["size"]))
    if found["size"]:
        yield Statement(SIZE, name, frozenset([found["size"]]), single)
    if side:
        yield Statement(SIDE, name, frozenset([side]), single)
