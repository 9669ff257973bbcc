"""Leaks: a row does not say what its writer was told in private, only what the image shows.

Applied where a writer was told something (`generator.knowledge`). A row is out that cites it
("according to the report"), that repeats words of the report in their order, or that writes a label
as a table's column does. The answer may be what was known: it is what the knowledge is for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from engine.knowledge import Known
from engine.records import Triplet

# Who tells of an image without being told speaks of no report. "What would you report?" is none.
_WRITTEN = (
    r"(?:reports?|annotations?|captions?|metadata|meta-data|ground[- ]truth|findings section|"
    r"dicom (?:header|tag|attribute)s?)"
)
# What may also be in the image, or be meant otherwise: "the label R", "the impression of a mass".
_OTHER = (
    r"(?:labels?|headers?|descriptions?|impression|notes?|table|records?|instructions|"
    r"(?:given|provided|supplied|known) (?:information|data|context|findings|knowledge|facts))"
)
_OF = r"(?:the|its|this|my|your|\w+['’]s) (?:\w+(?:['’]s)? ){0,2}?"
_SAID = r"(?:stat|not|describ|mention|report|document|label|labell|annotat|list|record|confirm|giv)"
_GIVEN = r"(?:given|provided|supplied|accompanying|attached|private)"
_CITES = re.compile(
    rf"\b{_OF}{_WRITTEN}\b"
    rf"|\b(?:according to|as per|per|based on|from|in line with|consistent with|given|"
    rf"{_SAID}(?:ed|en) (?:in|by|as per)|(?:written|said|read) in) {_OF}{_OTHER}\b"
    rf"|\b{_OF}{_OTHER} (?:also |clearly |already )?(?:{_SAID}e?s?|says?|reads?|tells?|marks?|"
    r"specif\w+|names?|calls?|suggests?|indicates?|implies|points? to|makes? clear|shows? that|"
    r"(?:is|are|was|were)(?! (?:at|on|in|above|below|near|visible|seen|placed)\b))\b"
    r"|\bas (?:reported|labelled|labeled|annotated|documented)\b(?! in (?:the )?literature)"
    r"|\b(?:reported|documented|annotated|known|labelled|labeled) (?:diagnosis|findings?|labels?)\b"
    r"|\b(?:i|we) (?:was|were|am|are|have been) (?:told|informed)\b"
    r"|\bthe (?:information|findings?|data|labels?|text|context) (?:given|provided|supplied)\b"
    r"|\b(?:what|all that) (?:is|was) (?:known|given|told|provided)\b"
    rf"|\b{_GIVEN} (?:report|labels?|annotations?|metadata|knowledge|information|facts)\b"
    r"|\bground[- ]truth\b|\bdicom (?:tag|header|attribute|metadata|data)s?\b"
    r"|\bfor (?:your|my) eyes (?:only|alone)\b",
    re.IGNORECASE,
)
# A name or a value that is no word of a sentence: Pleural_Effusion, dxClass, ViewPosition, grade2a.
_COLUMN = re.compile(r"[A-Za-z0-9]+_\w+|[A-Za-z]*[a-z]{2}[A-Z]\w*|[a-z]{3,}\d\w*")
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)?")
_MEASURE = re.compile(
    r"(?<![\w.])(\d+(?:[.,]\d+)?)\s*(mm|cm|ml|cc|hu|um|µm|%)(?!\w)", re.IGNORECASE
)
_ARTICLES = ("a", "an", "the")
Words = tuple[str, ...]
DEFAULT = 8  # words of a report in their order


def reason(row: Triplet, known: Known, quoted: int = DEFAULT) -> str | None:
    """What of a row only its writer can know, and where; None where nothing is.

    `quoted` words of the report in a row are a quotation, unless the answer or an option has them.
    """
    if not known.kinds:
        return None
    parts = [("question", row.question), ("reasoning", row.rationale)]
    said = [("answer", row.answer), *(("options", option) for option in row.options)]
    for place, text in parts + said:
        if _CITES.search(text):
            return f"{place}: it cites what only the writer was told"
        if found := _column(text, known):
            return f"{place}: it writes {found} as the table does"
    own = [_words(text) for _, text in said]
    for place, text in parts:
        if _quotes(_words(text), _words(known.report), own, quoted):
            return f"{place}: {quoted} words of the report in their order"
    return _measured(row, known)


def _column(text: str, known: Known) -> str | None:
    """The first name or value of a fact that a text has in a table's way.

    A name of one plain word ("side") is a word, unless it has its value behind it as a table does.
    """
    for _, name, value in known.facts:
        for word in (name, value):
            if _COLUMN.fullmatch(word) and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text):
                return word
        pair = rf"(?<!\w){re.escape(name)}[\"']?\s*[:=]\s*[\"']?{re.escape(value)}(?!\w)"
        if re.search(pair, text):
            return f"{name}: {value}"
    return None


@lru_cache(maxsize=1 << 12)  # the samples of a question share its text, and its image's report
def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES)


def _quotes(text: Words, report: Words, own: Sequence[Words], quoted: int) -> bool:
    """Whether a text has so many words of a report in their order that no answer has."""

    def runs(words: Words) -> set[Words]:
        return {words[n : n + quoted] for n in range(len(words) - quoted + 1)}

    return bool((runs(text) & runs(report)).difference(*map(runs, own)))


def _measured(row: Triplet, known: Known) -> str | None:
    """A size that only the writer knows, in the question: "the 23 mm mass"."""
    told = " ".join([known.report, *(f"{value} {_unit(name)}" for _, name, value in known.facts)])
    answers = _measures(" ".join([row.answer, *row.options]))
    found = (_measures(row.question) & _measures(told)) - answers
    return (
        f"question: it gives {' '.join(min(found))}, which the writer was told" if found else None
    )


def _measures(text: str) -> set[tuple[str, str]]:
    return {(n.replace(",", "."), unit.lower()) for n, unit in _MEASURE.findall(text)}


def _unit(name: str) -> str:
    """The unit that a fact's name ends in: `size_mm`."""
    return name.rpartition("_")[2]
