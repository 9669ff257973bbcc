"""Blind: what is answered as well without seeing the image teaches no seeing."""

from __future__ import annotations

from engine.answers.matching import compared
from engine.config.select import Verified
from engine.records import Triplet, Verification
from generators.verification.blind import answered_blind, shares_of


def reason(row: Triplet, found: Verification, held_to: Verified) -> str | None:
    """Why the row's answer needs no image; None where it does, or where it was not measured.

    A tie counts as answered blind; an answer that nobody gives without the image does not.
    """
    shares = shares_of(found, compared(row.answer, row.options))
    blind = answered_blind(shares, held_to.margin)
    return "blind: answered as well without the image" if blind else None
