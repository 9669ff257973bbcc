"""Free text beside images: de-identified by a keep-list of words, or refused.

The approach is Philter's (Norgeot et al. 2020, npj Digital Medicine 3:57): what is not known to be
harmless is masked. A word stays if it is in a vocabulary of medical and everyday words and is not
written like a name; a number stays if it is short and no part of a date, time or id. Everything
else becomes `___`. The text is refused where too much of it is masked to mean anything, or where it
has no lower case, so that names cannot be told by their capitals.

The vocabulary is the words of DICOM's coded concepts (PS3.16, from pydicom) and `words.txt`.
A lower-case name that is also a word ("seen by brown") is not recognised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

MASK = "___"
MOST_MASKED = 0.3  # share of words; above it a text is refused
_TOKEN = re.compile(r"[^\W_]+(?:[-'’./:,@_][^\W_]+)*|\s+|.", re.DOTALL)
_NUMBER = re.compile(r"\d{1,3}(\.\d{1,2})?")
_SIZES = re.compile(r"\d{1,3}(\.\d)?(x\d{1,3}(\.\d)?){0,2}(mm|cm|ml|cc|hu|mg|kg|%)?", re.I)
_TITLES = frozenset(
    ("dr", "mr", "mrs", "ms", "prof", "professor", "doctor", "md", "nurse", "sister")
)
_MONTHS = frozenset(
    "january february march april may june july august september october november december "
    "jan feb mar apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday "
    "saturday sunday".split()
)
_PARTICLES = frozenset("al bin da de del della den der di dos du el la le ten ter van von".split())
# Words of the vocabulary that are also common family or given names: masked when capitalised.
_NAMES = frozenset(
    "art bell black brown bush cook cross day field fields fisher forest fox glass grace grant "
    "gray green grey hall hand hands head hill hope joy king lane law little long love major "
    "marks may miller mark moss myers noble page palmer park parks peak pike porter power price "
    "ray reed rice rich rose sharp short small snow sparks stone strong summers temple walker "
    "wall ward waters weaver webb wells white wood woods wright young bacon baker barber berry "
    "bird block bond bone booth branch bridges brook burns case chase church clay drew english "
    "flood frank garden gene guy house hunter iris jack jean june april august lance lee lily "
    "marsh nick norm pat pearl root rusty singer sky skin sue will winter".split()
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """`text` is None where it was refused, for `reason`."""

    text: str | None
    masked: int = 0
    reason: str = ""


@cache
def vocabulary() -> frozenset[str]:
    """Lower-case words that may stay."""
    from pydicom.sr import _concepts_dict

    concepts = _concepts_dict.concepts
    names = " ".join(name for scheme in concepts.values() for name in scheme)
    coded = re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}(?![a-z])", names)
    ours = resources.files("engine.imaging").joinpath("words.txt").read_text("utf-8").split()
    return frozenset(word.lower() for word in [*coded, *ours])


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


def harmless_label(value: str) -> bool:
    """Whether a label may stay as it is: a short number, or words of the vocabulary in any case."""
    if _NUMBER.fullmatch(value.lstrip("-")):
        return True
    parts = [p for p in re.split(r"[\W_]+", value) if p]
    short = all((p.isdigit() and len(p) <= 2) or p.lower() in vocabulary() for p in parts)
    names = any(p[:1].isupper() and p.lower() in _NAMES | _MONTHS | _TITLES for p in parts)
    return bool(parts) and short and not names and not re.search(r"\d\W\d", value)


def _kept(tokens: list[str], place: int) -> str:
    token = tokens[place]
    if not token[0].isalnum():
        return token if token.isascii() else MASK
    before = [t for t in tokens[:place] if t[0].isalnum()][-1:]
    if before and before[0].lower() in _TITLES:
        return MASK
    if any(c.isdigit() for c in token):
        return token if _measure(tokens, place) else MASK
    return token if all(_harmless(part, tokens, place) for part in re.split(r"\W", token)) else MASK


def _measure(tokens: list[str], place: int) -> bool:
    """A short number or size that does not stand beside a month or next to another number."""
    beside = [t.lower() for t in tokens[max(0, place - 3) : place + 4] if t[0].isalnum()]
    next_to = tokens[max(0, place - 2) : place] + tokens[place + 1 : place + 3]
    part_of_more = any(c.isdigit() for t in next_to for c in t)
    fits = _NUMBER.fullmatch(tokens[place]) or _SIZES.fullmatch(tokens[place])
    return bool(fits) and not part_of_more and not any(word in _MONTHS for word in beside)


def _harmless(word: str, tokens: list[str], place: int) -> bool:
    lower = word.lower()
    if lower in _MONTHS | _TITLES | _PARTICLES or lower not in vocabulary():
        return False
    if word.islower():
        return True
    if word.isupper() and 2 <= len(word) <= 4 and lower not in _NAMES:
        return True  # CT, PA, COPD
    return _starts_sentence(tokens, place) and lower not in _NAMES


def _starts_sentence(tokens: list[str], place: int) -> bool:
    before = "".join(tokens[:place]).rstrip()
    return not before or before[-1] in ".:;!?\n"
