"""What asks and answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from engine.config.backend import Backend, Inference, Transformers
from engine.config.filters import Filters
from engine.config.section import Share, check_shares


class Generator(Inference):
    """What asks and answers."""

    backend: Backend = Transformers()
    model: str | None = Field(None, description="null: the base, tuned on the expert seed")
    refresh: bool = Field(True, description="the round's policy generates the next round")
    prompts: Literal["compact", "full"] = "compact"
    styles: dict[Literal["direct", "step", "meta"], Share] = Field(
        default={"direct": 0.34, "step": 0.33, "meta": 0.33}
    )
    tasks: int = Field(600, ge=1, description="questions asked a round")
    samples: int = Field(8, ge=1, description="answers sampled for each question")
    temperature: float = Field(1.0, gt=0, description="of answers")
    ask_temperature: float = Field(0.6, gt=0, description="of questions")
    max_tokens: int = Field(48, ge=4)
    filters: Filters = Filters()

    @model_validator(mode="after")
    def _a_server_knows_its_model(self) -> Generator:
        if not self.backend.weights_known and not self.model:
            raise ValueError(f"backend {self.backend.kind} needs model, as the server names it")
        check_shares("styles", self.styles)
        return self
