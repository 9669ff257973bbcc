"""What a question asks whatever its wording: two that differ in harmless words alone are one.

A similarity of texts cannot tell "On which side is the cyst?" from "On which side is the mass?",
nor left from right, larger from smaller, 3 from 4: one word makes another question of the same
words. So the words in which two questions differ are looked at, and each that is not known to be
harmless tells them apart. What is left is a key: equal keys are one question, and to find them
among many rows is to group by it, without a pair being compared.

Harmless are words that point at the picture ("in this image"), that ask whether something is to be
seen ("is there", "can you see", "does the image show"), and articles. British spellings are
American ones. A question may begin with another of its parts ("The cyst is on which side?"): of the
words that are left the order counts, not where it begins, so that "A larger than B" is not "B
larger than A". A plural, a tense, a synonym of medicine, an abbreviation tell apart: to lose a row
that asks something else is worse than to keep one twice.
"""

from __future__ import annotations

import re
from functools import lru_cache

from engine.answers.spelling import normalise, normalise_question

_POINTING = (
    "image picture photo photograph figure scan film study this that these those here it in on of "
    "at within given provided above attached following"
)
_SEEING = (
    "is are was were be been being do does did can could would will you we one i see seen saw show "
    "shows shown showing display displays displayed depict depicts depicted demonstrate "
    "demonstrates demonstrated illustrate illustrates illustrated visible visualized visualised "
    "present appear appears apparent observe observed identify identified detect detected note "
    "noted notice find found there evidence evident any a an the have has had please used to "
    "patient patients visualize visualizes visualise"
)
_HARMLESS = frozenset(f"{_POINTING} {_SEEING}".split()) - {"above", "one", "to"}
_SAME = {
    "which": "what", "big": "large", "bigger": "larger", "biggest": "largest", "kind": "type",
    "sort": "type", "pictured": "shown", "located": "where", "gray": "grey", "centre": "center",
}  # fmt: skip
_SPOKEN = tuple(
    (re.compile(rf"\b(?:{pattern})\b"), said)
    for pattern, said in (
        (r"(?:what|which) (?:is|are) number of|number of|count of", "how many"),
        (r"(?:what|which) (?:is|are) size of", "how large"),
        (r"where (.+) located", r"where \1"),
        (r"^(?:name|identify|state|tell me|give|describe)", "what"),
        (r"signs? of|evidence of", ""),
        (r"(?:acquired|taken|obtained|made|produced) with", "used"),
    )
)
_BRITISH = tuple((re.compile(p), s) for p, s in ((r"[ao]e", "e"), (r"our$", "or")))


@lru_cache(maxsize=1 << 16)
def wording(question: str) -> tuple[str, ...]:
    """The words that make a question what it is, from the part that sorts first.

    Equal for two questions that differ in harmless words and in which part comes first. The words
    as they are where no other is left ("What is this?").
    """
    text = normalise_question(question)
    for pattern, said in _SPOKEN:
        text = " ".join(pattern.sub(said, text).split())
    words = [_same(word) for word in text.replace(" , ", " ").split()]
    told = [word for word in words if word not in _HARMLESS]
    told = told if any(word != "what" for word in told) else words
    return min((tuple(told[n:] + told[:n]) for n in range(len(told))), default=())


def _same(word: str) -> str:
    word = _SAME.get(word, word)
    if len(word) > 4:
        for pattern, spelt in _BRITISH:
            word = pattern.sub(spelt, word)
    return word


def asked(question: str, options: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What makes two questions one: their wording, and their options whatever their order."""
    return wording(question), tuple(sorted({normalise(option) for option in options}))
