"""How many tasks of which kind: shares and cells met with the images that there are.

Cells go first. What they leave free, and all other tasks, follow the shares; where an axis has
none, modality and question type follow the mix and anatomy is not asked for. Shares are of all
tasks, those of cells included, so that a cell of hard questions leaves fewer hard ones to others.

Modality, anatomy and question type hang together: an image has one modality and one anatomy, and
the mix is of both modality and type. Their table is the mix, fitted to the shares by iterative
proportional fitting (Deming and Stephan, Ann. Math. Statist. 11, 1940): the shares hold, and which
types are asked more of which modality stays the mix's. The other axes are dealt on their own.

Numbers are whole, and within one of their shares. What no image allows is not asked of another
cell instead: it is told as unfilled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.config.quotas import Named, Quotas, Value

CONTENT = ("modality", "anatomy", "question_type")  # what an image and the mix decide together
DEALT = ("difficulty", "answer_format", "style", "steps")
ANY = ""  # anatomy
NO_CELL = -1
FITTED = 500  # turns of fitting at most
NONE_LEFT = "the other shares leave no image for it"

Kind = tuple[str, str, str]  # modality, anatomy or ANY, question type
Shares = dict[str, dict[Value, float]]  # by axis


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a round's tasks are to be: how many, shares by axis, and cells with their numbers."""

    tasks: int
    shares: Shares
    cells: tuple[tuple[Named, int], ...] = ()


def wanted_of(tasks: int, styles: Mapping[Any, float], quotas: Quotas | None = None) -> Wanted:
    """What the configuration wants of `tasks` tasks; the defaults where no quotas are given."""
    quotas = quotas or Quotas()
    cells = tuple((cell.named, cell.number(tasks)) for cell in quotas.cells)
    return Wanted(tasks, quotas.shares() | {"style": dict(styles)}, cells)


@dataclass(frozen=True, slots=True)
class Unfilled:
    """Tasks that cannot be asked: what they have in common, how many, and why."""

    cell: Named
    tasks: int
    why: str

    def __str__(self) -> str:
        return f"{in_words(self.cell)}: {self.tasks} tasks are not asked, {self.why}"


def in_words(cell: Mapping[str, Value]) -> str:
    """A cell for a person: "modality CT, question type disease"."""
    return ", ".join(f"{axis.replace('_', ' ')} {value}" for axis, value in cell.items())


@dataclass(frozen=True, slots=True)
class Planned:
    """So many tasks of a kind, for the cell of that number in `Wanted.cells`, or for none."""

    kind: Kind
    cell: int
    tasks: int


def planned(
    wanted: Wanted,
    places: Mapping[tuple[str, str], int],
    mix: Mapping[str, float],
    types: Sequence[str],
    rng: np.random.Generator,
) -> tuple[list[Planned], list[Unfilled]]:
    """How many tasks of which modality, anatomy and question type, and what cannot be asked.

    `places` has the number of images by modality and anatomy, `mix` weights by "modality/type".
    """
    found: list[Planned] = []
    unfilled: list[Unfilled] = []
    for number, (cell, tasks) in enumerate(wanted.cells):
        named = {axis: {cell[axis]: 1.0} for axis in CONTENT if axis in cell}
        kinds, weights = _table(places, mix, types, wanted.shares.keys() | cell.keys(), named)
        if not kinds:
            unfilled.append(Unfilled(cell, tasks, _why_none(cell, places)))
            continue
        free = {a: s for a, s in wanted.shares.items() if a in CONTENT and a not in cell}
        targets = {
            axis: target
            for axis, shares in free.items()
            if (target := _within(kinds, axis, shares, tasks))
        }
        weights = fitted(kinds, weights, targets)
        if not weights.sum():
            unfilled.append(Unfilled(cell, tasks, NONE_LEFT))
            continue
        weights = weights * tasks / weights.sum()
        found += _counted(kinds, spread(weights, _margins(kinds, targets), rng), number)
    rest, lacking = _rest(wanted, found, places, mix, types, rng)
    return found + rest, unfilled + lacking


