"""Which rows teach."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config.section import Section


class Guarantee(Section):
    """How pure the kept rows are to be, and how sure of it one is to be."""

    precision: float = Field(0.95, gt=0, lt=1, description="share of kept rows that are right")
    confidence: float = Field(0.9, gt=0, lt=1, description="with which it is at least that")
    by: Literal["modality"] | None = Field(
        None, description="a promise for each, where there are verdicts enough"
    )


class Select(Section):
    """Which rows teach."""

    logprob: float = Field(1.0, ge=0, description="weight of the generator's log-probability")
    agreement: float = Field(1.0, ge=0, description="weight of the log vote share among samples")
    keep: float = Field(0.7, gt=0, le=1, description="share of questions kept, the surest first")
    min_probability: float = Field(0.0, ge=0, le=1, description="calibrated floor in any case")
    reasoning: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="probability that a kept row's reasoning is sound, at least; 0: not looked at",
    )
    guarantee: Guarantee | None = Field(
        None, description="in the place of `keep`: the most rows of which that can be promised"
    )
