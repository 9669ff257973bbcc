"""How good a judge is, by what experts said of patients that it never learned from.

Three sets of patients (`reward_model.patient_sets`) have a use each: `calibrate` makes scores
probabilities, `gate` decides whether the judge is better than chance and whether it takes an older
one's place, and `report` is what is told, and decides nothing.

Verdicts on single rows count before pairs: pairs are half right by construction, and rows that a
generator wrote are not. Where a set has too few of either, a wider one stands in (WIDER), and the
figures name the sets that they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import TriptychError
from engine.statistics import auc, auc_gains, auc_interval, verdict_of
from engine.trainer import read_training_set
from engine.vlm.protocol import Request
from reward_model.calibration import (
    brier,
    calibration_error,
    fit_platt,
    fit_with_logprob,
    log_loss,
    probability_with,
)
from reward_model.criteria import CRITERIA
from reward_model.patient_sets import CALIBRATE, GATE, REPORT
from reward_model.scoring import Judge
from reward_model.verdicts import RANDOM

Sets = tuple[str, ...]
Fitted = tuple[tuple[float, float], tuple[float, float, float] | None]  # as JudgeSettings has them

BATCH = 64  # rows whose pictures are in memory at once
ENOUGH = 10  # rows that are right, and as many that are wrong, of
PATIENTS = 5  # patients at least
VERDICTS, PAIRS, REASONED = "verdicts", "pairs", "rows with reasoning"
WIDER = {  # which sets stand in where a set has too little, in this order
    CALIBRATE: ((CALIBRATE,), (CALIBRATE, GATE, REPORT)),
    GATE: ((GATE,), (GATE, REPORT), (CALIBRATE, GATE, REPORT)),
    REPORT: ((REPORT,), (GATE, REPORT), (CALIBRATE, GATE, REPORT)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A judge's overall score against what is right, on some sets of patients.

    `on` is what was scored, verdicts or pairs, and `n` how many, of so many `patients` of `sets`.
    An AUC and its 95 % interval from resampling patients are None where there is nothing.
    """

    on: str
    sets: tuple[str, ...]
    n: int
    patients: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None

    def to_dict(self) -> dict[str, Any]:
        """As the record has it."""
        return asdict(self) | {"sets": list(self.sets)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What frozen patients say of a judge.

    `report` and `gate` are of those sets, `by_kind` of verdicts and of pairs where `report` is,
    whichever it is of. `pairwise` is the share of all frozen pairs that are
    ordered right by their own criterion (None without any), and `unscored` of the `frozen` examples
    have no finite score. `calibration` is Platt's slope and offset, by which a score is the
    probability that an expert accepts, found on `calibrated_on`; `ece` is how far that is off on
    average (equal-mass bins) and `brier` its mean squared error, both where `report` is.
    `with_logprob` are slope, weight and offset of score and the generator's log-probability
    together, found on `calibrate`, and `joint` what they are worth on the report; None where the
    gate's verdicts are not likelier by both than by the score alone.
    `reasoning` are the slope and offset for the reasoning criterion alone, found on `calibrate`;
    None where it is not better than chance on the gate, whose figures `reasoning_gate` are.
    `precision` is the share of the report's random verdicts that accept, and `rounds` has AUC, ECE
    and precision of the report's verdicts of each round.
    """

    report: Figures
    gate: Figures
    pairwise: float | None
    frozen: int
    unscored: int
    calibration: tuple[float, float]
    calibrated_on: str
    ece: float | None
    brier: float | None
    precision: float | None
    with_logprob: tuple[float, float, float] | None = None
    joint: Figures | None = None
    reasoning: tuple[float, float] | None = None
    reasoning_gate: Figures | None = None
    by_kind: tuple[Figures, ...] = ()
    rounds: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the record has it: the report's figures by themselves, the gate's under `gate`."""
        mine = asdict(self) | {"gate": self.gate.to_dict(), "rounds": list(self.rounds)}
        for name in ("reasoning", "with_logprob"):
            mine[name] = list(mine[name]) if mine[name] else None
        for name, figures in (("reasoning_gate", self.reasoning_gate), ("joint", self.joint)):
            mine[name] = figures.to_dict() if figures else None
        del mine["report"], mine["by_kind"]
        mine |= {figures.on: figures.to_dict() for figures in self.by_kind}
        return self.report.to_dict() | mine | {"calibration": list(self.calibration)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether a refined judge takes the old one's place: both on the same rows of the gate.

    `gain` is the new AUC less the old one, with its 90 % interval from resampling patients. The new
    one is `better` where the interval lies above zero, and `worse` where it is in three of four
    resamples: it has seen more, so that it need not prove itself, and a gate has few patients, so
    that proof of harm would come too late. Nothing to compare on: `unknown`, and the old one stays.
    """

    verdict: str
    on: str
    sets: tuple[str, ...]
    n: int
    gain: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def passes(self) -> bool:
        return self.verdict in ("better", "not worse")

    def to_dict(self) -> dict[str, Any]:
        """As the record has it."""
        return asdict(self) | {"sets": list(self.sets)}


@dataclass(frozen=True, slots=True)
class Scored:
    """Frozen examples with what a judge makes of them.

    `first` and `second` are (N, 3) logits, NaN where there is no second row or no finite score, and
    `overall` (2, N) their weighted means. `logprob` (2, N) are the generator's log-probabilities,
    NaN where none is known: of second rows never.
    """

    rows: list[dict[str, Any]]
    first: np.ndarray
    second: np.ndarray
    overall: np.ndarray
    logprob: np.ndarray


@dataclass(frozen=True, slots=True)
class Evidence:
    """Rows that are right or wrong: their places in `Scored.overall`, and whose they are."""

    on: str
    sets: tuple[str, ...]
    place: np.ndarray  # (M, 2): side and example
    right: np.ndarray  # (M,) of truth values
    patients: np.ndarray  # (M,)

    @property
    def number(self) -> int:
        """Verdicts, or pairs."""
        return len(self.right) // (2 if self.on == PAIRS else 1)

    @property
    def enough(self) -> bool:
        right = int(self.right.sum())
        least = min(right, len(self.right) - right)
        return least >= ENOUGH and len(set(self.patients)) >= PATIENTS

    def of(self, scored: Scored) -> np.ndarray:
        """(M,) overall scores."""
        return np.asarray(scored.overall[self.place[:, 0], self.place[:, 1]])

    def logprobs(self, scored: Scored) -> np.ndarray:
        """(M,) log-probabilities of the generator; NaN where none is known."""
        return np.asarray(scored.logprob[self.place[:, 0], self.place[:, 1]])

    def chance(self, scored: Scored, fitted: Fitted) -> np.ndarray:
        """(M,) calibrated probabilities that an expert accepts."""
        return probability_with(self.of(scored), self.logprobs(scored), *fitted)

    def where(self, chosen: np.ndarray) -> Evidence:
        """Those that are chosen, by a mask."""
        return Evidence(
            self.on, self.sets, self.place[chosen], self.right[chosen], self.patients[chosen]
        )


def scored(judge: Judge, data: Path, pixels: Mapping[str, bytes]) -> Scored:
    """A judge's scores of a training set (`reward_model.rows`).

    `pixels` are PNG bytes by id, read a batch at a time. Raises TriptychError where there are rows
    and none has a finite score.
    """
    rows = read_training_set(data).to_list()
    first, second = (_logits(judge, rows, side, pixels) for side in ("first", "second"))
    if rows and not np.isfinite(first).all(1).any():
        raise TriptychError(
            f"the judge has no finite score for any of {len(rows)} frozen examples: lower reward.lr"
        )
    logprob = np.full((2, len(rows)), np.nan)
    logprob[0] = [np.nan if row["logprob"] is None else row["logprob"] for row in rows]
    overall = np.stack([judge.overall(s) for s in (first, second)])
    return Scored(rows, first, second, overall, logprob)


def measure(scored: Scored, used: Fitted | None = None) -> Measurement:
    """What frozen examples say of the judge that scored them.

    `used` are the calibrations that it was used with; without them they are found on the set
    calibrate.
    """
    calibrate, gate, report = (
        evidence_of(scored, name, [scored]) for name in (CALIBRATE, GATE, REPORT)
    )
    fitted = used or _fitted(scored, calibrate)
    found_on = f"{calibrate.number} {calibrate.on} of {', '.join(calibrate.sets)}"
    chance = report.chance(scored, fitted)
    missing = [
        not np.isfinite(scored.overall[: 1 + (row["second"] is not None), place]).all()
        for place, row in enumerate(scored.rows)
    ]
    told = chance.size > 0
    reasoned, reasoning_gate = _reasoning(scored)
    return Measurement(
        report=_figures(report, scored),
        gate=_figures(gate, scored),
        pairwise=_pairwise(scored),
        frozen=len(scored.rows),
        unscored=sum(missing),
        calibration=fitted[0],
        calibrated_on="as it was" if used else found_on,
        ece=round(calibration_error(chance, report.right), 4) if told else None,
        brier=round(brier(chance, report.right), 4) if told else None,
        precision=_precision(scored, report),
        with_logprob=fitted[1],
        joint=_joint(scored, report.sets, fitted),
        reasoning=reasoned,
        reasoning_gate=reasoning_gate,
        by_kind=tuple(
            _figures(read(scored, report.sets, [scored]), scored) for read in (_verdicts, _pairs)
        ),
        rounds=tuple(_by_round(scored, report, fitted)),
    )


def compared(before: Scored, after: Scored) -> Gate:
    """The gate's paired test of two judges, on the rows that both could score."""
    return verdict_on(evidence_of(after, GATE, [before, after]), before, after)


def verdict_on(both: Evidence, before: Scored, after: Scored) -> Gate:
    """The paired test on some rows, which both judges could score."""
    if both.right.all() or not both.right.any():
        return Gate(verdict="unknown", on=both.on, sets=both.sets, n=both.number)
    gain, drawn = auc_gains(both.of(before), both.of(after), both.right, both.patients, seed=0)
    verdict, low, high = verdict_of(drawn)
    told = {"gain": gain, "low": low, "high": high}
    rounded = {name: round(value, 4) for name, value in told.items()}
    return Gate(verdict=verdict, on=both.on, sets=both.sets, n=both.number, **rounded)


def _fitted(scored: Scored, calibrate: Evidence) -> Fitted:
    """Calibrations of the score, and of it with the log-probability, if the gate speaks for that.

    That is where verdicts of the gate, none of which the fit has seen, are likelier by both.
    """
    alone = fit_platt(calibrate.of(scored), calibrate.right), None
    gate, some = (evidence_of(scored, s, [_known(scored)], (_verdicts,)) for s in (GATE, CALIBRATE))
    if not (gate.enough and some.enough) or set(gate.sets) & set(some.sets):
        return alone
    both = alone[0], fit_with_logprob(some.of(scored), some.logprobs(scored), some.right)
    losses = [log_loss(gate.chance(scored, fitted), gate.right) for fitted in (alone, both)]
    return both if losses[1] < losses[0] else alone


def _joint(scored: Scored, sets: Sets, fitted: Fitted) -> Figures | None:
    """What the score with the log-probability is worth on verdicts of `sets`."""
    if fitted[1] is None:
        return None
    verdicts = _verdicts(scored, sets, [_known(scored)])
    slope, weight, _ = fitted[1]
    both = replace(scored, overall=slope * scored.overall + weight * scored.logprob)
    return _figures(verdicts, both)


def _known(scored: Scored) -> Scored:
    """Without the scores of rows of which no log-probability is known."""
    return replace(scored, overall=np.where(np.isnan(scored.logprob), np.nan, scored.overall))


def _reasoning(scored: Scored) -> tuple[tuple[float, float] | None, Figures]:
    """The calibration of the reasoning criterion, if the gate shows that it is worth something."""
    at = CRITERIA.index("reasoning")
    alone = replace(scored, overall=np.stack([scored.first[:, at], scored.second[:, at]]))
    gate, calibrate = (evidence_of(alone, s, [alone], (_reasoned,)) for s in (GATE, CALIBRATE))
    figures = _figures(gate, alone)
    if not (gate.enough and calibrate.enough) or (figures.auc_low or 0.0) <= 0.5:
        return None, figures
    return fit_platt(calibrate.of(alone), calibrate.right), figures


def evidence_of(
    scored: Scored, name: str, judges: list[Scored], kinds: tuple[Read, ...] | None = None
) -> Evidence:
    """What there is of a set, of the first wider one where it is too little, or of the widest.

    Without rows that one of `judges` could not score: all have scored the same rows. `kinds` are
    verdicts before pairs, unless others are named.
    """
    for sets in WIDER[name]:
        found = [read(scored, sets, judges) for read in kinds or (_verdicts, _pairs)]
        for some in found:
            if some.enough:
                return some
    return next((some for some in found if len(set(some.right)) == 2), found[-1])


Read = Callable[[Scored, Sets, list[Scored]], Evidence]


def _verdicts(scored: Scored, sets: Sets, judges: list[Scored]) -> Evidence:
    """Rows that most readers accept or reject."""

    def told(place: int, row: dict[str, Any]) -> Iterator[tuple[int, int, bool]]:
        if row["accepted"] is not None and row["accepted"] != 0.5:
            yield 0, place, row["accepted"] > 0.5

    return _evidence(VERDICTS, scored, sets, judges, told)


def _pairs(scored: Scored, sets: Sets, judges: list[Scored]) -> Evidence:
    """Of pairs by factuality the better row as right and the other as wrong."""

    def told(place: int, row: dict[str, Any]) -> Iterator[tuple[int, int, bool]]:
        if row["second"] is not None and row[CRITERIA[0]] == 1.0:
            yield from ((0, place, True), (1, place, False))

    return _evidence(PAIRS, scored, sets, judges, told)


def _reasoned(scored: Scored, sets: Sets, judges: list[Scored]) -> Evidence:
    """Rows whose reasoning readers find sound or not, and both of pairs by reasoning."""

    def told(place: int, row: dict[str, Any]) -> Iterator[tuple[int, int, bool]]:
        said = row[CRITERIA[1]]
        if row["second"] is not None and said == 1.0:
            yield from ((0, place, True), (1, place, False))
        elif row["second"] is None and said is not None and said != 0.5:
            yield 0, place, said > 0.5

    return _evidence(REASONED, scored, sets, judges, told)


def _evidence(
    on: str,
    scored: Scored,
    sets: Sets,
    judges: list[Scored],
    told: Callable[[int, dict[str, Any]], Iterator[tuple[int, int, bool]]],
) -> Evidence:
    found = [
        (*said, row["patient"])
        for place, row in enumerate(scored.rows)
        if row["set"] in sets
        for some in [list(told(place, row))]
        if all(np.isfinite(judge.overall[side, at]) for judge in judges for side, at, _ in some)
        for said in some
    ]
    places = np.array([(side, place) for side, place, _, _ in found], int).reshape(-1, 2)
    right = np.array([right for _, _, right, _ in found], bool)
    return Evidence(on, sets, places, right, np.array([whose for *_, whose in found]))


def _figures(evidence: Evidence, scored: Scored) -> Figures:
    scores, right = evidence.of(scored), evidence.right
    both = bool(right.any()) and not right.all()
    low, high = auc_interval(scores, right, evidence.patients, seed=0) if both else (None, None)
    return Figures(
        on=evidence.on,
        sets=evidence.sets,
        n=evidence.number,
        patients=len(set(evidence.patients)),
        auc=round(auc(scores, right), 4) if both else None,
        auc_low=None if low is None else round(low, 4),
        auc_high=None if high is None else round(high, 4),
    )


def _pairwise(scored: Scored) -> float | None:
    """Of frozen pairs the share whose better row has the higher score by the pair's criterion.

    A pair without a finite score counts as one that the judge got wrong.
    """
    ordered = [
        scored.first[place, n] > scored.second[place, n]
        for place, row in enumerate(scored.rows)
        if row["second"] is not None
        for n, name in enumerate(CRITERIA)
        if row[name] == 1.0
    ]
    return round(float(np.mean(ordered)), 4) if ordered else None


def _precision(scored: Scored, report: Evidence) -> float | None:
    """The share of the report's random verdicts that accept."""
    if report.on != VERDICTS:
        return None
    drawn = [scored.rows[place]["stream"] == RANDOM for _, place in report.place]
    some = report.right[np.array(drawn, bool)]
    return round(float(some.mean()), 4) if some.size else None


def _by_round(scored: Scored, report: Evidence, fitted: Fitted) -> Iterator[dict[str, Any]]:
    """AUC, ECE and precision of each round's verdicts of the report: how the judge drifts."""
    if report.on != VERDICTS:
        return
    rounds = np.array([scored.rows[place]["round"] for _, place in report.place])
    for number in np.unique(rounds):
        some = report.where(rounds == number)
        chance = some.chance(scored, fitted)
        mine = _figures(some, scored).to_dict()
        yield {
            "round": int(number),
            "ece": round(calibration_error(chance, some.right), 4),
            "precision": _precision(scored, some),
            **{name: mine[name] for name in ("n", "auc", "auc_low", "auc_high")},
        }


def _logits(
    judge: Judge, rows: list[dict[str, Any]], side: str, pixels: Mapping[str, bytes]
) -> np.ndarray:
    """(N, 3) logits of one side of the examples, in the order of CRITERIA; NaN where it is none."""
    found = np.full((len(rows), len(CRITERIA)), np.nan)
    there = [place for place, row in enumerate(rows) if row[side] is not None]
    for low in range(0, len(there), BATCH):
        part = there[low : low + BATCH]
        asked = [Request(pixels[rows[p]["image_id"]], rows[p][side]) for p in part]
        found[part] = judge.scores(asked)
    return found