def _rest(
    wanted: Wanted,
    before: Sequence[Planned],
    places: Mapping[tuple[str, str], int],
    mix: Mapping[str, float],
    types: Sequence[str],
    rng: np.random.Generator,
) -> tuple[list[Planned], list[Unfilled]]:
    """The tasks of no cell: what the shares leave to them."""
    tasks = wanted.tasks - sum(number for _, number in wanted.cells)
    shares = {axis: s for axis, s in wanted.shares.items() if axis in CONTENT}
    targets = {}
    for axis, share in shares.items():
        used: dict[Value, float] = dict.fromkeys(share, 0.0)
        for one in before:
            used[_value(one.kind, axis)] = used.get(_value(one.kind, axis), 0.0) + one.tasks
        targets[axis] = left(share, used, wanted.tasks, tasks)
    kinds, weights = _table(places, mix, types, shares.keys(), shares)
    there = {axis: {_value(kind, axis) for kind in kinds} for axis in targets}
    unfilled = [
        Unfilled({axis: value}, whole, _why_none({axis: value}, places))
        for axis, target in targets.items()
        for value, number in target.items()
        if value not in there[axis] and (whole := round(number))
    ]
    # What an axis cannot fill is missing in all: the others' numbers shrink alike.
    can = {a: sum(t[v] for v in t if v in there[a]) for a, t in targets.items()}
    total = min([float(tasks), *can.values()])
    if not kinds or total < 0.5:
        return [], unfilled
    targets = {
        axis: {v: number * total / can[axis] for v, number in t.items() if v in there[axis]}
        for axis, t in targets.items()
    }
    weights = fitted(kinds, weights * total / weights.sum(), targets)
    for axis, target in targets.items():
        have = _sums(kinds, weights, axis)
        unfilled += [
            Unfilled({axis: value}, short, NONE_LEFT)
            for value, number in target.items()
            if (short := round(number - have.get(value, 0.0)))
        ]
    return _counted(kinds, spread(weights, _margins(kinds, targets), rng), NO_CELL), unfilled


def left(
    shares: Mapping[Value, float], used: Mapping[Value, float], of: int, tasks: int
) -> dict[Value, float]:
    """How many of `tasks` are of which value, so that of all `of`, with those `used`, shares hold.

    Where cells used more than a value's share, the others have less by the same factor.
    """
    total = sum(shares.values())
    open_ = {v: max(s / total * of - used.get(v, 0.0), 0.0) for v, s in shares.items()}
    scale = sum(open_.values())
    return {value: number * tasks / scale if scale else 0.0 for value, number in open_.items()}


def dealt(
    axis: str, wanted: Wanted, cells: np.ndarray, rng: np.random.Generator
) -> tuple[list[Value], np.ndarray]:
    """An axis's values, and of each task the place of its value among them.

    `cells` has of each task the number of the cell that it is for, NO_CELL where it is for none.
    """
    shares = wanted.shares[axis]
    named = [cell.get(axis) for cell, _ in wanted.cells]
    values = list(dict.fromkeys([*shares, *(value for value in named if value is not None)]))
    fixed = [-1 if value is None else values.index(value) for value in named]
    codes = np.array([*fixed, -1], np.int16)[cells]  # NO_CELL is the last
    free = np.flatnonzero(codes < 0)
    used = np.bincount(codes[codes >= 0], minlength=len(values))
    target = left(shares, dict(zip(values, used.tolist())), len(cells), len(free))
    counts = spread(np.array([target.get(value, 0.0) for value in values]), [], rng)
    codes[free] = rng.permutation(np.repeat(np.arange(len(values)), counts))
    return values, codes


def fitted(
    kinds: Sequence[Kind], weights: np.ndarray, targets: Mapping[str, Mapping[Value, float]]
) -> np.ndarray:
    """Weights whose sums by axis are the targets, and above none of them where they disagree."""
    margins = _margins(kinds, targets)
    for _ in range(FITTED):
        before = weights
        for labels, target in margins:
            weights = weights * _factor(labels, weights, target)[labels]
        if np.allclose(weights, before, rtol=1e-9, atol=1e-12):
            break
    for labels, target in margins:
        weights = weights * np.minimum(_factor(labels, weights, target), 1.0)[labels]
    return weights


Margin = tuple[np.ndarray, np.ndarray]  # of each kind the number of its value; targets by number


