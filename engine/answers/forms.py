"""A reply's form as a regular expression, for engines that hold a text to one as it is written.

What matches is read strictly (`engine.answers.parsing`), up to what no regular expression can say:
two options alike, a question without a letter. Counted repetitions are left out, since engines
unfold them; `max_tokens` bounds a text.
"""

from __future__ import annotations

import re

_STEM = r"[A-Za-z0-9][^<>|\n]*"
_OPTION = r"[A-Za-z0-9][^<>|\n]*"
_PHRASE = r"[A-Za-z0-9][^<>\n]*"
_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]()|/-]")


def of_question(answer_format: str) -> str:
    """Of a question: closed with yes and no, open without options, else with two to five."""
    asked = f"<question>{_STEM}</question>"
    if answer_format == "open":
        return asked
    if answer_format == "closed":
        return rf"{asked}<options>yes \| no</options>"
    more = rf"( \| {_OPTION})"
    return rf"{asked}<options>{_OPTION}{more}{more}?{more}?{more}?</options>"


def of_answer(options: tuple[str, ...], reasoned: bool) -> str:
    """Of an answer: one of the options where there are any, after reasoning where it is asked."""
    answer = "|".join(map(_literal, options)) if options else _PHRASE
    thought = "<think>[^<>]+</think>" if reasoned else ""
    return f"{thought}<answer>({answer})</answer>"


def _literal(text: str) -> str:
    """A text as an expression for itself alone; `re.escape` also marks what some engines refuse."""
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", text)
