"""What an expert of any kind can be asked: rows about an image, and opinions of other rows.

None is ever asked about test images for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from engine.records import Image, Item, Preference, Task, Triplet
from reward_model.verdicts import Answer

EXPERT = "expert"


NOT_STATED = "not stated"  # the difficulty of a question that nobody asked for in one


Exemplar = tuple[Triplet, Task]


Pairs = tuple[list[Triplet], list[Preference]]  # rows made for the pairs, and the pairs


class Expert(Protocol):
    """Someone who can be asked about training and held-out images.

    `writes` says whether they have rows before they are asked for verdicts. `compares_generated`
    says whether they can tell which of two rows that a generator wrote is better; who cannot makes
    pairs of their own rows alone.
    """

    writes: ClassVar[bool]
    compares_generated: ClassVar[bool]

    def knows(self, image_id: str, source: str) -> bool:
        """Whether there may be rows about an image, which came from `source` (`Image.source`)."""
        ...

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        """Up to `number` true rows about an image, each with the task that it answers.

        With `as_asked` that is the task that was given, else the one that the question fits.
        """
        ...

    def pairs(self, rows: list[Triplet], number: int, seed: int) -> Pairs:
        """Up to `number` preferences among rows (and rows made from them)."""
        ...

    def implied(self, rows: list[Triplet]) -> Pairs:
        """Preferences that follow from expert rows without asking again."""
        ...

    def opinions(self, items: Sequence[Item], rows: Mapping[str, Triplet]) -> list[Answer]:
        """What they say of items about triplets, which are given by id; nothing of an item that
        they have not answered. Without an item, what they said of a triplet unasked.
        """
        ...
