"""What a generated row is held to before anybody judges it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config.section import Section


class Filters(Section):
    """What a generated row is held to, in words: the fewest are fixed, the most are here."""

    language: Literal["en"] | None = Field(
        "en", description="what rows are written in; null: any, and no rule of English is applied"
    )
    question_words: int = Field(250, ge=2, description="a question's words, at most")
    options: int = Field(10, ge=2, description="options of a question, at most")
    answer_words: int = Field(25, ge=1, description="words of an answer or an option, at most")
    reasoning_words: int = Field(400, ge=3, description="words of the reasoning, at most")
    option_ratio: float = Field(
        6.0, gt=1, description="words of an option over the mean of the others', at most"
    )
    quoted_words: int = Field(
        8, ge=3, description="words of a report in their order, from which a row quotes it"
    )
