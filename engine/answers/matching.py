"""What a completion says, and whether an answer is right. Written to resist gaming.

Known ways in which reward code was gamed elsewhere, each refused here: an empty answer (the empty
string is a substring of everything), several options at once, an option inside a longer answer, the
option list repeated, two answer tags, and fuzzy matching that always picks some option.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import permutations

from engine.answers.spelling import normalise, says_something

_LETTER = re.compile(r"\(?([A-Za-z])(?:[).:]+|\s|$)")


@lru_cache(maxsize=1 << 14)  # the samples of a question say the same few things
def resolve(answer: str, options: tuple[str, ...]) -> str | None:
    """The one option that `answer` names, or None.

    An option is named by its whole text, by its letter alone ("B", "b)", "(B)"), or by both
    ("B. left"). Anything else names none: containing an option's text is not naming it. A letter
    that is also in the text of another option ("A" of "type B" and "type A") names none.
    """
    named = _named(answer, options)
    return named[0] if len(named) == 1 else None if named else _by_letter(answer, options)


def _named(answer: str, options: tuple[str, ...]) -> list[str]:
    """The options whose whole text `answer` is."""
    keep_a = _lettered(options)
    keys = [normalise(o, keep_a) for o in options]
    for said in (normalise(answer, keep_a), normalise(answer)):
        if said and said in keys:
            return [o for o, key in zip(options, keys) if key == said]
    return []


def _lettered(options: tuple[str, ...]) -> bool:
    """Whether an "a" tells options apart, as a letter does: "A dissection" and "B dissection"."""
    texts = [normalise(o, True).split() for o in options]
    for one, other in permutations(texts, 2):
        apart = [(a, b) for a, b in zip(one, other) if a != b] if len(one) == len(other) else []
        if len(apart) == 1 and apart[0][0] == "a" and len(apart[0][1]) == 1:
            return True
    return False


def _by_letter(answer: str, options: tuple[str, ...]) -> str | None:
    plain = unicodedata.normalize("NFKC", answer).strip()
    found = _LETTER.match(plain)
    if not found:
        return None
    letter, rest = found.group(1).lower(), plain[found.end() :].strip()
    place = ord(letter) - ord("a")
    if place >= len(options):
        return None
    if rest:
        return options[place] if normalise(rest) == normalise(options[place]) else None
    texts = [normalise(o, True).split() for o in options]
    own = any(len(text) == 1 and len(text[0]) == 1 and text[0].isalpha() for text in texts)
    elsewhere = any(letter in text for n, text in enumerate(texts) if n != place)
    return None if own or elsewhere else options[place]


def compared(answer: str, options: tuple[str, ...]) -> str:
    """An answer as it is compared with others to the same question: equal where they say one."""
    return normalise(resolve(answer, options) or answer)


def is_valid(answer: str, options: tuple[str, ...]) -> bool:
    """Whether an answer is one at all: not empty, and one of the options where there are any."""
    return resolve(answer, options) is not None if options else says_something(answer)


def is_correct(answer: str, gold: str, options: tuple[str, ...] = ()) -> bool:
    """Whether `answer` is `gold`: the same option, or the same text without options.

    What the same text is, `engine.answers.spelling` says.
    """
    if not is_valid(answer, options):
        return False
    if options:
        wanted = resolve(gold, options)
        return wanted is not None and resolve(answer, options) == wanted
    return normalise(answer) == normalise(gold)
