"""Held-out questions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from engine.config.backend import Backend


class Evaluate(Backend):
    """Held-out questions."""

    style: Literal["direct", "step", "meta"] = "direct"
    questions: int = Field(600, ge=1, description="held-out test questions")
    max_tokens: int = Field(40, ge=2)

    @model_validator(mode="after")
    def _weights_are_here(self) -> Evaluate:
        if self.backend == "endpoint":
            raise ValueError("backend: no server has weights trained here; transformers or vllm")
        return self
