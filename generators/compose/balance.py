"""Which answers a set of questions has so far, so that none can be guessed from a question's words.

What a question shows to one who does not look at the image is its form, its steps, its subject and
its claims. For each of these the answers are counted, and a candidate is as welcome as its answer
is rare there: its cost is how much more often its answer was taken than the rarest possible one.
One that costs more than SLACK is refused, also where that leaves an image without a question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

SLACK = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """Something that a question shows, what it came to, and what it could have come to."""

    what: Hashable
    came_to: str
    possible: tuple[str, ...]


@dataclass
class Balance:
    """Counts of what was taken."""

    _counts: dict[Hashable, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def cost(self, shown: Iterable[Shown]) -> tuple[int, int]:
        """The highest excess, and all of them together; the lower the better."""
        excess = [
            self._counts[one.what][one.came_to]
            - min(self._counts[one.what][other] for other in one.possible)
            for one in shown
        ]
        return max(excess, default=0), sum(excess)

    def take(self, shown: Iterable[Shown]) -> None:
        """Count a question that was taken."""
        for one in shown:
            self._counts[one.what][one.came_to] += 1

    def place(self, of: Hashable, number: int) -> int:
        """The place, below `number`, in which the right option stood least often; it is taken."""
        counts = self._counts["place", of]
        found = min(range(number), key=lambda n: (counts[str(n)], n))
        counts[str(found)] += 1
        return found

    def first(self, what: Hashable, shares: dict[int, float]) -> list[int]:
        """The keys of `shares` that are above 0, those first that were taken least for theirs."""
        counts = self._counts[what]
        wanted = [key for key, share in shares.items() if share > 0]
        return sorted(wanted, key=lambda key: (counts[str(key)] / shares[key], key))

    def rarest(self, what: Hashable, names: Sequence[str]) -> list[str]:
        """Names in the order of how often they were taken, the rarest first."""
        return sorted(names, key=lambda name: (self._counts[what][name], names.index(name)))
