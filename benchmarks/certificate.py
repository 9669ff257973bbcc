"""Whether a certificate keeps its word, and how much it lets one keep.

    python -m benchmarks.certificate [--workspace FOLDER] [--full]

Populations of chosen rows are drawn, each is calibrated many times from a fresh random sample of
verdicts, and the threshold is held against the truth about all its rows. Told are: how often there
is a certificate; the mean kept share, nothing where it is refused; the oracle's, which knows the
truth; their ratio; the most that any method with this promise can keep on average (`bound`); and
the share of calibrations that broke their promise, with Wilson's interval. A finished workspace on
phantoms (`--workspace`) adds its rounds' chosen rows, resampled by patient.

`--tune` compares settings on seeds of its own; reported are others. `--full` adds 100 and 400
verdicts to every table: docs/certificate.md is taken from that. Ends with one line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.optimize import brentq
from scipy.special import expit, logit

from engine.records import Decision, Image, Triplet
from engine.sql import Scan
from engine.statistics import wilson
from generators.phantoms.oracle import is_true
from reward_model import certificate
from reward_model.certificate import (
    Certificate,
    Opinion,
    candidates,
    certify,
    granted,
    least_verdicts,
    p_value,
)
from reward_model.threshold import OF_CHOICES

CONFIDENCE = 0.9
TARGETS = (0.9, 0.95)
ROWS = 2000  # of a drawn population
POPULATIONS, DRAWS = 20, 20  # calibrations of a cell: 400
Curve = Callable[
    [np.ndarray], np.ndarray
]  # place from the surest (0) to the least sure (1) → error


@dataclass(frozen=True)
class Population:
    """A round's chosen rows: all (N,), the surest first."""

    confidence: np.ndarray
    wrong: np.ndarray
    patient: np.ndarray
    group: np.ndarray | None = None

    def precision(self, threshold: float | None) -> float:
        """Of what a threshold keeps; NaN for nothing."""
        kept = self.kept(threshold)
        return float(1 - self.wrong[kept].mean()) if kept.any() else float("nan")

    def kept(self, threshold: float | None) -> np.ndarray:
        """Which rows reach it."""
        return self.confidence >= (np.inf if threshold is None else threshold)

    def oracle(self, target: float) -> float:
        """Share of the largest kept set that is as pure as the target."""
        places = np.arange(1, self.wrong.size + 1)
        fine = np.flatnonzero(1 - self.wrong.cumsum() / places >= target)
        return float(fine[-1] + 1) / self.wrong.size if fine.size else 0.0


CURVES: dict[str, Curve] = {
    "sharp": lambda u: 0.01 + 0.9 * expit((u - 0.75) / 0.06),  # good, then suddenly bad
    "even": lambda u: 0.005 + 0.45 * u**2,  # worse and worse
    "weak": lambda u: 0.01 + 0.25 * u,  # a judge that hardly ranks
    "pure": lambda u: np.full_like(u, 0.02),  # all is good
    "sure and wrong": lambda u: np.where(u < 0.1, 0.25, 0.01 + 0.5 * np.clip(u - 0.4, 0, 1)),
    "waves": lambda u: 0.06 + 0.05 * np.sin(12 * u),  # no order at all
}


def just_below(target: float, _: object = None) -> Population:
    """Each threshold keeps rows just below the target: every certificate is a broken promise."""
    wrong = np.diff(np.ceil(np.arange(ROWS + 1) * (1 - target + 0.002)))
    return Population(1 - np.arange(ROWS) / ROWS, wrong.astype(bool), np.arange(ROWS))


def drawn(curve: Curve, rng: np.random.Generator, rows: int = ROWS) -> Population:
    """A population of one row a patient."""
    places = (np.arange(rows) + 0.5) / rows
    return Population(1 - places, rng.random(rows) < curve(places), np.arange(rows))


