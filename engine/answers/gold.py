"""Gold values: what may stand as a question or an answer, and what a converter left in its place.

pandas and its kin write a missing value as NaN, null or "nan", spreadsheets "#REF!", and str()
makes "None", "True" or "('left', 'right')" of what was no text. None of these is guessed at: `true`
may have meant yes, and "None" may have meant that nothing is seen, which "none" says.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from engine.answers.matching import is_valid
from engine.answers.parsing import (
    parse_completion,
    parse_question,
    render_completion,
    render_question,
)

# As pandas, NumPy, C libraries, SQL and spreadsheets write what is missing or is no number.
_MISSING = re.compile(
    r"""['"]?(?:(?i:[+-]?(?:nan|inf(?:inity)?|1\.\#(?:ind|inf|qnan|snan))|<?\(?null\)?>?|nat|undefined|
    \#?n/a(?:\ n/a)?|n\.\ ?a|\#na|<na>|\#(?:value|ref|div/0|num|null|spill|calc)!?|\#name\??)|
    <?NA|<?None>?)['"]?[\s.,;:!]*""",
    re.VERBOSE,
)
_TEXT = r"""(?:b?'[^']*'|b?"[^"]*"|None|True|False|nan)"""
_LITERAL = re.compile(
    rf"""\[.*\]|\{{.*\}}|b'.*'|b".*"|
    \([\[({{\s]*{_TEXT}\s*,.*\)|\(.*,\s*{_TEXT}?\s*\)|    # tuples, never "(left, right)"
    [a-zA-Z_][\w.]*\((?:|[\[({{'"].*)\)|                   # array(['left']), set(), str_('left')
    (?:np|numpy)\.\w+\(.*\)|<[^<>]*\ at\ 0x[0-9a-fA-F]+>|<class\ .*>""",
    re.DOTALL | re.VERBOSE,
)
_BOOLEAN = re.compile(r"true|false", re.IGNORECASE)
_TRUE_OR_FALSE = re.compile(r"\btrue\b.*\bfalse\b|\bfalse\b.*\btrue\b", re.IGNORECASE)
_BIT = re.compile(r"[01](?:\.0*)?")
_YES_OR_NO = re.compile(
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|should|will|would)\b(?!.*\bor\b)",
    re.IGNORECASE,
)
_KINDS = {type(None): "null", bool: "a boolean", list: "a list", dict: "an object"}


class NotText(ValueError):
    """A value that is no text; the message ends the sentence "the answer …"."""


def text_of(value: object) -> str:
    """A JSON value as text with single spaces, a finite number in digits (2.0 as "2").

    Raises NotText for null, NaN, booleans, lists and objects, and for what is written for these.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise NotText("is NaN or infinite: give it as text")
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    if not isinstance(value, str):
        raise NotText(f"is {_KINDS.get(type(value), 'no text')}: give it as text")
    text = " ".join(value.split())
    if not text:
        raise NotText("is empty: give it as text")
    if _MISSING.fullmatch(text):
        told = "write 'none' where that is the answer" if "None" in text else "give the text"
        raise NotText(f"is {text!r}, as converters write a missing value: {told}")
    if _LITERAL.fullmatch(text):
        raise NotText("is a list, an object or bytes written as text: give the text itself")
    return text


def gold_problem(question: str, options: tuple[str, ...], answer: str) -> str | None:
    """Why texts cannot be a gold row, None where they can.

    Our own parser has to take them for what they are: a question, options that differ and one of
    which is the answer, and an answer with a letter or digit.
    """
    asked = parse_question(render_question(question, options))
    if asked.problem or (asked.text, asked.options) != (question, options):
        return f"question cannot be asked: {asked.problem or 'it reads as another'}"
    said = parse_completion(render_completion("", answer), options)
    if said.problem or said.answer != answer:
        return f"answer cannot be given: {said.problem or 'it reads as another'}"
    if not is_valid(answer, options):
        return "answer is not one of the options"
    if _BOOLEAN.fullmatch(answer) and not _TRUE_OR_FALSE.search(question):
        return f"answer is {answer!r}, which may mean anything: write yes, no or the text"
    if _BIT.fullmatch(answer) and _YES_OR_NO.match(question):
        return f"answer is {answer!r} to a question that asks for yes or no: write which"
    return None
