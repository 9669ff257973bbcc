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


class Contamination(Section):
    """Published benchmarks that kept rows must not be of; nothing is compared without any."""

    benchmarks: dict[str, str] = Field(
        default={},
        description="file or folder by the name that a benchmark is told by: its own JSON, JSON "
        "Lines, CSV or Parquet, with its images, or a dataset that `datasets` saved",
    )
    similarity: float = Field(
        0.7,
        gt=0,
        le=1,
        description="share of the parts of two texts that they have in common (Jaccard, of four "
        "letters each), from which a question is a benchmark's",
    )
    words: int = Field(
        6, ge=1, description="of a shorter question the words are anybody's: its image decides"
    )


class Verified(Section):
    """What a row must reach of what was measured of its question; what was not is not asked for."""

    rubric: float = Field(
        0.95, ge=0, le=1, description="score by the rubric, at least, beside all essentials"
    )
    margin: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share right with the image above the best share without, more than this",
    )
    self_consistency: float = Field(
        0.0, ge=0, le=1, description="share of the question's samples that agree, at least"
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
    rationales: int = Field(
        1, ge=1, description="distinct reasonings of a kept answer that are kept, at most"
    )
    near_duplicates: bool = Field(
        True, description="of rows that ask the same of a picture, or a copy of it, one stays"
    )
    contamination: Contamination = Contamination()
    balance: float | None = Field(
        0.2,
        ge=0,
        lt=1,
        description="how far above chance the best constant guess at place or value may be, by "
        "the lower end of its interval; null: any",
    )
    verified: Verified = Verified()
    guarantee: Guarantee | None = Field(
        None, description="in the place of `keep`: the most rows of which that can be promised"
    )