def correlated(rng: np.random.Generator, patients: int = 250, each: int = 16) -> Population:
    """Many rows a patient, which mostly stand or fall together; all equally sure; 0.88 right."""
    wrong = np.repeat(rng.permutation(patients) < 0.12 * patients, each)
    wrong ^= rng.random(wrong.size) < 0.01
    order = rng.permutation(wrong.size)
    confidence = np.sort(rng.random(wrong.size))[::-1]
    return Population(confidence, wrong[order], np.repeat(np.arange(patients), each)[order])


def resampled(rows: Population, rng: np.random.Generator, number: int = ROWS) -> Population:
    """Patients of a real round drawn again, each time as another patient, to so many rows."""
    names = np.unique(rows.patient)
    places = [np.flatnonzero(rows.patient == name) for name in names]
    picked: list[np.ndarray] = []
    while sum(map(len, picked)) < number:
        picked.append(places[rng.integers(names.size)])
    patient = np.repeat(np.arange(len(picked)), [len(p) for p in picked])[:number]
    index = np.concatenate(picked)[:number]
    confidence = rows.confidence[index] + rng.random(number) * 1e-9  # no ties by drawing again
    confidence = np.clip(confidence, 0, 1)
    order = np.argsort(-confidence)
    group = None if rows.group is None else rows.group[index][order]
    return Population(confidence[order], rows.wrong[index][order], patient[order], group)


def sample(population: Population, verdicts: int, rng: np.random.Generator) -> np.ndarray:
    """Places of random rows, at most one a patient: the first of each in a random order."""
    order = rng.permutation(population.patient.size)
    _, first = np.unique(population.patient[order], return_index=True)
    return order[np.sort(first)[:verdicts]]


def opinions(population: Population, places: np.ndarray, names: np.ndarray) -> list[Opinion]:
    """What is said of rows, each as of the patient named."""
    group = population.group
    return [
        Opinion(
            confidence=float(population.confidence[p]),
            accepted=not population.wrong[p],
            patient=str(names[p]),
            group="" if group is None else str(group[p]),
        )
        for p in places
    ]


@dataclass
class Tally:
    """What calibrations of one cell came to."""

    runs: int = 0
    certified: int = 0
    broken: int = 0
    kept: float = 0.0
    oracle: float = 0.0

    def add(self, kept: float, oracle: float, certified: bool, broken: bool) -> None:
        """One calibration more."""
        self.runs += 1
        self.certified += certified
        self.broken += broken
        self.kept += kept
        self.oracle += oracle

    def shown(self) -> dict[str, Any]:
        """Shares, and the interval of the broken promises."""
        low, high = wilson(self.broken, self.runs)
        return {
            "runs": self.runs,
            "certified": self.certified / self.runs,
            "kept": self.kept / self.runs,
            "oracle": self.oracle / self.runs,
            "ratio": self.kept / self.oracle if self.oracle else None,
            "broken": self.broken / self.runs,
            "interval": (low, high),
        }


Maker = Callable[[np.random.Generator], Population]


def calibrations(
    maker: Maker, target: float, verdicts: int, seed: int
) -> Iterator[tuple[Population, Certificate]]:
    """Population and certificate of each calibration of a cell."""
    for number in range(POPULATIONS):
        population = maker(np.random.default_rng([seed, number]))
        chosen = {"": population.confidence}
        for draw in range(DRAWS):
            places = sample(population, verdicts, np.random.default_rng([seed, number, draw]))
            said = opinions(population, places, population.patient)
            yield population, certify(said, chosen, target, CONFIDENCE)[0]


def cell(maker: Maker, target: float, verdicts: int, seed: int) -> dict[str, Any]:
    """One line of the main table."""
    tally = Tally()
    for population, found in calibrations(maker, target, verdicts, seed):
        broken = found.granted and population.precision(found.threshold) < target
        tally.add(found.share, population.oracle(target), found.granted, broken)
    return tally.shown()


def raised(error: np.ndarray, mean: float) -> np.ndarray:
    """Error rates whose log-odds are lifted by as much, to a mean."""
    shift = brentq(lambda d: expit(logit(error) + d).mean() - mean, 0, 20)
    return np.asarray(expit(logit(error) + shift))


