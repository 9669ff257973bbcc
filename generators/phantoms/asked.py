"""What may be asked of a phantom's finding before it is drawn; what is not asked is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.errors import TriptychError

Extent = tuple[str, int]  # a size and a count


class CannotDraw(TriptychError):
    """What is asked for cannot be drawn; the message says in one line why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Of a finding: its side, count and size, and attributes by name. None: as the seed has it.

    A kind draws its random numbers whatever is asked, and then takes what is asked instead. So one
    seed shows the same anatomy and noise, and as far as it can the same lesion, under any `Asked`.
    An attribute that follows from what is drawn (a number of colours, a thickness) is not heeded:
    `generators.phantoms.drawer` looks for a seed that has it.
    """

    side: str | None = None
    count: int | None = None
    size: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def left_or(self, left: bool) -> bool:
        """Whether it is on the left, where the seed says `left`."""
        return left if self.side is None else self.side == "left"

    def told(self, attribute: str, drawn: str) -> str:
        """The value of an attribute, where the seed says `drawn`."""
        return self.attributes.get(attribute, drawn)

    def extent(self, drawn: Extent, possible: Sequence[Extent]) -> Extent:
        """Size and count, out of the `possible`, where the seed says `drawn`.

        What is not asked stays as the seed has it where that is possible. Raises CannotDraw.
        """
        fitting = [pair for pair in possible if self._fits(*pair)]
        if not fitting:
            known = ", ".join(dict.fromkeys(f"{count} {size}" for size, count in possible))
            wanted = " ".join(str(v) for v in (self.count, self.size) if v is not None)
            raise CannotDraw(f"{wanted} lesions are not drawn together, only {known}")
        # False comes first: the seed's own pair, else one that shares a size or a count with it
        return min(fitting, key=lambda p: (p != drawn, p[0] != drawn[0], p[1] != drawn[1]))

    def _fits(self, size: str, count: int) -> bool:
        return self.size in (None, size) and self.count in (None, count)


NOTHING = Asked()  # asked: everything is as the seed has it
