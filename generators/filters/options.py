"""Options: of one question exactly one can be right, and the answer is one of them.

What an examination board refuses (NBME, Item-Writing Guide 2020; Haladyna, Downing and Rodriguez
2002, doi:10.1207/S15324818AME1503_5): options that say the same, one that holds another, numbers
and ranges that overlap, "all of the above", and "none of the above" beside another "none".

"Left" is in "left and right", "mass" in "solid mass"; the head of a name is its last word, so a
"heart failure" is no heart and both may be offered. "No" and "over" part two options as well.
"""

from __future__ import annotations

import math
import re
from itertools import combinations, permutations

from engine.answers.matching import is_valid
from engine.answers.spelling import normalise
from engine.records import Triplet

_ABOVE = re.compile(r"\bof (?:the |these |those )?(?:above|below|options|choices)\b|\bof these$")
_LETTERS = re.compile(r"(?:both |only )?[a-h](?:(?: and |, ?)[a-h])+(?: only)?|[a-h] only")
_NONE = re.compile(
    r"none|nothing|normal|no (?:abnormal\w*|finding|findings|lesion|lesions|pathology|disease)"
    r"|none (?:seen|present|visible)"
)
# Words with which a longer option says something else than the one that it holds.
_APART = frozenset(
    "no not non without never absent neither nor except under over above below beyond before "
    "after pre post less fewer more greater larger smaller than near adjacent beside outside "
    "between < > ≤ ≥".split()
)
# Words behind which, or before which, a part stands for itself.
_JOINS = frozenset("and or with plus to of in on at , /".split())
_LIST = re.compile(r"\s+(?:and|or|plus)\s+|\s*[,+]\s*")
# Options by themselves, of which longer ones are kinds: "left", "left lower lobe".
_PLACES = frozenset(
    "left right upper lower middle central peripheral anterior posterior medial lateral superior "
    "inferior proximal distal bilateral small medium large mild moderate severe".split()
)
_NUMBER = r"(\d+(?:\.\d+)?)"
_UNIT = r"\s*([^\d\s].*)?"
_RANGE = re.compile(rf"(?:between )?{_NUMBER}\s*(?:-|to|and)\s*{_NUMBER}{_UNIT}")
_UNDER = re.compile(rf"(less than|fewer than|under|below|<|at most|up to|≤)\s*{_NUMBER}{_UNIT}")
_OVER = re.compile(rf"(more than|greater than|over|above|>|at least|≥)\s*{_NUMBER}{_UNIT}")
_OR_MORE = re.compile(rf"{_NUMBER}(?:\s*\+| or (?:more|greater|above)){_UNIT}")
_POINT = re.compile(rf"{_NUMBER}{_UNIT}")
Span = tuple[float, float, str]  # from, to, unit; an end that does not count is moved by a hair


def reason(row: Triplet) -> str | None:
    """Why the options are no choice, or the answer none of them; None where all is well."""
    if not row.options:
        return None
    found = _choice([normalise(option) for option in row.options])
    if found:
        return f"options: {found}"
    return None if is_valid(row.answer, row.options) else "answer: not one of the options"


def _choice(options: list[str]) -> str | None:
    if len(options) < 2:
        return "a single one"
    if found := _above(options):
        return found
    for one, two in combinations(options, 2):
        if one == two or _alike(one) == _alike(two):
            return "two say the same"
        if _overlap(_span(one), _span(two)):
            return "two overlap"
    held = any(_holds(*pair) for pair in permutations(options, 2))
    return "one holds another" if held else None


def _above(options: list[str]) -> str | None:
    """What is wrong with an option that names the others; None where nothing is."""
    for option in options:
        others = [other for other in options if other != option]
        if _LETTERS.fullmatch(option) and any(len(other) > 1 for other in others):
            return "one names others"
        if not _ABOVE.search(option):
            continue
        if not re.match(r"none\b|neither\b", option):
            return "one names others"
        if any(_NONE.fullmatch(other) for other in others):
            return "two say none"
        if "above" in option and option != options[-1]:
            return "one names those above it, and is not the last"
    return None


def _alike(option: str) -> frozenset[str]:
    """What an option lists, in any order, one or several of each."""
    return frozenset(" ".join(map(_singular, p.split())) for p in _LIST.split(option) if p)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and word[-2] not in "siu" else word


def _holds(long: str, short: str) -> bool:
    """Whether what `short` names is also named by `long`."""
    words, part = [_singular(w) for w in long.split()], [_singular(w) for w in short.split()]
    lone = len(part) == 1 and (part[0].isdigit() or len(part[0]) == 1)
    if lone or not part or len(words) <= len(part):
        return False
    for at in range(len(words) - len(part) + 1):
        before, behind = words[:at], words[at + len(part) :]
        if words[at : at + len(part)] == part and _APART.isdisjoint(before + behind):
            return not behind or behind[0] in _JOINS or _PLACES.issuperset(part)
    return False


def _span(option: str) -> Span | None:
    """The numbers that an option stands for; None where it is none."""
    if found := _RANGE.fullmatch(option):
        return float(found[1]), float(found[2]), found[3] or ""
    if found := _UNDER.fullmatch(option):
        end = float(found[2])
        closed = found[1] in ("at most", "up to", "≤")
        return -math.inf, end if closed else math.nextafter(end, -math.inf), found[3] or ""
    if found := _OVER.fullmatch(option):
        end = float(found[2])
        closed = found[1] in ("at least", "≥")
        return end if closed else math.nextafter(end, math.inf), math.inf, found[3] or ""
    if found := _OR_MORE.fullmatch(option):
        return float(found[1]), math.inf, found[2] or ""
    found = _POINT.fullmatch(option)
    return (float(found[1]), float(found[1]), found[2] or "") if found else None


def _overlap(one: Span | None, two: Span | None) -> bool:
    """Whether two spans share more than the end at which both are bounded ("0-5", "5-10")."""
    if one is None or two is None or one[2] != two[2]:
        return False
    low, high = max(one[0], two[0]), min(one[1], two[1])
    return low < high or (low == high and (one[0] == one[1]) != (two[0] == two[1]))
