"""Which rows teach."""

from __future__ import annotations

from pydantic import Field

from engine.config.section import Section


class Select(Section):
    """Which rows teach."""

    logprob: float = Field(1.0, ge=0, description="weight of the generator's log-probability")
    agreement: float = Field(1.0, ge=0, description="weight of the log vote share among samples")
    keep: float = Field(0.7, gt=0, le=1, description="share of questions kept, the surest first")
    min_probability: float = Field(0.0, ge=0, le=1, description="calibrated floor in any case")
