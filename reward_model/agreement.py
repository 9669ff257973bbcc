"""How far readers agree: with each other, with the rest, and with themselves.

Each value is 1 − D/E, the disagreement that was observed over that of chance:

    Cohen's kappa (1960), of two readers        E from each one's own share of the words
    Krippendorff's alpha (2011), nominal,       E from all words together, pairs without repetition;
    of any number, also where some are missing  a unit with one word has no pair and does not count

1 is full agreement and 0 is chance. Intervals are of 95 %, percentiles over patients drawn again:
what is said of one patient's rows stands or falls together. "Cannot tell" is a word like others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from engine.statistics import wilson
from reward_model.criteria import CRITERIA
from reward_model.verdicts import (
    FIRST,
    PREFERENCE,
    PREFERENCES,
    SECOND,
    VERDICT,
    VERDICTS,
    Answer,
)

RESAMPLES = 2000
Words = dict[str, dict[str, str]]  # by unit and reader what was said
Disagreement = tuple[np.ndarray, np.ndarray]  # observed and by chance


@dataclass(frozen=True)
class Estimate:
    """A measure of agreement; None where it is not defined: all say one word, or of one patient."""

    value: float | None
    low: float | None
    high: float | None
    agreed: float  # share of pairs of words that are equal, 0 to 1
    units: int  # rows, or pairs of rows
    patients: int


@dataclass(frozen=True)
class Pair:
    """Two readers, and Cohen's kappa of what both answered."""

    one: str
    two: str
    kappa: Estimate


@dataclass(frozen=True)
class Reader:
    """A reader beside what most of the rest say, and beside their own first answer."""

    name: str
    answers: int
    rest: Estimate | None  # kappa; where the rest are divided evenly nothing counts
    itself: Estimate | None  # kappa of repeats with the first answers


@dataclass(frozen=True)
class Agreement:
    """How far readers agree in verdicts, or in preferences by a criterion."""

    of: str  # verdict, or the criterion
    alpha: Estimate | None  # Krippendorff's; None where no two answered the same
    pairs: tuple[Pair, ...]
    readers: tuple[Reader, ...]


def agreements(
    answers: Iterable[Answer], patient_of: Mapping[str, str], seed: int = 0
) -> list[Agreement]:
    """Of verdicts and of each criterion, where two readers answered one question or one did twice.

    `answers` are those that count; `patient_of` is the patient (`Image.group`) by triplet, and what
    is about others is left out. Two items about one row are one question here, and so are two
    orders of a pair.
    """
    known = [a for a in answers if a.triplet_id in patient_of]
    patients: dict[str, str] = {}
    found = []
    for of, words in (("verdict", VERDICTS), *((c, PREFERENCES) for c in CRITERIA)):
        first: Words = defaultdict(dict)
        again: Words = defaultdict(dict)
        for answer in known:
            unit, word = _said(answer, of)
            if word:
                patients[unit] = patient_of[answer.triplet_id]
                (again if answer.repeat else first)[unit][answer.reader] = word
        measured = _Measured(words, patients, seed)
        agreement = _agreement(of, first, again, measured)
        if agreement.alpha or any(reader.itself for reader in agreement.readers):
            found.append(agreement)
    return found


def _said(answer: Answer, of: str) -> tuple[str, str]:
    """(what was asked, what was said of it), whichever of a pair was the first."""
    if of == VERDICT:
        return answer.triplet_id, answer.verdict if answer.kind == VERDICT else ""
    if answer.kind != PREFERENCE:
        return "", ""
    word, (one, two) = answer.preferences.get(of, ""), (answer.triplet_id, answer.other_id)
    if one > two:
        one, two = two, one
        word = {FIRST: SECOND, SECOND: FIRST}.get(word, word)
    return f"{one}/{two}", word


def _agreement(of: str, first: Words, again: Words, measured: _Measured) -> Agreement:
    names = sorted({name for said in (*first.values(), *again.values()) for name in said})
    pairs = []
    for one, two in combinations(names, 2):
        kappa = measured.kappa(
            {u: (s[one], s[two]) for u, s in first.items() if one in s and two in s}
        )
        if kappa:
            pairs.append(Pair(one, two, kappa))
    readers = []
    for name in names:
        twice = {u: (s[name], again[u][name]) for u, s in first.items() if name in s and u in again
                 and name in again[u]}  # fmt: skip
        rest = {u: (s[name], most) for u, s in first.items() if name in s
                and (most := _most([w for n, w in s.items() if n != name]))}  # fmt: skip
        number = sum(name in said for said in first.values())
        readers.append(Reader(name, number, measured.kappa(rest), measured.kappa(twice)))
    return Agreement(of, measured.alpha(first), tuple(pairs), tuple(readers))


def _most(words: list[str]) -> str:
    """The word that is said most often; none where several are."""
    counted = Counter(words).most_common(2)
    if not counted or (len(counted) > 1 and counted[0][1] == counted[1][1]):
        return ""
    return counted[0][0]


