"""Quotas: of what kind a round's questions are to be, by axis as shares and by cell as counts.

    generator:
      tasks: 600
      styles: { direct: 1, step: 1 }                  # shares of styles stand there
      quotas:
        modality: { CT: 2, MR: 1 }                    # what is not named is not asked
        difficulty: { easy: 1, medium: 2, hard: 1 }
        cells:
          - { modality: CT, anatomy: chest, question_type: disease, difficulty: hard, tasks: 60 }
          - { answer_format: open, share: 0.1 }

A cell names what its tasks have in common and leaves the rest free. Cells count towards the shares
and go before them. An axis without shares is free: modality and question type then follow the
round's mix, which moves with what the policy gets wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.config.section import Section, Share, check_shares
from engine.config.templates import QuestionType

AXES = ("modality", "anatomy", "question_type", "difficulty", "answer_format", "style", "steps")
MOST_STEPS = 5

Difficulty = Literal["easy", "medium", "hard"]
AnswerFormat = Literal["closed", "choice", "open"]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Value = str | int  # of an axis
Named = dict[str, Value]  # values by axis, in the order of AXES


class Cell(Section):
    """So many of a round's tasks that have in common what is named."""

    modality: str | None = Field(None, min_length=1)
    anatomy: str | None = Field(None, min_length=1)
    question_type: QuestionType | None = None
    difficulty: Difficulty | None = None
    answer_format: AnswerFormat | None = None
    style: str | None = Field(None, description="one that generator.styles names")
    steps: Steps | None = None
    tasks: int | None = Field(None, ge=1, description="how many; or share")
    share: float | None = Field(None, gt=0, le=1, description="of the round's tasks")

    @model_validator(mode="after")
    def _is_a_number_of_something(self) -> Cell:
        if (self.tasks is None) == (self.share is None):
            raise ValueError("a cell has tasks (a number) or share (of all), one of the two")
        if not self.named:
            raise ValueError(f"a cell names one or more of {', '.join(AXES)}")
        return self

    @property
    def named(self) -> Named:
        """The values that its tasks have in common, by axis."""
        return {axis: value for axis in AXES if (value := getattr(self, axis)) is not None}

    def number(self, of: int) -> int:
        """How many tasks it asks for where a round has `of`."""
        return self.tasks if self.tasks is not None else max(1, round((self.share or 0) * of))


class Quotas(Section):
    """Shares by axis and cells. `{}`: the axis is free."""

    modality: dict[str, Share] = Field({}, description="{}: free, as the mix has it")
    anatomy: dict[str, Share] = Field({}, description="{}: any; it is not asked for")
    question_type: dict[QuestionType, Share] = Field({}, description="{}: free, as the mix has it")
    difficulty: dict[Difficulty, Share] = Field({"easy": 1.0, "medium": 1.0, "hard": 1.0})
    answer_format: dict[AnswerFormat, Share] = Field({"closed": 0.3, "choice": 0.6, "open": 0.1})
    steps: dict[Steps, Share] = Field({1: 1.0}, description="of reasoning that a question asks for")
    cells: tuple[Cell, ...] = ()

    @field_validator("modality", "anatomy", "question_type")
    @classmethod
    def _some_of_it(cls, shares: Mapping[Any, float]) -> Mapping[Any, float]:
        if shares:
            check_shares("shares", shares)
        return shares

    @field_validator("difficulty", "answer_format", "steps")
    @classmethod
    def _one_of_it(cls, shares: Mapping[Any, float]) -> Mapping[Any, float]:
        check_shares("shares", shares)
        return shares

    def shares(self) -> dict[str, dict[Value, float]]:
        """Shares by axis, of those axes that have any."""
        given = {axis: getattr(self, axis) for axis in AXES if axis != "style"}
        return {axis: dict(shares) for axis, shares in given.items() if shares}

    @property
    def spoken_of(self) -> tuple[str, ...]:
        """The axes that a cell names, or whose shares are others than the defaults."""
        usual = Quotas.model_fields
        told = {axis for cell in self.cells for axis in cell.named}
        told |= {a for a, shares in self.shares().items() if shares != usual[a].default}
        return tuple(axis for axis in AXES if axis in told)