def bound(curve: Curve, target: float, verdicts: int, seed: int, draws: int = 2000) -> float:
    """The most that a method with this promise can keep on average, though it knew the curve.

    P(kept share ≥ s) is at most the power, at level 1 − CONFIDENCE, of the most powerful test of
    this population against one that differs from it as little as may be and of which every
    threshold that keeps s or more is a false promise (Neyman & Pearson). The mean kept share is the
    integral of that over s. Here the other population has the errors' log-odds lifted by as much on
    all rows up to s, and then to the target where errors are fewer.
    """
    places = (np.arange(2000) + 0.5) / 2000
    error = np.clip(curve(places), 1e-4, 1 - 1e-4)
    mean = error.cumsum() / np.arange(1, places.size + 1)
    limit = 1 - target
    fine = np.flatnonzero(mean <= limit)
    oracle = (fine[-1] + 1) / places.size if fine.size else 0.0
    rng = np.random.default_rng(seed)
    at = rng.integers(places.size, size=(draws, verdicts))
    chance = rng.random(at.shape)
    steps = np.linspace(0, oracle, 16)[1:]
    powers = []
    for s in steps:
        inside = places < s
        lifted = error.copy()
        if mean[inside.sum() - 1] < limit:
            lifted[inside] = raised(error[inside], limit)
        total = lifted[inside].sum()
        for place in np.flatnonzero(~inside):
            lifted[place] = max(lifted[place], limit * (place + 1) - total)
            total += lifted[place]
        wrong, right = np.log(error / lifted), np.log((1 - error) / (1 - lifted))
        ratio = [
            np.where(chance < e[at], wrong[at], right[at]).sum(axis=1) for e in (error, lifted)
        ]
        powers.append(np.mean(ratio[0] > np.quantile(ratio[1], CONFIDENCE)))
    inner = float(np.trapezoid([1.0, *powers], [0.0, *steps])) if oracle else 0.0
    return inner + (1 - CONFIDENCE) * (1 - oracle)


Method = Callable[
    [np.ndarray, np.ndarray, float, int], int
]  # falling confidence, wrong → kept rows


def grid(population: Population, at: np.ndarray, target: float, verdicts: int) -> Any:
    """Candidates of a population, and the verdicts and errors above each."""
    least = least_verdicts(target, CONFIDENCE)
    thresholds, shares = candidates(population.confidence, verdicts, least)
    above = population.confidence[at] >= thresholds[:, None]
    return thresholds, shares, above.sum(axis=1), (above & population.wrong[at]).sum(axis=1)


def loosest(passed: np.ndarray, thresholds: np.ndarray) -> float | None:
    """The last threshold that passed."""
    places = np.flatnonzero(passed)
    return float(thresholds[places[-1]]) if places.size else None


def chain(p: np.ndarray, level: float, starts: Iterable[int]) -> np.ndarray:
    """Fixed-sequence testing from each start, strict to loose, to the first that fails."""
    passed = np.zeros(p.size, dtype=bool)
    for start in starts:
        failed = np.flatnonzero(p[start:] > level)
        passed[start : start + failed[0] if failed.size else p.size] = True
    return passed


def by_method(name: str, population: Population, at: np.ndarray, target: float) -> float | None:
    """The threshold that a method finds in verdicts on the rows at some places."""
    alpha, m = 1 - CONFIDENCE, at.size
    thresholds, shares, n, k = grid(population, at, target, m)
    p = p_value(k, n, target)
    if name == "closed (used)":
        return loosest(granted(p, m, shares, target, CONFIDENCE), thresholds)
    if name == "one sequence, the same candidates":
        return loosest(chain(p, alpha, [0]), thresholds)
    if name == "three sequences, Bonferroni (MAPIE)":
        starts = sorted({round(x) for x in np.linspace(0, p.size, 4)[:-1]})
        return loosest(chain(p, alpha / len(starts), starts), thresholds)
    if name == "Holm":
        order = np.argsort(p)
        good = np.cumprod(p[order] <= alpha / np.arange(p.size, 0, -1)).astype(bool)
        passed = np.zeros(p.size, dtype=bool)
        passed[order[good]] = True
        return loosest(passed, thresholds)
    confidence, wrong = population.confidence[at], population.wrong[at]
    order = np.argsort(-confidence)
    if name == "one sequence, every threshold (pilot)":
        start = least_verdicts(target, CONFIDENCE) - 1
        count = np.arange(1, m + 1)[start:]
        p = p_value(wrong[order].cumsum()[start:], count, target)
        return loosest(chain(p, alpha, [0]), confidence[order][start:])
    if name == "betting, the same candidates":
        return loosest(
            chain(betting(confidence, wrong, thresholds, target), alpha, [0]), thresholds
        )
    return conformal(population, confidence, wrong, target)


