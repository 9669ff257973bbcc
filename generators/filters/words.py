"""Flaws that no English sentence has, whatever it is about: what both filters look for.

No dictionary and no grammar: each rule names something that a broken generation does and that a
hurried clinician does not. They were drawn up on the question bank and on VQA-RAD, whose people
also write "is there calcification" and "the the dark gray", and keep all of both.
"""

from __future__ import annotations

import re
from itertools import pairwise

ARTICLES = frozenset("a an the".split())
AUXILIARIES = frozenset("is are was were does do did".split())
ASKING = frozenset("what which where when who whose why how".split())
FUNCTION = (
    ARTICLES
    | AUXILIARIES
    | ASKING
    | frozenset(
        "of in on at by for from to with within without between than and or if as this that these "
        "those there it its be been being has have had can could may might should would will not "
        "any some more most less least other one seen shown present describe name list identify "
        "count state give explain please".split()
    )
)
# What cannot follow an article, and what cannot follow "is" and its kin.
_AFTER_ARTICLE = (
    AUXILIARIES
    | ASKING
    | ARTICLES
    | frozenset("than or and if there it has have had can could will would be been".split())
    | frozenset("of to at by for from with without".split())
)
NOTHING = _AFTER_ARTICLE | frozenset("this that these those its be in on at".split())
_AFTER_AUXILIARY = frozenset("than of or and".split())
# Words that a comparison needs before its "than".
_COMPARATIVE = re.compile(r"\w{2,}er|more|less|other|rather|else|worse|different|higher", re.I)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NUMBERED = frozenset("alpha beta gamma delta type grade stage level group zone".split())
_GLUED = re.compile(r"[A-Za-z]{2,}[:;?!,][A-Za-z]|[A-Za-z0-9][:;?!][A-Za-z]")
_APOSTROPHE = re.compile(r"(?<=[A-Za-z])\ufffd(?=[A-Za-z])")  # lost in an encoding, in VQA-RAD
_CAMEL = re.compile(r"[a-z]{3}[A-Z]")
_LOOP = re.compile(r"\b(\w+(?: \w+){1,9})(?: \1\b)+|\b(\w+)(?: \2\b){2,}")
_TWICE = frozenset("the that had there".split())  # what a person writes twice, by slip or by rule
_JOINED = re.compile(
    r"(?:is|are|was|were|does|do|did|what|which|where|how|in|of|on|at|to)"
    r"(?:the|this|there|these|those)"
    r"|(?:what|where|which|how|there|this|that)(?:is|are)|how(?:many|large|much)",
    re.I,
)
_NEW = re.compile(
    r" \S*[a-z] (?:What|Which|Where|Why|How|Is|Are|Was|Were|Does|Do|Did|Count|Describe)\b"
    r"|\?\s+[a-z]|[a-z]{4}\.\s+[a-z]"
)
_BRACKETS = re.compile(r"\([^)]*\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|<[|/]?\w+[|]?>")
_NO_VOWEL = re.compile(r"[b-df-hj-np-tv-xz]{4,}")


def words_of(text: str) -> list[str]:
    """The words of a text, as written."""
    return _WORD.findall(text)


def flaw(text: str, plain: int = 5) -> str | None:
    """The first thing wrong with a text as English, in a few words; None where nothing is found.

    A text of `plain` words or more that has none of English's commonest is not English.
    """
    text = _APOSTROPHE.sub("'", text.replace("(s)", "s"))
    words = words_of(text)
    lower = [w.lower() for w in words]
    return (
        _characters(text, lower, plain)
        or _spelling(text, words)
        or _sentences(text)
        or _order(lower)
        or _comparison(lower)
        or _ending(lower)
    )


def _characters(text: str, lower: list[str], plain: int) -> str | None:
    if _CONTROL.search(text):
        return "a control character or tag"
    if "\ufffd" in text:
        return "a character that is none"
    letters = [c for c in text if c.isalpha()]
    if sum(c.isascii() for c in letters) < 0.8 * len(letters):
        return "not in Latin script"
    if len(lower) >= plain and FUNCTION.isdisjoint(lower):
        return "no English sentence"
    if any(text.count(a) != text.count(b) for a, b in ("()", "[]")):
        return "unbalanced brackets"
    return None


def _spelling(text: str, words: list[str]) -> str | None:
    if _GLUED.search(text) or _CAMEL.search(text):
        return "words run together"
    for word in words:
        stem = word.rstrip("0123456789")
        common = stem.lower() in FUNCTION or (len(stem) > 3 and stem.islower())
        if stem != word and common and stem.lower() not in _NUMBERED:
            return "a number run into a word"
        if len(word) == 1 and word.islower() and word not in "ax":
            return "a stray letter"
        if _NO_VOWEL.fullmatch(word):
            return "letters that are no word"
        if _JOINED.fullmatch(word):
            return "words run together"
    return None


def _sentences(text: str) -> str | None:
    plain = " ".join(_BRACKETS.sub(" ", text).split())
    return "a sentence inside a sentence" if _NEW.search(plain) else None


def _order(lower: list[str]) -> str | None:
    for one, two in pairwise(lower):
        unknown = (
            (one in ARTICLES and two in _AFTER_ARTICLE and one != two)
            or (one in AUXILIARIES and two in AUXILIARIES and (one, two) != ("is", "are"))
            or (one in AUXILIARIES | {"than"} and two in _AFTER_AUXILIARY)
            or (one in ASKING and two in ASKING)
            or (one == two and one.isalpha() and one not in _TWICE)
        )
        if unknown:
            return "no order of words"
    return "the same words again and again" if _LOOP.search(" ".join(lower)) else None


def _comparison(lower: list[str]) -> str | None:
    before = 0
    for place, word in enumerate(lower):
        if word == "than":
            if not any(_COMPARATIVE.fullmatch(w) for w in lower[before:place]):
                return "than, and nothing compared"
            before = place + 1
    return None


def _ending(lower: list[str]) -> str | None:
    unfinished = ARTICLES | {"than", "and", "or"}
    return "it ends before its end" if lower and lower[-1] in unfinished else None
