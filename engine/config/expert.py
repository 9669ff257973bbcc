"""Who judges, and how much is asked of them: each kind of expert with its own fields."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from engine.config.section import Section, named


class Asked(Section):
    """An expert who is asked for rows to imitate and for pairs to learn a taste from."""

    finds_by_name: ClassVar[bool] = False  # images by their file names
    images: int = Field(60, ge=1, description="training images with expert rows")
    rows_per_image: int = Field(4, ge=1)
    preference_images: int = Field(100, ge=1, description="further training images for pairs")
    pairs: int = Field(600, ge=1)
    holdout: float = Field(0.25, gt=0, lt=1, description="share of pairs never trained on")


class Simulated(Asked):
    """An expert simulated from the truth of phantoms."""

    kind: Literal["simulated"] = "simulated"
    error_rate: float = Field(0.05, ge=0, lt=0.5, description="of comparisons that are wrong")


class FromBenchmark(Asked):
    """A benchmark's questions and gold answers."""

    finds_by_name: ClassVar[bool] = True
    kind: Literal["benchmark"] = "benchmark"
    name: Literal["vqa-rad"] = Field("vqa-rad", description="in whose form the questions are")


class Nobody(Section):
    """No expert: images can be read and cleaned, the loop cannot run."""

    finds_by_name: ClassVar[bool] = False
    kind: Literal["none"] = "none"


Expert = Annotated[
    Simulated | FromBenchmark | Nobody, Field(discriminator="kind"), named("simulated")
]