def betting(
    confidence: np.ndarray, wrong: np.ndarray, thresholds: np.ndarray, target: float
) -> np.ndarray:
    """p-values of Waudby-Smith & Ramdas (2024): one over the most that a bettor had, (C,).

    The stake is what grows fastest at the error seen so far, in the order of the verdicts.
    """
    limit, found = 1 - target, []
    for threshold in thresholds:
        x = wrong[confidence >= threshold].astype(float)
        seen = (np.concatenate([[0.0], x.cumsum()[:-1]]) + 0.5 * limit) / (np.arange(x.size) + 1)
        stake = np.clip((limit - seen) / (limit * target), 0, 0.99 / target)
        wealth = np.cumprod(1 + stake * (limit - x))
        found.append(min(1.0, 1 / wealth.max(initial=1.0)))
    return np.array(found)


def conformal(
    population: Population, confidence: np.ndarray, wrong: np.ndarray, target: float
) -> float | None:
    """Conformal selection (Jin & Candès 2023): Benjamini–Hochberg on conformal p-values.

    The expected share of wrong rows among the kept is at most 1 − target; nothing is promised of a
    single dataset. Every chosen row is tested.
    """
    falling = population.confidence
    bad = np.sort(confidence[wrong])
    p = (1 + bad.size - np.searchsorted(bad, falling, side="left")) / (confidence.size + 1)
    passed = np.flatnonzero(p <= (1 - target) * np.arange(1, falling.size + 1) / falling.size)
    return float(falling[passed[-1]]) if passed.size else None


METHODS = (
    "closed (used)",
    "one sequence, every threshold (pilot)",
    "one sequence, the same candidates",
    "three sequences, Bonferroni (MAPIE)",
    "Holm",
    "betting, the same candidates",
    "conformal selection (another promise)",
)


def method_cell(name: str, maker: Maker, target: float, verdicts: int, seed: int) -> dict[str, Any]:
    """As `cell`, for a method by name and on the same samples."""
    tally = Tally()
    for number in range(POPULATIONS):
        population = maker(np.random.default_rng([seed, number]))
        oracle = population.oracle(target)
        for draw in range(DRAWS):
            at = sample(population, verdicts, np.random.default_rng([seed, number, draw]))
            threshold = by_method(name, population, at, target)
            kept = float(population.kept(threshold).mean())
            broken = kept > 0 and population.precision(threshold) < target
            tally.add(kept, oracle, threshold is not None, broken)
    return tally.shown()


