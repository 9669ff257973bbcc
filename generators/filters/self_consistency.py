"""Self-consistency: enough of a question's samples give the row's answer."""

from __future__ import annotations

import json

from engine.answers.matching import compared
from engine.config.select import Verified
from engine.records import Triplet, Verification


def reason(row: Triplet, found: Verification, held_to: Verified) -> str | None:
    """Why too few samples agree with the row; None where enough do."""
    agreeing = json.loads(found.answers).get(compared(row.answer, row.options), 0)
    if agreeing >= held_to.self_consistency * found.samples:
        return None
    return "self-consistency: too few samples agree"
