"""Reasons that name another row or a benchmark, and what all of their kind are called.

Such a reason is one row's own, so that counts are of its kind: what stands before the colon.
"""

from __future__ import annotations

import re

NEAR, CONTAMINATED, UNBALANCED = "near-duplicate", "contamination", "balance"
FURTHER = "kept: another reasoning of the kept answer"  # beside the chosen row of its question
OF_SETS = (NEAR, CONTAMINATED, UNBALANCED)  # found by looking at more than the row itself
_NAMING = rf"^({'|'.join(OF_SETS)}): .*"
KIND = f"regexp_replace(reason, '{_NAMING}', '\\1')"  # in SQL, of a column `reason`
_OTHER_ROW = re.compile(r"\brow ([0-9a-f]{32})\b")


def kind_of(reason: str) -> str:
    """What reasons of a kind are counted as; the reason itself where it names nothing."""
    return re.sub(_NAMING, r"\1", reason)


def other_row(reason: str) -> str | None:
    """The id of the row that a reason names; None where it names none."""
    found = _OTHER_ROW.search(reason)
    return found[1] if found and reason.startswith(OF_SETS) else None
