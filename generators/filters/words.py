"""Flaws that no English sentence has, whatever it is about: what both filters look for.

No dictionary and no grammar: each rule names something that a broken generation does and that a
hurried clinician does not. They were drawn up on the question bank and on VQA-RAD, whose people
also write "is there calcification" and "the the dark gray", and keep all of both.
"""

from __future__ import annotations

import re
from functools import lru_cache

from engine.answers.sentences import ABBREVIATED
from engine.imaging.lexicon import vocabulary
from generators.filters.shorthand import lone_letter, phrases, unbalanced, without_shorthand

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
_AFTER_AUXILIARY = frozenset("than or and".split())
# Words that a comparison needs before its "than".
_COMPARATIVE = re.compile(r"\w{2,}er|more|less|other|rather|else|worse|different|higher", re.I)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NUMBERED = frozenset(
    "alpha beta gamma delta type grade stage level group zone segment score figure case "
    "series slice phase week covid brca pirads birads tirads lirads bosniak".split()
)
_GLUED = re.compile(r"[A-Za-z]{2,}[:;?!,][A-Za-z]|[A-Za-z0-9][:;?!][A-Za-z]")
_APOSTROPHE = re.compile(r"(?<=[A-Za-z])\ufffd(?=[A-Za-z])")  # lost in an encoding, in VQA-RAD
_CAMEL = re.compile(r"([A-Za-z]*[a-z]{3})[A-Z]")
_LOOP = re.compile(r"\b(\w+(?: \w+){1,9})(?: \1\b)+")
_LOOPS = re.compile(r"\b(\w+(?: \w+){1,9})(?: \1\b){2,}|\b([^\W\d]+)(?: \2\b){2,}")
# What a person writes twice, by slip or by rule.
_TWICE = frozenset("the that had there very".split())
_JOINED = re.compile(
    r"(?:is|are|was|were|does|do|did|what|which|where|how|in|of|on|at|to)"
    r"(?:the|this|there|these|those)"
    r"|(?:what|where|which|how|there|this|that)(?:is|are)|how(?:many|large|much)",
    re.I,
)
_NEW = re.compile(
    r" \S*[a-z] (?:What|Which|Where|Why|How|Is|Are|Was|Were|Does|Do|Did|Count|Describe)\b"
    r"|\?\s+(?!(?:if|and|or|why|where|by)\b)[a-z]"
)
_SMALL = re.compile(r"\b([a-z]{4,})\.\s+[a-z]")
_BRACKETS = re.compile(r"\([^)]*\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|<[|/]?\w+[|]?>")
_NO_VOWEL = re.compile(r"(?!(?:mmhg|n?sclc|bppv|n?pdr)$)[b-df-hj-np-tv-xz]{4,}")


def words_of(text: str) -> list[str]:
    """The words of a text, as written."""
    return _WORD.findall(text)


@lru_cache(maxsize=64)  # the samples of a question come one after the other
def flaw(text: str, few: int = 5) -> str | None:
    """The first thing wrong with a text as English, in a few words; None where nothing is found.

    A text of `few` words or more that has none of English's commonest is not English, unless most
    of its words are of medicine.
    """
    text = without_shorthand(_APOSTROPHE.sub("'", text.replace("(s)", "s")))
    lower = _lowered(text)
    return (
        _characters(text, lower, few)
        or _spelling(text)
        or _sentences(text)
        or _order(text)
        or _comparison(lower)
        or _ending(lower)
    )


def _lowered(text: str, begins: bool = True) -> list[str]:
    """The words in lower case; of a text that has some, WHO and A are no words but names."""
    words = words_of(text)
    if not any(word.islower() for word in words):
        return [word.lower() for word in words]
    return [
        word if word.isupper() and (place or not begins or len(word) > 1) else word.lower()
        for place, word in enumerate(words)
    ]


def _characters(text: str, lower: list[str], few: int) -> str | None:
    if _CONTROL.search(text):
        return "a control character or tag"
    if "\ufffd" in text:
        return "a character that is none"
    letters = [c for c in text if c.isalpha()]
    if sum(c.isascii() for c in letters) < 0.8 * len(letters):
        return "not in Latin script"
    if len(lower) >= few and FUNCTION.isdisjoint(lower) and not _medical(lower):
        return "no English sentence"
    return "unbalanced brackets" if unbalanced(text) else None


