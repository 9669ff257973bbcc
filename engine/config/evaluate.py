"""Held-out questions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config.backend import Inference, LocalBackend, Transformers

VALIDATION_SHARE = 0.5  # of as many questions as the test has


class Evaluate(Inference):
    """Held-out questions, asked of weights trained here: no server has them."""

    backend: LocalBackend = Transformers()
    style: Literal["direct", "step", "meta"] = "direct"
    questions: int = Field(600, ge=1, description="held-out test questions")
    max_tokens: int = Field(40, ge=2)

    @property
    def validation(self) -> int:
        """Validation questions, which steer the loop."""
        return int(self.questions * VALIDATION_SHARE)
