"""What a reader may answer: the page's JSON, checked, as an `Answer` for the journal."""

from __future__ import annotations

import math
from typing import Any

from engine.answers.gold import NotText, gold_problem, text_of
from engine.records import Triplet
from engine.workspace import utc
from reward_model.criteria import CRITERIA
from reward_model.reading_room.queue import Showing
from reward_model.verdicts import (
    BOTH_BAD,
    CANNOT_TELL,
    FIRST,
    PREFERENCE,
    REASONS,
    REJECT,
    SECOND,
    TIE,
    VERDICT,
    VERDICTS,
    Answer,
)

LEFT, RIGHT = "left", "right"
CHOICES = (LEFT, RIGHT, TIE, BOTH_BAD, CANNOT_TELL)
MAX_COMMENT, MAX_CORRECTION = 2000, 500  # characters
MAX_SECONDS = 3600.0  # of looking that are believed
SLACK = 2.0  # seconds by which two clocks may differ


class Refused(ValueError):
    """An answer that cannot be taken; the message is for the reader."""


def criteria_of(first: Triplet, second: Triplet) -> tuple[str, ...]:
    """By what two rows are compared: by their reasoning only where one has any, by their relevance
    only where they ask different things."""
    skipped = set()
    if not (first.rationale.strip() or second.rationale.strip()):
        skipped.add("reasoning")
    if first.question_key == second.question_key:
        skipped.add("relevance")
    return tuple(c for c in CRITERIA if c not in skipped)


def answer_of(
    body: Any, showing: Showing, row: Triplet, other: Triplet | None, elapsed: float | None
) -> Answer:
    """An answer to what is shown; raises Refused for one that makes no sense.

    `elapsed` is for how many seconds the item was before the reader, where that is known: nobody
    looked at it for longer.
    """
    if not isinstance(body, dict):
        raise Refused("An answer is a JSON object.")
    item = showing.item
    said = _verdict(body, row) if other is None else _preferences(body, showing, row, other)
    return Answer(
        id=showing.answer_id,
        kind=VERDICT if other is None else PREFERENCE,
        reader=showing.reader,
        at=utc(),
        item_id=item.id,
        triplet_id=item.triplet_id,
        other_id=item.other_id,
        seconds=_seconds(body.get("seconds"), elapsed),
        comment=_text(body.get("comment", ""), MAX_COMMENT, "comment"),
        repeat=showing.repeat,
        **said,
    )


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers say the same, whenever they were given."""
    return _said(one) == _said(other)


def _said(answer: Answer) -> tuple[Any, ...]:
    return (answer.verdict, answer.reasons, answer.correction, answer.preferences, answer.comment)


def _verdict(body: dict[str, Any], row: Triplet) -> dict[str, Any]:
    verdict = body.get("verdict")
    if verdict not in VERDICTS:
        raise Refused("Accept, reject or cannot tell?")
    reasons = body.get("reasons", [])
    if not isinstance(reasons, list) or not all(isinstance(r, str) for r in reasons):
        raise Refused("Reasons are a list of words.")
    if unknown := sorted(set(reasons) - REASONS.keys()):
        raise Refused(f"There is no such reason: {unknown[0][:60]}.")
    correction = _correction(body.get("correction"), row)
    if verdict != REJECT and (reasons or correction):
        raise Refused("Only what is rejected has reasons and a correction.")
    found = tuple(r for r in REASONS if r in reasons)
    return {"verdict": verdict, "reasons": found, "correction": correction}


def _correction(given: Any, row: Triplet) -> str:
    """The right answer: the number of an option, or text where there are none; "" without."""
    if given is None or given == "":
        return ""
    if row.options:
        if type(given) is not int or not 0 <= given < len(row.options):
            raise Refused("The right answer is one of the options.")
        text = row.options[given]
    else:
        text = _text(given, MAX_CORRECTION, "right answer")
        try:
            text = text_of(text) if text else ""
        except NotText as error:
            raise Refused(f"The right answer {error}.") from None
    if text == row.answer:
        raise Refused("That is the answer which is rejected.")
    if text and (why := gold_problem(row.question, row.options, text)):
        raise Refused(f"No row can be made of it: the {why[:200]}.")
    return text


def _preferences(
    body: dict[str, Any], showing: Showing, row: Triplet, other: Triplet
) -> dict[str, Any]:
    given = body.get("preferences")
    criteria = criteria_of(row, other)
    if not isinstance(given, dict) or set(given) != set(criteria):
        raise Refused(f"Compare them by each of: {', '.join(criteria)}.")
    if not all(choice in CHOICES for choice in given.values()):
        raise Refused(f"Choose one of: {', '.join(CHOICES)}.")
    sides = {LEFT: FIRST, RIGHT: SECOND}
    if showing.flipped:
        sides = {LEFT: SECOND, RIGHT: FIRST}
    return {"preferences": {c: sides.get(given[c], given[c]) for c in criteria}}


def _text(given: Any, most: int, what: str) -> str:
    if not isinstance(given, str):
        raise Refused(f"The {what} is text.")
    text = given.strip()
    if len(text) > most:
        raise Refused(f"The {what} is longer than {most} characters.")
    return text


def _seconds(given: Any, elapsed: float | None) -> float | None:
    """Seconds of looking as the page measured them; None where they cannot be."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    most = MAX_SECONDS if elapsed is None else min(MAX_SECONDS, elapsed + SLACK)
    if not 0 <= given < math.inf:  # NaN is in no range
        return None
    return round(float(min(given, most)), 1)
