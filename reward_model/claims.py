"""What a reply to a question claims, as statements that a rationale's can be compared with.

An answer says what its question asks, and takes for granted what that does: who tells the side of a
cyst says that there is one. A question in other words than these forms claims nothing but what its
answer is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.answers.matching import resolve
from reward_model.statements import (
    ALL,
    ANSWERED,
    COUNT,
    HEADED,
    IMAGE,
    MOST,
    NAME,
    NAMED,
    NO,
    PRESENCE,
    SIDE,
    SIDE_WORD,
    SIZE,
    SIZE_WORD,
    SIZES,
    YES,
    Statement,
    plain,
    subject_of,
    whole,
)

_PRESENT = whole(
    rf"(?:is|are) there (?:an? |any |evidence of |an? sign of )*(?P<name>{NAME})"
    rf"|(?:does|do) the {IMAGE}s? show (?:an? |any |evidence of )*(?P<shown>{NAME})"
    rf"|is (?:an?|the) (?P<seen>{NAME}) (?:present|visible|seen)"
)
_SEVERAL = whole(rf"(?:is|are) there more than 1 (?P<name>{NAME})")
_WHICH_SIDE = whole(
    rf"(?:on |in )?(?:which|what) side is the (?P<name>{NAME})(?: on| located| seen)?"
    rf"|is the (?P<either>{NAME}) (?:on|in) the left or (?:on |in )?(?:the )?right(?: side)?"
)
_ON_SIDE = whole(rf"is the (?P<name>{NAME}) on the (?P<side>{SIDE_WORD})(?: side)?")
_LARGER = whole(rf"is the (?P<name>{NAME}) larger than (?P<size>{SIZE_WORD})")
_HOW_LARGE = whole(rf"how (?:large|big) is the (?P<name>{NAME})")
_HOW_MANY = whole(
    rf"how many (?P<name>{NAME}) (?:are there|are seen|are visible|does the {NAME} have)"
    rf"|count the (?P<counted>{NAME})"
)
_WHICH = re.compile(r"(?:which|what) (?:finding|abnormality|lesion|disease|is the diagnosis)\b")
_OF_IMAGE = re.compile(
    r"\b(?:modality|image taken|body part|anatomy does|sequence|which eye)\b"
    r"|is the (?:ct|mri?|image|scan) [\w-]+ or [\w-]+\Z"
)
_ONE_SIDE = whole(rf"(?:(?:on|in|at) )?(?:the )?(?:patient's )?(?P<side>{SIDE_WORD})(?: side)?")


def claims_of(question: str, answer: str, options: tuple[str, ...]) -> tuple[Statement, ...]:
    """What a reply claims: what its answer says, and what its question takes for granted."""
    asked = plain(question).rstrip(" ?.")
    said = plain(resolve(answer, options) or answer).rstrip(" .")
    return tuple(_claims(asked, said))


def _claims(asked: str, said: str) -> Iterator[Statement]:
    yes = {"yes": True, "no": False}.get(said)
    yield Statement(ANSWERED, ALL, frozenset([said]))
    if _OF_IMAGE.search(asked):
        yield Statement(HEADED, ALL, frozenset([said]))
    elif found := _SEVERAL.match(asked):
        if yes is not None:
            some = range(2, MOST) if yes else range(2)
            yield from _told(COUNT, found["name"], frozenset(some), present=yes)
    elif found := _LARGER.match(asked):
        if yes is not None:
            place = SIZES.index(found["size"]) + 1
            yield from _told(
                SIZE, found["name"], frozenset(SIZES[place:] if yes else SIZES[:place])
            )
    elif found := _ON_SIDE.match(asked):
        if yes:
            yield from _told(SIDE, found["name"], frozenset([found["side"]]))
    elif found := _WHICH_SIDE.match(asked):
        if side := _ONE_SIDE.match(said):
            yield from _told(SIDE, found["name"] or found["either"], frozenset([side["side"]]))
    elif found := _HOW_LARGE.match(asked):
        if said in SIZES:
            yield from _told(SIZE, found["name"], frozenset([said]))
    elif found := _HOW_MANY.match(asked):
        if said.isdecimal():
            name = found["name"] or found["counted"]
            yield from _told(COUNT, name, frozenset([int(said)]), present=int(said) > 0)
    elif found := _PRESENT.match(asked):
        name = subject_of(found["name"] or found["shown"] or found["seen"])
        if name is not None and yes is not None:
            yield Statement(PRESENCE, name, YES if yes else NO)
    elif _WHICH.match(asked):
        if said in ("none", "no abnormality", "no finding"):
            yield Statement(PRESENCE, ALL, NO)
        elif (name := subject_of(said)) is not None:
            yield Statement(PRESENCE, name, YES)
    yield Statement(NAMED, ALL, frozenset([said]))


def _told(
    about: str, name: str, values: frozenset[str | int], present: bool = True
) -> Iterator[Statement]:
    """A claim about a subject, which takes it for granted that there is one."""
    subject = subject_of(name)
    if subject is not None:
        yield Statement(about, subject, values)
        if present:
            yield Statement(PRESENCE, subject, YES)
