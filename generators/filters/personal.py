"""Personal data: no person is named, dated, numbered or addressed in a row.

What a generator could copy from a picture's burned-in text or from a report: of the identifiers of
45 CFR 164.514(b)(2)(i) those that are text. Each rule needs a sign of its own (a title, two names
side by side, a month beside a year, a keyword before a number), so that eponyms and measures stay;
where a picture's text enters, `engine.imaging.reports` masks by a keep-list, which is stricter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from engine.imaging.lexicon import given_names, names, vocabulary
from engine.records import Triplet

_NAME = r"[A-Z][A-Za-z'’-]+"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_YEAR = r"(?:19|20)\d\d"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_NUMBER = r"[A-Za-z/-]{0,4}\d[A-Za-z0-9/-]{3,}"  # letters, if any, and four signs from a digit on
_NUMBERED = r"(?:\s*(?:numbers?|num\b|no\b|nr\b|id\b|#))"


_STREET = (
    "Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Square|Way|Place|Pl|"
    "Crescent|Close|Mews|Terrace|Gardens|Grove|Hill|Park|Parkway|Highway|Circle|Trail|Walk|Row"
)


def _rule(pattern: str, flags: int = 0) -> Callable[[str], bool]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.search(text) is not None


_TITLED = re.compile(
    r"\b(?:(?:Dr|Mr|Mrs|Ms|Prof|Sr|Sra)\b\.?|Miss|Doctor|Professor|Nurse)\s+"
    rf"(?:[A-Z]\.?\s+)*({_NAME})"
)
_SAID_TO_BE = re.compile(
    r"(?i:\b(?:patient(?:'s)?(?: name)?|name|physician|radiologist|technologist|sonographer|"
    r"surgeon|doctor|referrer)\s*[:=]\s*|"
    r"\b(?:dictated|signed|referred|reported|interpreted|read|reviewed|performed|approved|"
    rf"verified|requested)\s+by\s*:?\s*)({_NAME})(?:,?\s+({_NAME}))?"
)
_CARET = re.compile(r"\b[A-Za-z]{2,}\^[A-Za-z]{2,}")  # DICOM's PN: DOE^JANE
_PAIR = re.compile(rf"(?=(?<![\w-])({_NAME})(,?)\s+(?:[A-Z]\.?\s+)?({_NAME})(\s+[a-z]+)?)")
# What a name in front of it belongs to, and no person is meant.
_EPONYM = frozenset(
    "syndrome disease sign cyst catheter tumor tumour line fracture murmur malformation shunt "
    "hernia node nodes nodule anastomosis angle view views deformity lesion lymphoma disorder "
    "method score criteria "
    "classification stage grade procedure tube artery ligament canal muscle nerve gland spot body "
    "bodies rule index ratio phenomenon triad test reflex palsy paralysis anomaly complex "
    "dystrophy ulcer stripe space island duct tooth position projection operation technique".split()
)

_SIGNS = frozenset((
    ("austin", "flint"), ("graham", "steell"), ("martin", "gruber"), ("mary", "joseph"),
    ("ann", "arbor"), ("carey", "coombs"), ("marcus", "gunn"), ("ramsay", "hunt"),
))  # fmt: skip
_POSSESSIVE = re.compile(r"['’]s?$")


def _titled(text: str) -> bool:
    """ "Dr. Smith", not "MR Brain" and not "MS plaques"."""
    return any(not _word(found[1]) for found in _TITLED.finditer(text))


def _word(name: str) -> bool:
    """Whether a word is rather one of the clinic than a name."""
    lower = name.lower()
    return lower in vocabulary() and lower not in names()[0]


def _named(text: str) -> bool:
    """Who a report says somebody is: "Name: Smith", "signed by Jane Smith"."""
    for found in _SAID_TO_BE.finditer(text):
        parts = [part.lower() for part in found.groups() if part]
        unknown = len(parts) > 1 and vocabulary().isdisjoint(parts)
        if unknown or any(part in names()[1] for part in parts):
            return True
    return False


def _pair(text: str) -> bool:
    """A given name and a surname, "John Smith" or "SMITH, JOHN", that no sign is named by."""
    for found in _PAIR.finditer(text):
        one, comma, two, behind = found.groups()
        given, surname = (two, one) if comma else (one, _POSSESSIVE.sub("", two))
        if (
            (given.lower(), surname.lower()) not in _SIGNS
            and given.lower() in given_names()
            and not vocabulary().issuperset((given.lower(), surname.lower()))
            and surname.lower() in names()[1]
            and (behind or "").strip() not in _EPONYM
            and not (comma and not one.isupper())
        ):
            return True
    return False


RULES: dict[str, Callable[[str], bool]] = {
    "an e-mail address": _rule(r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}"),
    "a web address": _rule(r"\bhttps?://\S|\bwww\.\w"),
    "a social security number": _rule(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
    "a telephone number": _rule(
        r"(?<![\w.])(?:\+?\d{1,3}[\s.-])?(?:\(\d{3}\)\s?|\d{3}[\s.-])\s?\d{3}[\s.-]\d{4}"
        r"(?:\s?(?:x|ext\.?)\s?\d+)?(?!\w)"
        r"|(?<!\w)\+\d{1,3}[\s.-]?\(?\d{1,4}\)?(?:[\s.-]?\d{2,4}){2,4}(?!\w)"
        r"|(?<![\w.])\(?0\d{2,4}\)?[\s.-]?\d{3,4}[\s.-]?\d{3,4}(?!\w)"
        r"|\b(?:tel|phone|telephone|fax|mobile|pager|call)\b\W{0,3}(?:no\b|number\b)?\W{0,3}"
        r"\d[\d\s.-]{4,}\d",
        re.I,
    ),
    "a date": _rule(
        rf"(?<![\w./-]){_DAY}(?P<a>[./-]){_DAY}(?P=a)(?:{_YEAR}|\d\d)(?![\w/-]|\s*[cm]m\b)"
        rf"|(?<![\w./-]){_YEAR}(?P<b>[./-])(?:0?[1-9]|1[0-2])(?P=b){_DAY}(?!\w)"
        rf"|\b{_DAY}(?:st|nd|rd|th)?(?:\s+of)?[\s-]?{_MONTH}[\s,.-]*(?:{_YEAR}\b|\d\d\b)"
        rf"|\b{_MONTH}\.?\s+{_DAY}(?:st|nd|rd|th)?,?\s+{_YEAR}\b|\b{_MONTH}\.?,?\s+(?:of\s+)?{_YEAR}\b"
        rf"|(?<![\w./-])(?:0[1-9]|1[0-2])/{_YEAR}(?!\w)"
        rf"|(?<!\w){_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\w)",
        re.I,
    ),
    "a date of birth": _rule(
        r"\b(?:d\.?o\.?b\b\.?|date of birth|birth ?date|born(?: on| in)?)\W{0,3}"
        rf"(?:{_DAY}\W|{_YEAR}|{_MONTH}\b)",
        re.I,
    ),
    "a record's number": _rule(
        r"\b(?:mrn|mr ?#|patient id|pat\.? id|accession|acc\b\.?|nhs|ssn|exam id|study id)"
        rf"{_NUMBERED}?\s*[.:#=]?\s*(?:is\s+)?#?{_NUMBER}(?!\w)"
        r"|\b(?:medical record|hospital|order|case|record|chart|account|licen[cs]e|serial|id)"
        rf"(?:{_NUMBERED}\s*[.:#=]?|\s*[:#=])\s*(?:is\s+)?#?{_NUMBER}(?!\w)"
        r"|(?<![\w.-])\d{7,}(?!\w|\.\d|\s*(?:pixels|voxels))|\b1\.2\.(?:\d+\.){3,}\d+",
        re.I,
    ),
    "an address": _rule(
        r"\b\d{1,5}[A-Za-z]?\s+(?:[NSEW]\.?\s+)?(?:[A-Z][\w'’]+\s+){1,3}"
        rf"(?:{_STREET})\b"
        r"|\b(?:Apt\.?|Apartment|Suite|Flat|Unit) \d+[A-Za-z]?\b"
        r"|\b(?i:p\.?\s?o\.?\s+box)\s+\d|\b[A-Z][a-z]+,\s+[A-Z]{2}\s+\d{5}(?:-\d{4})?\b"
    ),
    "an age over 89": _rule(r"\b(?:9\d|1[0-2]\d)[\s-]*(?:years?|yrs?|y\.?/?o)\b", re.I),
    "a name with a title": _titled,
    "a person's name": lambda text: _named(text) or _pair(text) or bool(_CARET.search(text)),
}


def reason(row: Triplet) -> str | None:
    """What the row tells of a person, and where; None where nothing is found."""
    texts = [("question", row.question), ("answer", row.answer), ("reasoning", row.rationale)]
    for place, text in [*texts, *(("options", option) for option in row.options)]:
        if found := personal(text):
            return f"{place}: {found}"
    return None


@lru_cache(maxsize=1 << 14)  # the samples of a question share its text
def personal(text: str) -> str | None:
    """The first kind of personal data in a text; None where there is none."""
    return next((what for what, found in RULES.items() if found(text)), None)