def _medical(lower: list[str]) -> bool:
    """Whether most words are of DICOM's concepts or everyday ones."""
    return sum(word.lower() in vocabulary() for word in lower) >= 0.75 * len(lower)


def _spelling(text: str) -> str | None:
    if _GLUED.search(text):
        return "words run together"
    for found in _WORD.finditer(text):
        word = found[0]
        if _JOINED.fullmatch(word) or _camel(word):
            return "words run together"
        if _numbered(word):
            return "a number run into a word"
        if len(word) == 1 and word.islower() and not lone_letter(text, found.start()):
            return "a stray letter"
        if _NO_VOWEL.fullmatch(word):
            return "letters that are no word"
    return None


def _camel(word: str) -> bool:
    """A capital in a word, unless the word is a name: "theMRI" and "WhichIs", not "PleurX"."""
    found = _CAMEL.match(word)
    return found is not None and (word[0].islower() or found[1].lower() in FUNCTION)


def _numbered(word: str) -> bool:
    """Digits at the end of an English word: "cyst2" and "Is3", not "A1", "grade-2" or "l4-l5"."""
    stem = word.rstrip("0123456789")
    if stem in (word, "") or stem[-1] == "-" or any(c.isdigit() for c in stem):
        return False
    common = stem.lower() in FUNCTION or (len(stem) > 3 and stem.islower())
    return common and not stem.isupper() and stem.lower() not in _NUMBERED


def _sentences(text: str) -> str | None:
    one = " ".join(_BRACKETS.sub(" ", text).split())
    small = any(word not in ABBREVIATED for word in _SMALL.findall(one))
    return "a sentence inside a sentence" if small or _NEW.search(one) else None


def _order(text: str) -> str | None:
    """Words that do not follow each other, but for a mark between them."""
    for number, phrase in enumerate(phrases(text)):
        part = _lowered(phrase, begins=number == 0)
        if any(_unordered(part, place) for place in range(len(part) - 1)):
            return "no order of words"
        if _LOOP.search(" ".join(part)):
            return "the same words again and again"
    return "the same words again and again" if _LOOPS.search(" ".join(_lowered(text))) else None


def _unordered(lower: list[str], place: int) -> bool:
    one, two, three = [*lower[place:], "", ""][:3]
    return (
        (one in ARTICLES and two in _AFTER_ARTICLE and one != two and not _contrast(two, three))
        or (one in AUXILIARIES and two in AUXILIARIES and (one, two) != ("is", "are"))
        or (one in AUXILIARIES | {"than"} and two in _AFTER_AUXILIARY and not _either(two, three))
        or (one in AUXILIARIES and two == "of" and not _quality(place, three))
        or (one in ASKING and two in ASKING)
        or (one == two and one.isalpha() and one not in _TWICE)
    )


def _contrast(two: str, three: str) -> bool:
    """ "a without contrast CT", "a with or without contrast study"."""
    return two in ("with", "without") and three in ("contrast", "gadolinium", "and", "or")


def _either(two: str, three: str) -> bool:
    """ "is or was", "greater than or equal to"."""
    return two in ("and", "or") and three in AUXILIARIES | {"equal", "not"}


def _quality(place: int, three: str) -> bool:
    """ "The lesion is of low density": behind a subject, and something follows."""
    return place > 0 and three not in NOTHING - ARTICLES - {"this", "that", ""}


def _comparison(lower: list[str]) -> str | None:
    before = 0
    for place, word in enumerate(lower):
        if word == "than":
            again = place > 0 and lower[place - 1] in ("and", "or", "but", "nor")
            if not any(_COMPARATIVE.fullmatch(w) for w in lower[0 if again else before : place]):
                return "than, and nothing compared"
            before = place + 1
    return None


def _ending(lower: list[str]) -> str | None:
    unfinished = ARTICLES | {"than", "and", "or"}
    return "it ends before its end" if lower and lower[-1] in unfinished else None
