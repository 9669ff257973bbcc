"""What is thrown out before anybody judges it: one file a filter, the order stands here.

A filter is a pure function `reason(row) -> str | None`: why a row is out, None where it may stay.
"""

from __future__ import annotations

from dataclasses import replace

from engine.records import Triplet
from generators.filters import form, reasoning

FILTERS = (form.reason, reasoning.reason)


def reason(row: Triplet) -> str | None:
    """The first filter's reason against a row; None where all let it pass."""
    return next((found for check in FILTERS if (found := check(row))), None)


def marked(row: Triplet) -> Triplet:
    """The row, with the reason as its problem where a filter refuses it, as if it did not parse."""
    problem = row.problem or reason(row)
    return row if problem == row.problem else replace(row, problem=problem)
