"""People who answer in the reading room: their answers are in the workspace's journal.

They write no rows before they are asked. A row that they accepted or corrected is one of theirs
from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from engine.records import Image, Item, Triplet
from reward_model.experts.expert import Exemplar, Pairs
from reward_model.journal import Journal
from reward_model.verdicts import Answer, current


class PeopleExpert:
    """Readers, and the rows that came of their verdicts."""

    writes: ClassVar[bool] = False
    compares_generated: ClassVar[bool] = True

    def __init__(self, journal: Journal, gold: Iterable[Exemplar]) -> None:
        """`gold` are rows that readers accepted or corrected."""
        self.journal = journal
        self.gold: dict[str, list[Exemplar]] = {}
        for row, task in gold:
            self.gold.setdefault(row.image_id, []).append((row, task))

    def knows(self, image_id: str, source: str) -> bool:
        return image_id in self.gold

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        """Rows that were accepted or corrected, in the order in which they were."""
        return self.gold.get(image.id, [])[:number]

    def pairs(self, rows: list[Triplet], number: int, seed: int) -> Pairs:
        """None of their own accord: they are asked for them."""
        return [], []

    def implied(self, rows: list[Triplet]) -> Pairs:
        """None: what a verdict implies is found where judges learn."""
        return [], []

    def opinions(self, items: Sequence[Item], rows: Mapping[str, Triplet]) -> list[Answer]:
        asked = {item.id for item in items}
        return [
            answer
            for answer in current(self.journal.answers())
            if not answer.item_id or answer.item_id in asked
        ]