@dataclass(frozen=True)
class _Measured:
    """Measures over words, with patients drawn again."""

    words: tuple[str, ...]
    patients: Mapping[str, str]
    seed: int

    def kappa(self, said: Mapping[str, tuple[str, str]]) -> Estimate | None:
        """Cohen's kappa of two words a unit; None where there is no unit."""
        tables = {unit: _table(self.words, [pair], 1.0) for unit, pair in said.items()}
        return self._estimate(tables, of_kappa)

    def alpha(self, said: Mapping[str, Mapping[str, str]]) -> Estimate | None:
        """Krippendorff's alpha of any number of words a unit; None where no unit has two."""
        tables = {}
        for unit, by_reader in said.items():
            words = list(by_reader.values())
            if len(words) > 1:
                two = [(a, b) for i, a in enumerate(words) for j, b in enumerate(words) if i != j]
                tables[unit] = _table(self.words, two, 1 / (len(words) - 1))
        return self._estimate(tables, of_alpha)

    def _estimate(
        self, tables: Mapping[str, np.ndarray], of: Callable[[np.ndarray], Disagreement]
    ) -> Estimate | None:
        """The measure of the sum of tables of words (C, C), one a unit."""
        if not tables:
            return None
        names = [self.patients[unit] for unit in tables]
        _, member = np.unique(names, return_inverse=True)
        k, size = int(member.max()) + 1, len(self.words)
        each = np.zeros((k, size, size))
        np.add.at(each, member, np.stack(list(tables.values())))
        total = each.sum(axis=0)
        observed, chance = of(total)
        value = _ratio(observed, chance)
        low = high = None
        if value is not None and k > 1:
            low, high = self._interval(each, of, float(chance), value)
        agreed = float(np.trace(total) / total.sum())
        return Estimate(value, low, high, agreed, len(tables), k)

    def _interval(
        self,
        each: np.ndarray,
        of: Callable[[np.ndarray], Disagreement],
        chance: float,
        value: float,
    ) -> tuple[float, float]:
        """Where each draw agrees, Wilson's bound for as many patients stands in for the lower."""
        k = len(each)
        drawn = np.random.default_rng(self.seed).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
        tables = (drawn @ each.reshape(k, -1)).reshape(-1, *each.shape[1:])
        observed, expected = of(tables)
        defined = expected > 0
        found = 1 - observed[defined] / expected[defined]
        low, high = (float(v) for v in np.quantile(found, [0.025, 0.975]))
        if value == 1:
            low = min(low, 1 - (1 - wilson(k, k)[0]) / chance)
        return low, high


def _ratio(observed: np.ndarray, chance: np.ndarray) -> float | None:
    return float(1 - observed / chance) if chance > 0 else None


def _table(words: tuple[str, ...], pairs: Iterable[tuple[str, str]], weight: float) -> np.ndarray:
    """How often one word stands against another, (C, C)."""
    table = np.zeros((len(words), len(words)))
    for one, two in pairs:
        table[words.index(one), words.index(two)] += weight
    return table


def of_kappa(tables: np.ndarray) -> Disagreement:
    """Disagreement of Cohen's kappa, of tables (…, C, C) of one reader's words by the other's.

    D = 1 − Σ p(c, c) and E = 1 − Σ p(c, ·) p(·, c).
    """
    n = np.maximum(tables.sum(axis=(-2, -1)), 1e-300)
    same = np.trace(tables, axis1=-2, axis2=-1) / n
    by_chance = (tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1) / n**2
    return 1 - same, _above_zero(1 - by_chance)


def of_alpha(tables: np.ndarray) -> Disagreement:
    """Disagreement of Krippendorff's alpha, of coincidences (…, C, C), which are symmetric.

    D = 1 − Σ o(c, c)/n and E = 1 − Σ n(c)(n(c) − 1)/(n(n − 1)), n(c) being the sum of row c.
    """
    counts = tables.sum(axis=-1)
    n = counts.sum(axis=-1)
    same = np.trace(tables, axis1=-2, axis2=-1) / np.maximum(n, 1e-300)
    by_chance = (counts * (counts - 1)).sum(axis=-1) / np.maximum(n * (n - 1), 1e-300)
    return 1 - same, _above_zero(1 - by_chance)


def _above_zero(values: np.ndarray) -> np.ndarray:
    """Without what rounding leaves of zero."""
    return np.where(np.abs(values) < 1e-12, 0.0, values)


def recorded(found: Iterable[Agreement]) -> list[dict[str, Any]]:
    """How far all readers agree, as a stage's metrics hold it (`engine.caveats.of_readers`)."""
    told = []
    for agreement in found:
        if all_readers := agreement.alpha:
            numbers = {name: getattr(all_readers, name) for name in ("low", "high")}
            numbers |= {"alpha": all_readers.value, "equal": all_readers.agreed}
            rounded = {k: None if v is None else round(v, 4) for k, v in numbers.items()}
            beside = {name for pair in agreement.pairs for name in (pair.one, pair.two)}
            told.append(
                {
                    "of": agreement.of,
                    "readers": len(beside),
                    "asked": all_readers.units,
                    "patients": all_readers.patients,
                }
                | rounded
            )
    return told


HEAD = ("", "kappa or alpha", "95 %", "equal", "asked", "patients")


def lines_of(agreement: Agreement) -> list[tuple[str, ...]]:
    """An agreement as lines below HEAD, for a table: all readers, each two, each and the rest."""
    lines = [("all, Krippendorff's alpha", agreement.alpha)] if agreement.alpha else []
    lines += [(f"{pair.one} and {pair.two}", pair.kappa) for pair in agreement.pairs]
    if len(agreement.readers) > 2:  # of two, the other is the rest
        rest = [(f"{r.name} and most of the rest", r.rest) for r in agreement.readers if r.rest]
        lines += rest
    lines += [(f"{r.name}, a second time", r.itself) for r in agreement.readers if r.itself]
    return [(who, *_told(found)) for who, found in lines]


def _told(found: Estimate) -> tuple[str, ...]:
    value = "–" if found.value is None else f"{found.value:.2f}"
    between = "–" if found.low is None else f"{found.low:.2f} to {found.high:.2f}"
    return value, between, f"{found.agreed:.0%}", str(found.units), str(found.patients)