def noisy(
    maker: Maker, error: float, target: float, verdicts: int, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Readers who say the wrong thing of a row this often: as they see it, and in truth."""
    seen, true = Tally(), Tally()
    for number in range(POPULATIONS):
        truth = maker(np.random.default_rng([seed, number]))
        flipped = np.random.default_rng([seed, number, 1]).random(truth.wrong.size) < error
        read = Population(truth.confidence, truth.wrong ^ flipped, truth.patient)
        for draw in range(DRAWS):
            at = sample(read, verdicts, np.random.default_rng([seed, number, draw]))
            said = opinions(read, at, read.patient)
            (found,) = certify(said, {"": read.confidence}, target, CONFIDENCE)
            for tally, population in ((seen, read), (true, truth)):
                broken = found.granted and population.precision(found.threshold) < target
                tally.add(found.share, population.oracle(target), found.granted, broken)
    return seen.shown(), true.shown()


def shifted(here: Maker, there: Maker, target: float, verdicts: int, seed: int) -> dict[str, Any]:
    """A threshold certified on one population, applied to another."""
    tally = Tally()
    for _, found in calibrations(here, target, verdicts, seed):
        other = there(np.random.default_rng([seed, tally.runs]))
        kept = other.kept(found.threshold)
        broken = bool(kept.any()) and other.precision(found.threshold) < target
        tally.add(float(kept.mean()), other.oracle(target), found.granted, broken)
    return tally.shown()


def clustered(independent: bool, target: float, verdicts: int, seed: int) -> dict[str, Any]:
    """Strongly correlated rows: one a patient, or all of few patients as if independent."""
    tally = Tally()
    for number in range(POPULATIONS):
        population = correlated(np.random.default_rng([seed, number]))
        names = np.arange(population.wrong.size) if independent else population.patient
        for draw in range(DRAWS):
            rng = np.random.default_rng([seed, number, draw])
            if independent:  # the readers work through whole patients
                order = rng.permutation(np.unique(population.patient))[: verdicts // 16 + 1]
                at = np.flatnonzero(np.isin(population.patient, order))[:verdicts]
            else:
                at = sample(population, verdicts, rng)
            said = opinions(population, at, names)
            (found,) = certify(said, {"": population.confidence}, target, CONFIDENCE)
            broken = found.granted and population.precision(found.threshold) < target
            tally.add(found.share, population.oracle(target), found.granted, broken)
    return tally.shown()


def again(once: bool, target: float, seed: int) -> dict[str, Any]:
    """Rows just below the target, asked about at 400 verdicts, or after each 50 until granted."""
    tally = Tally()
    for number in range(POPULATIONS):
        population = just_below(target)
        chosen = {"": population.confidence}
        for draw in range(DRAWS):
            places = sample(population, 400, np.random.default_rng([seed, number, draw]))
            said = opinions(population, places, population.patient)
            for verdicts in (400,) if once else range(50, 401, 50):
                (found,) = certify(said[:verdicts], chosen, target, CONFIDENCE)
                if found.granted:
                    break
            broken = found.granted and population.precision(found.threshold) < target
            tally.add(found.share, population.oracle(target), found.granted, broken)
    return tally.shown()


def rounds_of(workspace: Path) -> dict[int, Population]:
    """The chosen rows of each round of a finished run on phantoms, with the truth about them."""
    with Scan() as scan:
        for row_type in (Decision, Triplet, Image):
            shards = sorted((workspace / "events").rglob(f"{row_type.table}-*.parquet"))
            scan.table(row_type.table, row_type, shards)
        marks = ", ".join("?" * len(OF_CHOICES))
        decided = scan.rows(
            Decision, f"SELECT * FROM decisions WHERE reason IN ({marks})", OF_CHOICES
        )
        asked = "SELECT * FROM triplets WHERE id IN (SELECT triplet_id FROM decisions)"
        triplets = {t.id: t for t in scan.rows(Triplet, asked)}
        images = {image.id: image for image in scan.rows(Image, "SELECT * FROM images")}
    found = {}
    for number in sorted({d.round for d in decided}):
        of_round = sorted((d for d in decided if d.round == number), key=lambda d: -d.score)
        rows = [triplets[d.triplet_id] for d in of_round]
        found[number] = Population(
            np.array([d.score for d in of_round]),
            np.array([not is_true(images[t.image_id], t) for t in rows]),
            np.array([images[t.image_id].group for t in rows]),
            np.array([images[t.image_id].modality for t in rows]),
        )
    return found


def only(rows: Population, group: str) -> Population:
    """The rows of one group."""
    assert rows.group is not None
    mask = rows.group == group
    return Population(rows.confidence[mask], rows.wrong[mask], rows.patient[mask])


def curve_of(rows: Population, width: int = 25) -> Curve:
    """The errors of real rows by place, a running mean over so many rows."""
    padded = np.pad(rows.wrong.astype(float), width // 2, mode="edge")
    mean = np.convolve(padded, np.ones(width) / width, mode="valid")
    return lambda u: mean[np.minimum((u * mean.size).astype(int), mean.size - 1)]


def maker_of(what: Curve | Population) -> Maker:
    """Draws populations from a curve, or from real rows."""
    if isinstance(what, Population):
        plain = Population(what.confidence, what.wrong, what.patient)
        return lambda rng: resampled(plain, rng)
    return lambda rng: drawn(what, rng)


def line(*cells: object) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def told(r: dict[str, Any]) -> list[str]:
    """The figures of a cell as they are printed."""
    low, high = r["interval"]
    return [
        f"{r['certified']:.0%}",
        f"{r['kept']:.2f}",
        f"{r['oracle']:.2f}",
        "–" if r["ratio"] is None else f"{r['ratio']:.0%}",
        f"{r['broken']:.1%} ({low:.1%}–{high:.1%})",
    ]


HEAD = ("certified", "kept", "oracle's", "ratio", "broken promises (95 %)")


def table(*columns: str) -> None:
    """The head of a Markdown table."""
    print()
    print(line(*columns))
    print(line(*["---"] * len(columns)))


def main_table(makers: dict[str, Curve | Population], sizes: Iterable[int], seed: int) -> list[Any]:
    """Each population, target and number of verdicts."""
    table("rows", "target", "verdicts", *HEAD[:4], "bound", HEAD[4])
    found = []
    for name, what in makers.items():
        for target in TARGETS:
            for verdicts in sizes:
                result = cell(maker_of(what), target, verdicts, seed)
                curve = curve_of(what) if isinstance(what, Population) else what
                most = bound(curve, target, verdicts, seed)
                shown = told(result)
                print(line(name, target, verdicts, *shown[:4], f"{most:.2f}", shown[4]), flush=True)
                found.append({"rows": name, "target": target, "verdicts": verdicts, **result})
                found[-1]["bound"] = most
    for target in TARGETS:
        for verdicts in sizes:
            result = cell(partial(just_below, target), target, verdicts, seed)
            shown = told(result)
            print(line("just below", target, verdicts, *shown[:4], "–", shown[4]), flush=True)
            found.append({"rows": "just below", "target": target, "verdicts": verdicts, **result})
    return found


def method_table(makers: dict[str, Curve | Population], verdicts: int, seed: int) -> list[Any]:
    """Each method's share of the oracle's kept share, and the most promises it broke anywhere."""
    cells = list(product(makers, TARGETS))
    table("method", *(f"{rows}, {target}" for rows, target in cells), "most broken (95 %)")
    found = []
    for name in METHODS:
        of_method = []
        for rows, target in cells:
            result = method_cell(name, maker_of(makers[rows]), target, verdicts, seed)
            of_method.append({"method": name, "rows": rows, "target": target, **result})
        worst = max(of_method, key=lambda r: r["broken"])
        print(line(name, *(told(r)[3] for r in of_method), told(worst)[4]), flush=True)
        found += of_method
    return found


def noise_table(what: dict[str, Curve | Population], verdicts: int, seed: int) -> list[Any]:
    """Readers' errors: the promise is of precision as they see it."""
    table("rows", "readers' error", "target", "held against", *HEAD)
    found = []
    for rows, each in what.items():
        for error in (0.0, 0.05, 0.15):
            for target in (0.8, *TARGETS):
                seen, true = noisy(maker_of(each), error, target, verdicts, seed)
                for against, result in (("what they see", seen), ("the truth", true)):
                    print(line(rows, f"{error:.0%}", target, against, *told(result)), flush=True)
                    found.append({"rows": rows, "error": error, "target": target} | result)
                    found[-1]["against"] = against
    return found


def shift_table(pairs: dict[str, tuple[Maker, Maker]], verdicts: int, seed: int) -> list[Any]:
    """A certificate used for rows that it is not of."""
    table("certified on → used on", "target", *HEAD)
    found = []
    for name, (here, there) in pairs.items():
        for target in TARGETS:
            result = shifted(here, there, target, verdicts, seed)
            print(line(name, target, *told(result)), flush=True)
            found.append({"pair": name, "target": target, **result})
    return found


def patient_table(verdicts: int, seed: int) -> list[Any]:
    """Why the patient is the unit."""
    table("verdicts", "target", *HEAD)
    found = []
    for target in (0.85, *TARGETS):
        for independent, name in (
            (False, "one a patient"),
            (True, "16 a patient, as if independent"),
        ):
            result = clustered(independent, target, verdicts, seed)
            print(line(name, target, *told(result)), flush=True)
            found.append({"sample": name, "target": target, **result})
    return found


def again_table(seed: int) -> list[Any]:
    """Why a round is decided once: to ask until it is granted is another promise."""
    table("asked", "target", *HEAD)
    found = []
    for once, name in ((True, "once, at 400"), (False, "after each 50, until granted")):
        for target in TARGETS:
            result = again(once, target, seed)
            print(line(name, target, *told(result)), flush=True)
            found.append({"asked": name, "target": target, **result})
    return found


def tune(makers: dict[str, Curve | Population], seed: int) -> None:
    """Mean share of the oracle's, by setting."""
    settings = ((8, 1), (16, 3), (16, 4), (22, 5))
    cells = (f"{t}, {m}" for t in TARGETS for m in (100, 200, 400))
    table("candidates", "apart", "room", "tilt", *cells)
    for (number, apart), room, tilt in product(settings, (1.05, 1.15, 1.3), (0.25, 0.5)):
        certificate.CANDIDATES, certificate.APART = number, apart
        certificate.ROOM, certificate.TILT = room, tilt
        certificate._tests.cache_clear()
        shown = []
        for target in TARGETS:
            for verdicts in (100, 200, 400):
                ratios = [
                    method_cell(METHODS[0], maker_of(what), target, verdicts, seed)["ratio"]
                    for what in makers.values()
                ]
                shown.append(f"{np.mean([r for r in ratios if r is not None]):.3f}")
        print(line(number, apart, room, tilt, *shown), flush=True)


def main(
    workspace: Annotated[Path | None, typer.Option(help="a finished run on phantoms")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="100 and 400 verdicts in each table")
    ] = False,
    tuning: Annotated[
        bool, typer.Option("--tune", help="compare settings, on other seeds")
    ] = False,
    seed: int = 0,
) -> None:
    """Measure and print."""
    real = rounds_of(workspace) if workspace else {}
    makers: dict[str, Curve | Population] = {f"round {n}": rows for n, rows in real.items()}
    likely = {**makers, **{name: CURVES[name] for name in ("sharp", "even", "pure")}}
    if tuning:
        tune(likely, seed + 1000)
        return
    found: dict[str, Any] = {"main": main_table({**makers, **CURVES}, (100, 200, 400), seed)}
    for verdicts in (100, 200, 400) if full else (200,):
        print(f"\n{verdicts} verdicts")
        found[f"methods {verdicts}"] = method_table(likely, verdicts, seed)
        found[f"noise {verdicts}"] = noise_table({"sharp": CURVES["sharp"]}, verdicts, seed)
        pairs = {
            "sharp → even": (maker_of(CURVES["sharp"]), maker_of(CURVES["even"])),
            "pure → weak": (maker_of(CURVES["pure"]), maker_of(CURVES["weak"])),
        }
        if real:
            first, last = real[min(real)], real[max(real)]
            pairs["first round → last"] = (maker_of(first), maker_of(last))
            assert last.group is not None
            kinds = sorted(set(last.group))
            for a in kinds:
                for b in kinds:
                    if a != b:
                        pairs[f"{a} → {b}"] = (maker_of(only(last, a)), maker_of(only(last, b)))
        found[f"shift {verdicts}"] = shift_table(pairs, verdicts, seed)
        found[f"patients {verdicts}"] = patient_table(verdicts, seed)
    found["again"] = again_table(seed)
    print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