def _margins(kinds: Sequence[Kind], targets: Mapping[str, Mapping[Value, float]]) -> list[Margin]:
    found = []
    for axis, target in targets.items():
        number = {value: n for n, value in enumerate(target)}
        labels = np.array([number[_value(kind, axis)] for kind in kinds], int)
        found.append((labels, np.array(list(target.values()), float)))
    return found


def _factor(labels: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    have = np.bincount(labels, weights, len(target))
    return np.divide(target, have, out=np.zeros_like(target), where=have > 0)


def spread(weights: np.ndarray, margins: Sequence[Margin], rng: np.random.Generator) -> np.ndarray:
    """Whole numbers that add up as the weights do, each within one of its weight.

    What is left when all are rounded down goes one by one to those that lack most, by chance in
    proportion of it, where every margin lacks some too: so margins are met to less than one.
    """
    counts = np.floor(weights + 1e-9).astype(int)
    lacks = np.clip(weights - counts, 0.0, None)
    open_ = [target - np.bincount(labels, counts, len(target)) for labels, target in margins]
    for _ in range(round(float(weights.sum())) - int(counts.sum())):
        chance = lacks.copy()
        for (labels, _), short in zip(margins, open_):
            chance[short[labels] < 1e-9] = 0.0
        chance = chance if chance.sum() > 1e-9 else lacks
        if not chance.sum():
            break
        one = rng.choice(len(weights), p=chance / chance.sum())
        counts[one] += 1
        lacks[one] = 0.0
        for (labels, _), short in zip(margins, open_):
            short[labels[one]] -= 1
    return counts


def _table(
    places: Mapping[tuple[str, str], int],
    mix: Mapping[str, float],
    types: Sequence[str],
    axes: Collection[str],
    named: Mapping[str, Mapping[Value, float]],
) -> tuple[list[Kind], np.ndarray]:
    """The kinds that images allow, of what is `named` by axis alone, and their weight in the mix.

    Images share out a modality's weight among its anatomies. An anatomy is told apart where it is
    one of `axes`.
    """
    images: dict[str, int] = {}
    for (modality, _), number in places.items():
        images[modality] = images.get(modality, 0) + number
    apart = "anatomy" in axes
    spots = dict(places) if apart else {(modality, ANY): n for modality, n in images.items()}

    def allows(axis: str, value: Value) -> bool:
        return axis not in named or bool(named[axis].get(value))

    table = {
        (modality, anatomy, kind): mix.get(f"{modality}/{kind}", 0.0) * number / images[modality]
        for (modality, anatomy), number in sorted(spots.items())
        for kind in types
        if allows("modality", modality)
        and allows("anatomy", anatomy)
        and allows("question_type", kind)
    }
    if table and not any(table.values()):
        table = dict.fromkeys(table, 1.0)  # asked for, whatever the mix has of it
    kinds = [kind for kind, weight in table.items() if weight]
    return kinds, np.array([table[kind] for kind in kinds])


def _within(
    kinds: Sequence[Kind], axis: str, shares: Mapping[Value, float], tasks: int
) -> dict[Value, float]:
    """Shares of the values that there are, as numbers of tasks; of others one that is 0."""
    there = {_value(kind, axis) for kind in kinds}
    total = sum(shares.get(value, 0.0) for value in there)
    return {v: shares.get(v, 0.0) / total * tasks for v in sorted(there)} if total else {}


def _value(kind: Kind, axis: str) -> str:
    return kind[CONTENT.index(axis)]


def _sums(kinds: Sequence[Kind], weights: np.ndarray, axis: str) -> dict[Value, float]:
    sums: dict[Value, float] = {}
    for kind, weight in zip(kinds, weights):
        sums[_value(kind, axis)] = sums.get(_value(kind, axis), 0.0) + float(weight)
    return sums


def _counted(kinds: Sequence[Kind], counts: np.ndarray, cell: int) -> list[Planned]:
    return [Planned(k, cell, int(n)) for k, n in zip(kinds, counts) if n]


def _why_none(cell: Named, places: Mapping[tuple[str, str], int]) -> str:
    """Why no image is of a cell's modality and anatomy."""
    for axis, place in (("modality", 0), ("anatomy", 1)):
        there = sorted({spot[place] for spot in places} - {""})
        if axis in cell and cell[axis] not in there:
            some = ", ".join(there[:8]) or "none"
            return f"no training image has this {axis} (there are: {some})"
    return "no training image has this modality and this anatomy"
