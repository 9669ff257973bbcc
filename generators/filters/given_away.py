"""Given away: the question says its own answer ("Which side is the left lung's nodule on?").

What counts is the sentence that asks, and of it the whole answer, or of several options the words
that this one alone has (NBME, Item-Writing Guide 2020: word repeats). A question that offers a
choice ("T1 or T2?") or is answered by yes or no says what it asks about, and "how large" names a
scale.
"""

from __future__ import annotations

import re

from engine.answers.matching import resolve
from engine.answers.sentences import sentences
from engine.answers.spelling import normalise, normalise_question
from engine.records import Triplet
from generators.filters.words import AUXILIARIES, FUNCTION

_CHOICE = re.compile(r"\b(?:or|versus|vs|either)\b|\w/\w")
_CLOSED = AUXILIARIES | frozenset("can could may might should would will has have had am".split())
_SCALE = re.compile(r"\bhow \w+")
_TOKEN = re.compile(r"[^\s?,.;:]+")
# Words that an answer shares with its question without being given away by them.
_EMPTY = FUNCTION | frozenset(
    "no image picture scan side part type kind abnormality finding lesion area region".split()
)


def reason(row: Triplet) -> str | None:
    """What is said of a question whose words tell its answer and no other option; None else."""
    *_, asking = ["", *sentences(row.question)]
    question = normalise_question(asking)
    if question.partition(" ")[0] in _CLOSED or _CHOICE.search(question):
        return None
    answer = (resolve(row.answer, row.options) if row.options else row.answer) or ""
    asked = f" {' '.join(_TOKEN.findall(_SCALE.sub('how', question)))} "
    others = [normalise(option).split() for option in row.options if option != answer]
    words = normalise(answer).split()
    own = [word for word in words if not any(word in other for other in others)] if others else []
    if any(_said(other, asked) or _told(_own(other, words), asked) for other in others):
        return None
    if _said(words, asked) or _told(own, asked):
        return "question: it says its answer"
    return None


def _own(other: list[str], words: list[str]) -> list[str]:
    return [word for word in other if word not in words]


def _meant(word: str) -> bool:
    return word not in _EMPTY and not word.isdigit() and len(word) > 1


def _said(words: list[str], asked: str) -> bool:
    """Whether a question says these words as they stand, and they mean something."""
    return any(map(_meant, words)) and f" {' '.join(words)} " in asked


def _told(words: list[str], asked: str) -> bool:
    """Whether a question has all of these words, wherever, and they mean something."""
    return any(map(_meant, words)) and all(f" {word} " in asked for word in words)
