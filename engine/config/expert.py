"""Who judges, and how much is asked of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config.section import Section


class Expert(Section):
    """The seed of expert judgement: rows to imitate and pairs to learn a taste from."""

    kind: Literal["phantoms", "vqa-rad", "none"] = "phantoms"
    images: int = Field(60, ge=1, description="training images with expert rows")
    rows_per_image: int = Field(4, ge=1)
    preference_images: int = Field(100, ge=1, description="further training images for pairs")
    pairs: int = Field(600, ge=1)
    holdout: float = Field(0.25, gt=0, lt=1, description="share of pairs never trained on")
    error_rate: float = Field(0.05, ge=0, lt=0.5, description="simulated expert's, phantoms only")
