"""Questions of several steps, composed from facts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.config.section import Section, Share, check_shares

From = Literal["kept", "expert", "labels", "truth", "segmentation"]


class Compose(Section):
    """Questions of several steps, composed from facts."""

    questions: int = Field(0, ge=0, description="composed a round; 0: none")
    per_image: int = Field(2, ge=1, description="composed of one image a round, at most")
    steps: dict[Annotated[int, Field(ge=2, le=5)], Share] = Field(
        default={2: 0.25, 3: 0.25, 4: 0.25, 5: 0.25}, description="share of each number of steps"
    )
    facts: tuple[From, ...] = Field(
        ("kept", "expert"),
        description="kept rows, an expert's own and corrected rows, labels of the table beside the "
        "images; of phantoms also truth and segmentation (with source.segmentations)",
    )

    @model_validator(mode="after")
    def _something_to_compose(self) -> Compose:
        check_shares("steps", self.steps)
        if not self.facts:
            raise ValueError("facts: name one source of facts at least")
        return self
