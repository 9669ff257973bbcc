"""The waterfall of a round: how many rows entered, what took how many, in order, what stays.

The order is that in which a row is looked at (`generators.filters`, `reward_model.threshold`,
`pipelines.across`); each row is counted where it went out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from engine.reasons import CONTAMINATED, KIND, NEAR, UNBALANCED
from engine.sql import Scan
from reward_model.process import FLAWS
from reward_model.threshold import (
    BEATEN,
    BELOW,
    DUPLICATE,
    FLOOR,
    KEEPS,
    UNCERTIFIED,
    UNJUDGED,
    UNSURE,
)

FORM = "form: "
FIRST = (FORM, "self-consistency: ", "blind: ", "rubric: ")  # what a filter says
_ORDER = (
    UNSURE, UNJUDGED, *BEATEN, FLOOR, *FLAWS, DUPLICATE, CONTAMINATED, NEAR, BELOW, UNCERTIFIED,
    UNBALANCED, *KEEPS,
)  # fmt: skip
# Of a form's reason the part that is meant, since there are some fifty.
_COUNTED = f"""
SELECT CASE WHEN starts_with(reason, '{FORM}')
    THEN '{FORM}' || split_part(substr(reason, {len(FORM) + 1}), ':', 1)
    ELSE {KIND} END AS step, keep, count(*) FROM decisions GROUP BY ALL
"""


def waterfall(scan: Scan) -> list[dict[str, Any]]:
    """Steps {"step", "out", "left"} of a table `decisions`, the first what entered."""
    counted = sorted(scan.values(_COUNTED), key=lambda row: (row[1], _place(row[0]), row[0]))
    left = sum(count for _, _, count in counted)
    steps: list[dict[str, Any]] = [{"step": "generated", "out": 0, "left": left}]
    for step, keep, count in counted:
        if not keep:
            left -= count
            steps.append({"step": step, "out": count, "left": left})
    return steps


def _place(step: str) -> int:
    for place, start in enumerate(FIRST):
        if step.startswith(start):
            return place - len(FIRST)
    return _ORDER.index(step) if step in _ORDER else len(_ORDER)


def waterfall_table(steps: Iterable[dict[str, Any]], round: int) -> Table:
    """The steps for the terminal."""
    table = Table(title=f"round {round}: from what was generated to what is kept", box=None)
    table.title_justify = "left"
    table.add_column("")
    for column in ("out", "left"):
        table.add_column(column, justify="right")
    for step in steps:
        out = f"-{step['out']:,}" if step["out"] else ""
        table.add_row(step["step"], out, f"{step['left']:,}")
    return table
