"""What all sections of a configuration are: strict, frozen, of finite numbers, some of kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A section of a configuration: unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )


def is_address(place: str) -> bool:
    """Whether a place is a URL, such as s3://…, also where a `Path` has taken one slash."""
    return re.match(r"[a-z][a-z0-9+.-]+:/", place, re.IGNORECASE) is not None


Share = Annotated[float, Field(ge=0)]


def named(default: str) -> BeforeValidator:
    """Of a section that has kinds: a plain name stands for that kind, no kind for `default`."""

    def spelt_out(value: object) -> object:
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": default, **value} if isinstance(value, dict) else value

    return BeforeValidator(spelt_out)


def check_shares(name: str, shares: Mapping[Any, float]) -> None:
    """Raise ValueError where all are 0: the mean by no weight is no number."""
    if not any(shares.values()):
        raise ValueError(f"{name}: one of the shares must be above 0")
