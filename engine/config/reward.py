"""The judge and its training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from engine.config.section import Share, check_shares
from engine.config.training import Optimiser


class Reward(Optimiser):
    """The judge."""

    model: str | None = Field(
        None, description="backbone, a folder or Hub id; null: the base; generator: the tuned one"
    )
    readout: Literal["token", "head"] = Field("token", description="start of the three heads")
    objective: str = Field("bradley-terry", description="the loss, of reward_model/losses")
    criteria: dict[Literal["factuality", "reasoning", "relevance"], Share] = Field(
        default={"factuality": 0.6, "reasoning": 0.2, "relevance": 0.2}
    )
    actors: int = Field(1, ge=1, description="workers that judge, each with the whole judge")
    twins: int = Field(
        0,
        ge=0,
        description="pairs by rule: the answer true of an image before its twin's (source.twins)",
    )
    refine_epochs: float = Field(1, gt=0, description="over all pairs so far, in refinement")
    refine_pairs: int = Field(200, ge=0, description="newly judged pairs a round")
    expert_pairs: int = Field(100, ge=0, description="of these, shown to the expert")

    @model_validator(mode="after")
    def _something_is_judged(self) -> Reward:
        check_shares("criteria", self.criteria)
        if self.lora_bits:
            raise ValueError("lora_bits is of sft and grpo: a judge is not trained on 4 bits")
        return self
