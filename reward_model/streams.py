"""What is asked of whom: which rows experts see, and why. Three streams that are never mixed.

random       drawn evenly of the rows that selection chooses from, one a patient: what is said of
             them holds for all of these rows, so they certify and measure, and teach no judge
informative  rows of patients in set `train` of which the judge is least sure: they teach
test         questions on validation and test images: accepted or corrected, they evaluate
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import ceil

from engine.records import Item, Triplet, content_id
from reward_model.threshold import answer_key
from reward_model.verdicts import INFORMATIVE

SPARE = 1.5  # candidates for one that an expert is asked about: some do not parse


def candidates(asked: float) -> int:
    """How many questions are proposed where experts are asked about so many."""
    return ceil(SPARE * asked)


def in_turn(names: Iterable[str], seed: int) -> list[str]:
    """The names in an order that follows from a seed and from nothing that they say."""
    return sorted(names, key=lambda name: content_id("turn", seed, name))


def rivals(rows: Iterable[Triplet], chosen: Mapping[str, Triplet]) -> dict[str, Triplet]:
    """By a question's key, the answer that most samples gave beside that of its chosen row."""
    answers: dict[str, dict[str, list[Triplet]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.problem is None and row.question_key in chosen:
            answers[row.question_key][answer_key(row)].append(row)
    found = {}
    for key, given in answers.items():
        given.pop(answer_key(chosen[key]), None)
        if given:
            most = max(sorted(given), key=lambda answer: len(given[answer]))
            found[key] = min(given[most], key=lambda row: row.id)
    return found


def verdict_items(rows: Iterable[Triplet], stream: str, round: int, readers: int) -> list[Item]:
    """A verdict asked on each row."""
    return [Item.make(row, None, stream, round, 0, readers) for row in rows]


def teaching_items(
    rows: Sequence[Triplet],
    rival_of: Mapping[str, Triplet],
    preferences: float,
    round: int,
    readers: int,
) -> list[Item]:
    """An item a row, to learn from: a verdict on it, or, of the share `preferences`, which of it
    and its question's rival is better. Where fewer have a rival the share is smaller."""
    wanted = int(preferences * len(rows) + 0.5)
    items = []
    for row in rows:
        rival = rival_of.get(row.question_key) if wanted else None
        wanted -= rival is not None
        items.append(Item.make(row, rival, INFORMATIVE, round, 0, readers))
    return items


def placed(items: Iterable[Item], seed: int) -> list[Item]:
    """The items in the order in which they are shown, which tells nothing of their streams."""
    by_id = {item.id: item for item in items}
    return [replace(by_id[name], place=n) for n, name in enumerate(in_turn(by_id, seed))]
