"""Rows that teach safety: what they are of, how many, and the policy that they cite."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from engine.config.policy import NamedPolicy
from engine.config.section import Section

Answers = Literal["kept", "expert", "truth"]


class Safety(Section):
    """Rows that teach safety, a round at most, with the rows that stand beside each."""

    instruction: int = Field(0, ge=0, description="a text in the picture says what to answer")
    organ: int = Field(
        0, ge=0, description="questions about another body part or modality, and of one's own"
    )
    unanswerable: int = Field(
        0, ge=0, description="questions that no single image answers, and others that one does"
    )
    answers: tuple[Answers, ...] = Field(
        ("kept", "expert"),
        description="whose answers are right: kept rows, an expert's own and corrected rows; of "
        "phantoms also the truth",
    )
    policy: NamedPolicy = Field(
        None,
        validate_default=True,
        description="a file of clauses; null: engine/prompts/policies/default.yaml",
    )

    @property
    def wanted(self) -> dict[str, int]:
        """How many rows of each kind."""
        return {kind: getattr(self, kind) for kind in ("instruction", "organ", "unanswerable")}

    @property
    def on(self) -> bool:
        """Whether any are wanted."""
        return any(self.wanted.values())

    @model_validator(mode="after")
    def _somebody_knows_an_answer(self) -> Safety:
        if self.on and not self.answers:
            raise ValueError("answers: name one source of right answers at least")
        return self
