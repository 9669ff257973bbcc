"""What is thrown out before anybody judges it: one file a filter, the order stands here.

A filter is a pure function `reason(row) -> str | None`: why a row is out, None where it may stay.
`leak` also needs what the row's writer was told of the image.
One of `MEASURED` reads what a model was asked, too, `reason(row, verification, held_to)`: stage
`verify` measures, stage `select` refuses.
"""

from __future__ import annotations

from dataclasses import replace

from engine.config.filters import Filters
from engine.config.select import Verified
from engine.knowledge import NOTHING, Known
from engine.records import Triplet, Verification
from generators.filters import (
    blind,
    form,
    given_away,
    language,
    leak,
    length,
    options,
    personal,
    reasoning,
    rubric,
    self_consistency,
    spelling,
)

DEFAULT = Filters()
ENGLISH = (form.reason, reasoning.reason, language.reason, spelling.reason, given_away.reason)
FILTERS = (*ENGLISH, options.reason, personal.reason)
MEASURED = (self_consistency.reason, blind.reason, rubric.reason)


def reason(row: Triplet, held_to: Filters = DEFAULT, known: Known = NOTHING) -> str | None:
    """The first filter's reason against a row; None where all let it pass.

    Rules of English are left out where the configuration names no language. `known` is what the
    row's writer was told of the image.
    """
    if found := length.reason(row, held_to) or leak.reason(row, known, held_to.quoted_words):
        return found
    checks = FILTERS if held_to.language else FILTERS[len(ENGLISH) :]
    return next((found for check in checks if (found := check(row))), None)


def marked(row: Triplet, held_to: Filters = DEFAULT, known: Known = NOTHING) -> Triplet:
    """The row, with the reason as its problem where a filter refuses it, as if it did not parse."""
    problem = row.problem or reason(row, held_to, known)
    return row if problem == row.problem else replace(row, problem=problem)


def refused(row: Triplet, found: Verification, held_to: Verified) -> str | None:
    """The first filter's reason against a row by what was measured of its question, or None."""
    checks = (check(row, found, held_to) for check in MEASURED)
    return next((why for why in checks if why), None)
