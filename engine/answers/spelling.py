"""One spelling for texts that say the same, never one for two that a clinician tells apart.

Alike: case, Unicode forms (NFKC), characters without width, white space, quotes, what stands around
a text, the marks that part a text, hyphens between words, articles where they are articles, number
words to ten, decimal marks of measures, "5cm" and "5 cm", Greek letters and their names.
Apart: every word, every number with its sign, mark and power, `<`, `>`, `+` and `-` wherever they
may be a finding, a question mark, and where a text is parted ("no, effusion").

Case tells nothing but in "5 mM", so "anti-c" and "anti-C" are alike; synonyms and units are not
converted.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from engine.answers.articles import without_articles

# Of Unicode's Default_Ignorable_Code_Point those not of category Cf; some of them are letters.
# The blank of Braille is a symbol.
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]"
)
_POWER = re.compile(r"(?<=\d)(?=[⁺⁻]?[⁰¹²³⁴-⁹])")
_FRACTION = re.compile(r"(?<=\d)(?=[₀-₉¼-¾⅐-⅞①-⑳])")
# NFKC would write "No", a space with an accent, and "o": 30º.
_ODD = str.maketrans({"№": "#", "´": "'", "º": "°", "ᵒ": "°", "˚": "°"})
_ALIKE = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212", "-")
    | dict.fromkeys("‘’‚‛ʼ", "'")
    | dict.fromkeys("“”„‟«»", '"')
    | dict.fromkeys("≈∼≅", "~")
    | dict.fromkeys("⁄∕\\", "/")
    | dict.fromkeys("∙⋅", "·")
    | dict.fromkeys("_`", " ")
    | {"×": "x", "&": " and ", "٫": ".", "≦": "≤", "≧": "≥"}
)
_NUMBERS = {
    word: str(n)
    for n, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_NUMBER = re.compile(r"(?:\d+(?:[.,·]\d+)*+|[.·]\d+)(?!\d)")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_DECIMAL = re.compile(r"(\d*)[.,·](\d+)")
_UNIT = (
    r"[mcdknuμ]?m|[mcdnuμ]?l|[mknpuμ]?g|mcg|mmhg|cmh2o|kpa|[km]?hz|m?s|sec|min|h|hrs?|hu|bpm|kvp?|"
    r"mas?|m?gy|m?sv|m?ci|[mg]bq|m?iu|u|meq|[mnuμ]?mol(?:ar)?|t"
)
_UNIT_WORDS = (
    r"cc|fr|[cm]m[23]|percent|degrees?|inch(?:es)?|(?:milli|centi)?(?:met(?:er|re)|lit(?:er|re))s?|"
    r"seconds?|mins?|minutes?|hours?|days?|weeks?|months?|years?|yrs?"
)
_RUN = rf"{_NUMBER.pattern}(?:\s*+(?:[x*/±-]|\+/?-|to\b|by\b)\s*+{_NUMBER.pattern})*+"
# Numbers that are one measure: with a sign of comparison, with a unit, or neither.
_MEASURE = re.compile(
    rf"(?P<sign>[<>≤≥~±]\s*|(?<![\w.,]))(?P<run>{_RUN})"
    rf"(?P<unit>\s*+(?:-?(?:{_UNIT}|{_UNIT_WORDS})(?!\w)|[%‰°′]))?"
)
_BARE = re.compile(rf"\W*{_RUN}\W*")
_WORD = "|".join(_NUMBERS)
# Only where a number stands before and the case is as the unit has it: "5 MM" are millimetres.
_MOLAR = re.compile(rf"(\d|\b(?i:{_WORD})\s)[\s-]*([mnuμ])M(?!\w)")
_GREEKS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lamb?da mu nu omicron rho sigma tau "
    "upsilon phi chi psi omega"
).replace(" ", "|")  # not pi and xi: PI-RADS, and eleven
_GREEK = re.compile(
    r"(?:(?<=[^\W_])-)?(?:(?<![\u0370-\u03ff])([α-ω])(?![\u0370-\u03ff])|"
    rf"(?<![^\W\d_])({_GREEKS})(?![^\W\d_]))(?:-(?=[^\W_]))?"
)
_SIGNED = re.compile(r"\+|-(?!\w)")  # then every hyphen may be a minus: "ER-PR+"
_HYPHEN = re.compile(r"(?<!\ba)(?<=[^\W_])-(?=[^\W\d_]{2})|(?<!\ba)(?<=[^\W\d_])-(?=[^\W\d_])")
_INVISIBLE = {"Cf": "", "Cc": " "}
PASSES = 8  # one rule may open the way for another: a spelling is spelt as it is
_PRIMES = {'"': "′′", "'": "′"}


def _rules(*pairs: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), spelt) for pattern, spelt in pairs]


_SIGNS = _rules(
    (r"(?<=[^\W\d_])'(?=[^\W\d_])", ""),  # Crohn's
    (r"(?:['\"]\s*)+", " "),
    (rf"^(?:-\s+)+(?=[^\W\d_])(?!(?:{_WORD})\b)", ""),  # an item of a list
    (r"(?<=\d)\s*[x*]\s*(?=\d)", " x "),
    (r"(?<!\w)(\*{1,3})(?=\S)([^*]+)(?<=\S)\1(?!\w)|^\*\s", r"\2"),  # emphasis, never "T2*"
    (r"\s*(?:<=|=<|≤)\s*", "≤"),
    (r"\s*(?:>=|=>|≥)\s*", "≥"),
    (r"\s*(?:\+/-|\+-|±)\s*", "±"),
    (r"^\s*=\s*", ""),
    (r"\s*[(\[]\s*([+±-]+)\s*[)\]]", r"\1"),  # HIV (-)
    (r"(?<=\d)\s*([-:])\s*(?=\d)", r"\1"),
    (r"(?<!\S)-\s+(?=\d)", "-"),
    (r"(?<=\w)\s+([+-]+)\s*$", r"\1"),
    (r"\s*([<>=≠/+])\s*", r"\1"),
    (r"~\s+", "~"),
    (r"\s+(?=[%‰°])", ""),
    (r"[\s?]*\?[\s?]*", " ? "),
)
_UNITS = _rules(
    (rf"(?<![\w.])(\d+(?:\.\d+)?)\s*({_UNIT})(?!\w)", r"\1 \2"),
    (r"(?<=\d )(?:u|mc)(?=(?:m|l|g|mol)(?!\w))", "μ"),
)
_PARTS = _rules(
    (r"(?<!\S)([b-z]|vs|approx|ca|dr|st|rt|lt)\.(?=\s)", r"\1"),  # S. aureus
    (r"[,;!|()\[\]{}。、،؛•‣]|(?<!\d):|:(?!\d)", " , "),
    (r"(?<!\.)\.+(?!\S)", " , "),
)


@lru_cache(maxsize=1 << 16)
def normalise(text: str, keep_a: bool = False) -> str:
    """The one spelling of a text; empty where it says nothing. With `keep_a` no "a" is an article.

    Two texts say the same where their spellings are equal. Never raises.
    """
    spelt = _spelt(text, keep_a)
    for _ in range(PASSES):
        text, spelt = spelt, _spelt(spelt, keep_a)
        if text == spelt:
            break
    return spelt


def _spelt(text: str, keep_a: bool) -> str:
    plain = _measures(_primes(_fold(text)))
    plain = _GREEK.sub(_greek, plain)
    for pattern, written in (*_SIGNS, *_UNITS, *_PARTS):
        plain = pattern.sub(written, plain)
    if not _SIGNED.search(plain):
        plain = _HYPHEN.sub(" ", plain)
    words = without_articles(_parted(plain.split()), keep_a)
    return " ".join(_NUMBERS.get(word, word) for word in words)


def normalise_question(text: str) -> str:
    """The one spelling of a question, with or without its question mark."""
    return normalise(text).rstrip(" ?")


def says_something(text: str) -> bool:
    """Whether a text holds a letter or a digit that can be seen."""
    return any(c.isalnum() for c in normalise(text))


def _fold(text: str) -> str:
    """Case, forms and invisible characters folded; digits of any script as ASCII."""
    text = _visible(unicodedata.normalize("NFC", text)).translate(_ODD)
    text = _FRACTION.sub(" ", _POWER.sub("^", text))
    text = _MOLAR.sub(_molar, _visible(unicodedata.normalize("NFKC", text)))
    for _ in range(2):  # folding may bring out what is folded in turn
        text = _visible(unicodedata.normalize("NFKC", text).casefold())
    text = " ".join(text.translate(_ALIKE).split())  # rules below read runs of spaces
    return "".join(str(unicodedata.decimal(c, c)) for c in text)


def _visible(text: str) -> str:
    return "".join(_INVISIBLE.get(unicodedata.category(c), c) for c in _IGNORED.sub("", text))


def _molar(found: re.Match[str]) -> str:
    """Millimolar, which folding would make millimetres."""
    return f"{found[1]} {'μ' if found[2] == 'u' else found[2]}molar"


def _primes(text: str) -> str:
    """Marks after a digit or lone letter that close no quotation, as primes: 5', 5'', E/e'."""
    text = text.replace("''", '"')
    for mark, prime in _PRIMES.items():
        if not re.search(rf"(?:^|[\s(\[{{]){mark}(?=\S)", text):
            text = re.sub(rf"(?<=[\d′]){mark}|(?<=\b[^\W\d_]){mark}(?!\w)", prime, text)
    return text


def _measures(text: str) -> str:
    """Every number as it is written once.

    A comma is decimal with a unit behind the number, a sign of comparison or only zeros before it;
    else it parts a list: "ribs 3,10". Zeros at the end are dropped of a number with a unit or such
    a sign, or one that is the whole text; else they may be of a name: "code 2.10".
    """
    bare = bool(_BARE.fullmatch(text))

    def measure(found: re.Match[str]) -> str:
        known = bool(found["sign"] or found["unit"])
        run = _NUMBER.sub(lambda number: _number(number[0], known, known or bare), found["run"])
        return f"{found['sign']}{run}{found['unit'] or ''}"

    return _MEASURE.sub(measure, text)


def _number(text: str, comma: bool, exact: bool) -> str:
    """Thousands without marks, a decimal point, no zeros behind it where it is `exact`.

    Three digits after a point stay as they are: some write thousands so.
    """
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "")
    decimal = _DECIMAL.fullmatch(text)
    if not decimal or ("," in text and not comma and decimal[1].strip("0")):
        return text
    whole, part = decimal[1] or "0", decimal[2]
    if exact and (len(part) != 3 or whole == "0"):
        part = part.rstrip("0")
    return f"{whole}.{part}" if part else whole


def _greek(found: re.Match[str]) -> str:
    """A lone Greek letter by its name, apart from what it numbers, but for the micro of a unit."""
    after = found.string[found.end() : found.end() + 1]
    if found[0] == "μ" and after.isascii() and after.isalpha():
        return "μ"
    name = found[2] or unicodedata.name(found[1]).split()[-1].lower()
    return f" {name.replace('lamda', 'lambda')} "


def _parted(words: list[str]) -> list[str]:
    """One comma wherever the text is parted, none at its ends."""
    kept: list[str] = []
    for word in words:
        if word != "," or (kept and kept[-1] != ","):
            kept.append(word)
    return kept[:-1] if kept and kept[-1] == "," else kept
