"""What is measured of a generated question before it is judged. All of it is off by default.

What a row must reach is `select.verified`: that can change without a model being asked again.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.config.backend import Backend, Transformers
from engine.config.knowledge import check_told
from engine.config.rubric import NamedRubric
from engine.config.section import Section

Without = Literal["none", "blank", "other"]


class Rubric(Section):
    """A verifier answers a rubric: a model other than the one that wrote the rows."""

    backend: Backend = Transformers()
    model: str = Field(min_length=1, description="a folder, a Hub id, or a server's name for it")
    asks: NamedRubric = Field(
        None,
        validate_default=True,
        description="a rubric file; null: engine/prompts/rubrics/default.yaml",
    )
    answers: int = Field(
        1, ge=1, description="of a question, that are verified: those that most samples give"
    )
    max_tokens: int = Field(32, ge=2, description="of a reply")
    knowledge: list[str] = Field(
        default=[], description="what the verifier is told of an image, as generator.knowledge"
    )

    @model_validator(mode="after")
    def _knowledge_stays_here(self) -> Rubric:
        check_told("verify.rubric.", self.knowledge, self.backend.private)
        return self


class Blind(Section):
    """The question answered with the image, and without seeing it."""

    backend: Backend | None = Field(None, description="null: the generator's")
    model: str | None = Field(None, description="null: the model that wrote the round's rows")
    without: list[Without] = Field(
        ["none", "blank", "other"],
        min_length=1,
        description="no image, a grey one of the same size, another patient's",
    )
    samples: int = Field(
        1, ge=1, description="replies to each; 1 is greedy, more are drawn as the generator draws"
    )
    max_tokens: int = Field(48, ge=2, description="of a reply")

    @field_validator("without")
    @classmethod
    def _each_once(cls, without: list[Any]) -> list[Any]:
        if len(set(without)) < len(without):
            raise ValueError("name each once")
        return without


class Verify(Section):
    """What is measured, and by whom."""

    rubric: Rubric | None = None
    blind: Blind | None = None
    pass_rate: bool = Field(
        False, description="share of a question's samples that agree, without any model"
    )
    actors: int = Field(1, ge=1)

    @property
    def on(self) -> bool:
        """Whether anything is measured."""
        return bool(self.rubric or self.blind or self.pass_rate)
