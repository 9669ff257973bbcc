"""What experts said, as answers: those of the journal, and of the record what is in no journal.

Experts of other kinds than people have no journal, and their opinions are in the record alone.
Pairs that a rule made are nobody's opinion.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from engine.records import Item, Preference, Verdict, content_id
from reward_model.criteria import CRITERIA
from reward_model.verdicts import (
    BETTER,
    FIRST,
    PREFERENCE,
    SECOND,
    VERDICT,
    Answer,
    current,
    place_of,
)


def opinions(
    journal: Iterable[Answer],
    verdicts: Iterable[Verdict],
    preferences: Iterable[Preference],
    items: Mapping[str, Item],
) -> list[Answer]:
    """The answers that count, in order; a reader's repeats among them. `items` are by id."""
    given = list(journal)
    known = {content_id("verdict", a.id) for a in given}
    known |= {content_id("preference", a.id, c) for a in given for c in CRITERIA}
    found = [_of_verdict(v) for v in verdicts if v.id not in known]
    found += _of_preferences([p for p in preferences if _is_said(p) and p.id not in known], items)
    return current([*found, *given])


def settled(
    verdicts: Iterable[Verdict], preferences: Iterable[Preference], items: Mapping[str, Item]
) -> set[tuple[str, str, bool]]:
    """What is answered in the record, and stays so."""
    pairs = _of_preferences([p for p in preferences if _is_said(p)], items)
    return {place_of(a) for a in [*map(_of_verdict, verdicts), *pairs]}


def _is_said(row: Preference) -> bool:
    """Whether somebody said so: what a rule made answers no item and has no time."""
    return bool(row.item_id or row.at)


def _of_verdict(row: Verdict) -> Answer:
    return Answer(
        id=f"recorded {row.id}",
        kind=VERDICT,
        reader=row.expert,
        at=row.at,
        item_id=row.item_id,
        triplet_id=row.triplet_id,
        seconds=row.seconds,
        verdict=row.verdict,
        reasons=row.reasons,
        correction=row.correction,
        comment=row.comment,
        repeat=row.repeat,
    )


def _of_preferences(rows: Iterable[Preference], items: Mapping[str, Item]) -> list[Answer]:
    """One answer a reader, pair and time: a row each criterion."""
    groups: dict[tuple[object, ...], list[Preference]] = defaultdict(list)
    for row in rows:
        pair = frozenset((row.chosen_id, row.rejected_id))
        groups[row.expert, row.item_id, pair, row.at, row.repeat].append(row)
    return [_of_group(some, items.get(some[0].item_id)) for some in groups.values()]


def _of_group(rows: list[Preference], item: Item | None) -> Answer:
    undecided = [row for row in rows if row.outcome != BETTER]  # there the first is the chosen
    head = (undecided or rows)[0]
    first, second = head.chosen_id, head.rejected_id
    if item is not None:
        first, second = item.triplet_id, item.other_id
    said = {
        row.criterion: row.outcome
        if row.outcome != BETTER
        else (FIRST if row.chosen_id == first else SECOND)
        for row in rows
    }
    return Answer(
        id=f"recorded {head.id}",
        kind=PREFERENCE,
        reader=head.expert,
        at=head.at,
        item_id=head.item_id,
        triplet_id=first,
        other_id=second,
        seconds=head.seconds,
        preferences=said,
        comment=head.comment,
        repeat=head.repeat,
    )
