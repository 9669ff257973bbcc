"""Balance: neither the place of an answer among the options nor its value may be guessed.

A guess looks at no picture: "always the second option", "always yes", "always `none` to this
question". Rows are guessed at together that look alike without the picture: of one question type
and number of options, of one question, and by place of one number of options. In each such stratum
the best constant guess is right with a share of the rows, which has a 95 % interval (Wilson 1927);
chance is one over the number of options. What is wanted: that the interval's lower end is at most
`margin` above chance. So a few rows that happen to agree are no reason to refuse one.

The rule: rows come in, the surest first, and one that would lift its value over that bound waits
until surer-than-nothing rows of other values have made room, and then has its place as if it were
as sure as the row that made it. So at every threshold what is kept is what the rule keeps of the
rows above it, always the surest of each value, whatever comes below.

Options are not permuted here: a row's options were read in their order by whoever answered, judged
or checked it, and are in its id. Rows without options, but for yes and no, have no chance to
compare with and are left alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from typing import NamedTuple

from engine.answers.matching import resolve
from engine.answers.spelling import normalise
from engine.question_types import found_type
from engine.reasons import UNBALANCED
from engine.statistics import wilson
from generators.filters.wording import wording

YES_OR_NO = ("no", "yes")
SHOWN = 6  # strata that are told of


class Stratum(NamedTuple):
    """Rows that look alike to who guesses: what is guessed, of which rows, of how many options."""

    guessed: str  # value or place
    of: str
    options: int

    def __str__(self) -> str:
        return f"{self.guessed} of {self.of} ({self.options} options)"


@dataclass(frozen=True, slots=True)
class Guess:
    """How often the best constant guess is right in a stratum of `n` rows: a share and interval."""

    stratum: Stratum
    guess: str
    n: int
    share: float
    low: float
    high: float

    @property
    def chance(self) -> float:
        return 1 / self.stratum.options

    def told(self) -> dict[str, object]:
        """The guess in plain values; shares in [0, 1]."""
        shares = {name: round(getattr(self, name), 4) for name in ("share", "low", "high")}
        return {"guess": self.guess, "n": self.n} | shares


@lru_cache(maxsize=1 << 12)  # many rows ask the same and say the same, and are counted thrice
def strata(
    question: str, options: tuple[str, ...], answer: str, again: bool = True
) -> Mapping[Stratum, str]:
    """What can be guessed of a row, by stratum; nothing where it has no options.

    Of a question that is not asked `again` nothing can be learned.
    """
    said = resolve(answer, options)
    value = normalise(said or answer)
    if not options and value not in YES_OR_NO:
        return {}
    number = max(len(options), 2)
    kind = "yes or no" if value in YES_OR_NO else "a choice"
    found = {Stratum("value", f"{found_type(question)} questions, {kind}", number): value}
    if again:
        told = " ".join(wording(question))
        found[Stratum("value", f"the question “{told}”", number)] = value
    if said is not None:
        found[Stratum("place", "all questions", number)] = str(options.index(said) + 1)
    return found


def guesses(rows: Iterable[Mapping[Stratum, str]]) -> list[Guess]:
    """The best constant guess of each stratum, from the one that is right most above chance."""
    counts: dict[Stratum, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for stratum, value in row.items():
            counts[stratum][value] += 1
    found = [_guess(stratum, count) for stratum, count in counts.items()]
    return sorted(found, key=lambda g: (g.chance - g.low, g.stratum))


def _guess(stratum: Stratum, count: Counter[str]) -> Guess:
    value, most = min(count.items(), key=lambda item: (-item[1], item[0]))
    n = count.total()
    return Guess(stratum, value, n, most / n, *wilson(most, n))


@dataclass(frozen=True, slots=True)
class Placed:
    """A row that has no place of its own: as sure as what made room for it, None where nothing did.

    `reason` is what it has to wait for.
    """

    id: str
    confidence: float | None
    reason: str


class Balance:
    """The rows that have a place, and those that wait for one. Holds counts and the waiting rows.

    A waiting row waits in one stratum that has no room for its value, the surest in front.
    """

    def __init__(self, margin: float) -> None:
        self.margin = margin
        self.counts: dict[Stratum, Counter[str]] = defaultdict(Counter)
        self.waiting: dict[Stratum, dict[str, list[_Waiting]]] = defaultdict(dict)
        self.arrived = 0

    def count(self, at: Mapping[Stratum, str]) -> None:
        """A row that has its place already."""
        for stratum, value in at.items():
            self.counts[stratum][value] += 1

    def add(self, row_id: str, confidence: float, at: Mapping[Stratum, str]) -> Iterator[Placed]:
        """A row, none of which may be surer than those before it; who gets a place by it.

        A row that is told of by no call has its own place, or waits still (`left`).
        """
        self.arrived += 1
        fresh = _Waiting(self.arrived, row_id, at)
        agenda = [fresh]
        while agenda:
            row = heappop(agenda)
            if full := self._full(row.at):
                row.reason = f"{UNBALANCED}: {row.at[full]!r} is guessed as the {full}"
                heappush(self.waiting[full].setdefault(row.at[full], []), row)
                continue
            self.count(row.at)
            if row is not fresh:
                yield Placed(row.id, confidence, row.reason)
            for stratum in row.at:
                for value in [*self.waiting[stratum]]:
                    queue = self.waiting[stratum][value]
                    heappush(agenda, heappop(queue))
                    if not queue:
                        del self.waiting[stratum][value]

    def left(self) -> Iterator[Placed]:
        """Rows for which there is no place."""
        for stratum in sorted(self.waiting):
            for value in sorted(self.waiting[stratum]):
                yield from (Placed(r.id, None, r.reason) for r in self.waiting[stratum][value])

    def _full(self, at: Mapping[Stratum, str]) -> Stratum | None:
        """The first stratum in which one more of a row's value would be guessed too often."""
        for stratum, value in at.items():
            count = self.counts[stratum]
            low, _ = wilson(count[value] + 1, count.total() + 1)
            if low > 1 / stratum.options + self.margin:
                return stratum
        return None


@dataclass(slots=True, order=True)
class _Waiting:
    turn: int
    id: str
    at: Mapping[Stratum, str]
    reason: str = ""
