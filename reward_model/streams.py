"""What is asked of whom: which rows experts see, and why. Three streams that are never mixed.

random       drawn evenly of the rows that selection chooses from, one a patient: what is said of
             them holds for all of these rows, so they certify and measure, and teach no judge
informative  rows of patients in set `train` of which the judge is least sure: they teach
test         questions on validation and test images: accepted or corrected, they evaluate
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from engine.records import Item, Triplet, content_id
from reward_model.threshold import Choice, answer_key


def in_turn(names: Iterable[str], seed: int) -> list[str]:
    """The names in an order that follows from a seed and from nothing that they say."""
    return sorted(names, key=lambda name: content_id("turn", seed, name))


def rivals(rows: Iterable[Triplet], choices: Mapping[str, Choice]) -> dict[str, Triplet]:
    """By a question's key, the answer that most samples gave after the chosen one."""
    answers: dict[str, dict[str, list[Triplet]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        key = row.question_key
        if row.problem is None and key in choices:
            answers[key][answer_key(row)].append(row)
    found = {}
    for key, given in answers.items():
        given.pop(answer_key(choices[key].triplet), None)
        if given:
            most = max(sorted(given), key=lambda answer: len(given[answer]))
            found[key] = min(given[most], key=lambda row: row.id)
    return found


def teaching_items(
    chosen: Sequence[Triplet],
    rival_of: Mapping[str, Triplet],
    preferences: float,
    stream: str,
    round: int,
    readers: int,
) -> list[Item]:
    """An item a row: a verdict on it, or, of the share `preferences`, which of it and its rival is
    better. A share of which there are not enough with a rival is smaller."""
    wanted = round_half_up(preferences * len(chosen))
    items = []
    for row in chosen:
        rival = rival_of.get(row.question_key) if wanted else None
        wanted -= rival is not None
        items.append(Item.make(row, rival, stream, round, 0, readers))
    return items


def round_half_up(value: float) -> int:
    """The nearest whole number; of two the greater."""
    return int(value + 0.5)


def placed(items: Iterable[Item], seed: int) -> list[Item]:
    """The items in the order in which they are shown, which tells nothing of their streams."""
    by_id = {item.id: item for item in items}
    order = in_turn(by_id, seed)
    return [Item(**by_id[name].to_dict() | {"place": place}) for place, name in enumerate(order)]
