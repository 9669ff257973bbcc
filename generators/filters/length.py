"""Length: no part of a row is longer than the configuration allows, and no option stands out.

The option that is much longer than the others is the right one more often than chance has it
(NBME, Item-Writing Guide 2020: "the longest answer is correct").
"""

from __future__ import annotations

from engine.config.filters import Filters
from engine.records import Triplet

FROM = 8  # words, below which an option does not stand out by its length


def reason(row: Triplet, filters: Filters) -> str | None:
    """Which part is too long, and how long it may be; None where none is."""
    if len(row.options) > filters.options:
        return f"options: more than {filters.options}"
    parts = (
        ("question", row.question, filters.question_words),
        ("reasoning", row.rationale, filters.reasoning_words),
        ("answer", row.answer, filters.answer_words),
        *(("options", option, filters.answer_words) for option in row.options),
    )
    for place, text, most in parts:
        if len(text.split()) > most:
            return f"{place}: more than {most} words"
    return _one_stands_out(row, filters.option_ratio)


def _one_stands_out(row: Triplet, ratio: float) -> str | None:
    *others, longest = sorted(len(option.split()) for option in row.options) or [0]
    mean = sum(others) / len(others) if others else longest
    return "options: one is far longer" if longest >= FROM and longest > ratio * mean else None
