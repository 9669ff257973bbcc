"""Rubric: by a verifier all essentials pass, and the score is high enough."""

from __future__ import annotations

import json

from engine.answers.matching import compared
from engine.config.select import Verified
from engine.records import Triplet, Verification


def reason(row: Triplet, found: Verification, held_to: Verified) -> str | None:
    """Why a verifier does not pass the row; None where it does, or where none was asked.

    An answer that the verifier was not shown has not passed.
    """
    if not found.rubric:
        return None
    told = json.loads(found.rubric)["answers"].get(compared(row.answer, row.options))
    if told is None:
        return "rubric: this answer was not verified"
    if told["failed"]:
        return f"rubric: {told['failed'][0]}"
    if told["score"] is not None and not told["score"] >= held_to.rubric:
        return "rubric: too low a score"
    return None
