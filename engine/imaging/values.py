"""Values that decide pixels, read so that none is silently absent: as meant, or refused by name.

Absent or empty (zero length, PS3.5 7.4) is the default where the standard or this module's caller
gives one. What is there is read, written wrongly or not, where it can mean one thing only; all else
is an ImagingError that names the attribute. `docs/imaging.md` lists the attributes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from engine.imaging.anatomy import Header
from engine.imaging.errors import ImagingError, Reason

# A decimal comma cannot be anything else in DS (PS3.5 6.2), unless it may part thousands.
DECIMAL = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
PADDING = " \0\t\r\n"
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


def numbers(value: Any) -> list[float]:
    """A numeric attribute of any multiplicity as floats; what is no number becomes NaN."""
    if isinstance(value, int | float):
        return [_number(value)]
    if is_empty(value):
        return []
    many = [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else value
    found = list(many)
    while found and is_empty(found[-1]):  # a backslash at the end
        found.pop()
    return [_number(v) for v in found]


def uid(header: Header, keyword: str) -> str:
    """A UID without padding, "" where it is absent."""
    return str(header.get(keyword) or "").strip(" \0")


def is_empty(value: Any) -> bool:
    """Whether an attribute has no value: absent, of zero length, or padding alone."""
    return value is None or (isinstance(value, str | bytes) and not value.strip(_blank(value)))


def _blank(value: Any) -> Any:
    return b" \0" if isinstance(value, bytes) else " \0"


def _number(value: Any) -> float:
    if isinstance(value, bytes):  # what its value representation cannot hold
        return math.nan
    try:
        return _decimal(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _decimal(text: str) -> float:
    """A decimal string, with a point or a comma; float() alone would take 1_000 and nan too."""
    text = text.strip(PADDING)
    if not DECIMAL.fullmatch(text) or THOUSANDS.fullmatch(text):
        return math.nan
    return float(text.replace(",", "."))


def unreadable(keyword: str, why: str = "cannot be read") -> ImagingError:
    """The refusal of a file for one attribute, by its keyword."""
    return ImagingError(Reason.UNREADABLE, f"{keyword} {why}")


def number(header: Header, keyword: str, default: float | None = None) -> float:
    """An attribute of one finite number; `default` where it has none.

    Raises ImagingError, naming it, where it cannot be read, or is absent without a default.
    """
    value = header.get(keyword)
    if type(value) is int:
        return value
    found = numbers(value)
    if not found:
        if default is None:
            raise ImagingError(Reason.UNREADABLE, f"no {keyword}")
        return default
    if not all(math.isfinite(n) for n in found):
        raise unreadable(keyword)
    if len(set(found)) > 1:
        raise unreadable(keyword, "has several values")
    return found[0]


def whole(header: Header, keyword: str, default: int | None = None) -> int:
    """As `number`, of a whole number."""
    found = number(header, keyword, default)
    if found != int(found):
        raise unreadable(keyword, "is no whole number")
    return int(found)


def texts(value: Any) -> list[str]:
    """The values of an attribute of text, without padding; empty ones are none."""
    if is_empty(value):
        return []
    many = [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else value
    found = (v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in many if v is not None)
    return [text for padded in found if (text := padded.strip(PADDING))]


def words(header: Header, keyword: str) -> list[str]:
    """The values of a code string, in upper case and without padding; empty ones are none."""
    return [text.upper() for text in texts(header.get(keyword))]


def word(header: Header, keyword: str, known: Collection[str], default: str) -> str:
    """An attribute of one code out of `known`; `default` where it is absent or empty.

    Raises ImagingError, naming it, where it is another or several.
    """
    found = words(header, keyword)
    if not found:
        return default
    if len(set(found)) > 1:
        raise unreadable(keyword, "has several values")
    if found[0] not in known:
        raise unreadable(keyword, "is unknown")
    return found[0]
