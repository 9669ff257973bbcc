"""How pure a round's kept rows are, promised from a random sample of expert verdicts.

A question's chosen row is kept where its confidence reaches a threshold. Experts look at a uniform
random sample of chosen rows, one a patient, and accept or reject. Looked for is the lowest
threshold of which one may say: with probability `confidence` over the draw of the sample, at least
`precision` of the kept rows would be accepted. It holds for any number of verdicts and whatever the
confidences are worth: a bad ranking costs rows, not the promise.

Learn then test (Angelopoulos et al., arXiv 2110.01052): each candidate threshold is a hypothesis
"what it keeps is below the target", with an exact binomial p-value. Candidates are quantiles of the
confidence of all chosen rows, which are known before any verdict. They are tested together by
closed testing (Marcus, Peritz & Gabriel 1976): a candidate is granted where each set of candidates
that it is in is rejected. A set's test looks at its strictest candidate, at its next one that is at
least `APART` places looser, and so on; it rejects where the least of their p-values, weighted
towards the strict end, is below a critical value. That value is calibrated jointly, since verdicts
above a strict threshold are also above a loose one. Fixed-sequence testing from strict to loose
is the same with all the weight on the strictest, and ends at the first unlucky candidate.

Why the calibration holds though precision need not fall with the threshold: let all candidates of a
set be false promises, and compare with rows that are wrong at the target rate wherever they lie. Of
as many wrong and right rows above the loosest candidate, the wrong ones lie at least as strict as
there, and the right ones at most, so that each p-value is at least as large. Rows that are wrong at
the target rate are what is simulated. Verdicts are taken for drawn with replacement, which they are
not: they vary less than that.

A false promise is made with probability at most 1 − confidence for each certificate, not for all
of a dataset's together. `docs/certificate.md` has what is not covered, and measurements.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.errors import TriptychError
from engine.statistics import finite

METHOD = "exact binomial tests of quantile thresholds, closed, jointly calibrated"
CANDIDATES = 16  # at most
APART = 3  # candidates in a row of which a set's test looks at the strictest alone
ROOM = 1.05  # verdicts expected above the strictest candidate, in the least that can be granted
STEP = 1.03  # a candidate keeps at least so many times as much as the next stricter one
TILT = 0.5  # weight of a p-value in a set's test, of that of the next stricter one
DRAWS = 20_000
ALONE = 2  # verdicts with which a group stands for itself, in the least that can be granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What experts say of one randomly drawn chosen row; "cannot tell" and a tie do not accept."""

    confidence: float  # in [0, 1], of its question's choice
    accepted: bool
    patient: str
    group: str = ""  # such as a modality
    readers: tuple[str, ...] = ()  # who looked


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A threshold and what may be said of the rows that reach it, or that nothing may."""

    groups: tuple[str, ...]  # it is of chosen rows of these together
    precision: float  # least share of kept rows that is right
    confidence: float  # probability over the draw of the sample with which that holds
    threshold: float | None  # least confidence that is kept; None: refused
    share: float  # of the groups' chosen rows that the threshold keeps
    verdicts: int  # one a patient
    kept_verdicts: int  # on rows that the threshold keeps
    rejected: int  # of these
    readers: int
    missing: int  # where refused: least number of further verdicts, all accepted, to be granted
    method: str = METHOD

    @property
    def granted(self) -> bool:
        """Whether there is a threshold."""
        return self.threshold is not None

    @property
    def pooled(self) -> bool:
        """Whether it is of several groups together."""
        return len(self.groups) > 1

    def in_words(self, round_number: int) -> str:
        """The promise in one line, or why there is none."""
        promise = f"at most {_percent(1 - self.precision)} wrong, {_percent(self.confidence)}"
        source = (
            f"{_counted(self.verdicts, 'random verdict')} of {_counted(self.readers, 'reader')}"
        )
        rows = f"rows chosen as in round {round_number}"
        if self.groups != ("",):
            rows += f" ({', '.join(self.groups)}{' together' if self.pooled else ''})"
        if self.granted:
            return f"{promise} confidence, from {source}, for {rows}"
        more = _counted(self.missing, "further accepted verdict")
        return (
            f"no promise of {promise} confidence, from {source}, for {rows}: needs at least {more}"
        )


def certify(
    opinions: Iterable[Opinion],
    chosen: Mapping[str, ArrayLike],
    precision: float,
    confidence: float,
    by_group: bool = False,
) -> tuple[Certificate, ...]:
    """Certificates of a round, such that each group of `chosen` is in exactly one.

    `chosen` has the confidences in [0, 1] of ALL the round's chosen rows, (N,) by group; an
    opinion's group is one of them. Of several opinions on a patient one counts, picked by a hash
    that does not look at what was said. With `by_group` a group stands for itself where it has
    verdicts enough (`ALONE` times `least_verdicts`), and those that have not are pooled; how many
    it has decides, not what they say. Otherwise all groups are pooled.
    `precision` and `confidence` are in (0, 1).

    Raises TriptychError where a target is not in (0, 1), a confidence is not a number in [0, 1] or
    an opinion's group has no chosen rows.
    """
    for name, value in (("precision", precision), ("confidence", confidence)):
        if not 0 < value < 1:
            raise TriptychError(f"guarantee: {name} is between 0 and 1, not {value}")
    rows = {
        group: _confidences(found, f"confidences of chosen rows of '{group}'")
        for group, found in chosen.items()
    }
    said: dict[str, list[Opinion]] = defaultdict(list)
    for opinion in one_a_patient(opinions):
        if opinion.group not in rows:
            raise TriptychError(f"a verdict is on a row of '{opinion.group}', which chose no rows")
        said[opinion.group].append(opinion)
    enough = ALONE * least_verdicts(precision, confidence)
    alone = [group for group in rows if by_group and len(said[group]) >= enough]
    together = [group for group in rows if group not in alone]
    return tuple(
        _certificate(
            tuple(sorted(groups)),
            [o for group in groups for o in said[group]],
            np.concatenate([rows[group] for group in groups]),
            precision,
            confidence,
        )
        for groups in [*([group] for group in alone), together]
        if groups
    )


def threshold_of(certificates: Iterable[Certificate], group: str) -> float | None:
    """Least confidence that is kept of a group's chosen rows; None where nothing is promised."""
    return next((c.threshold for c in certificates if group in c.groups), None)


@lru_cache(maxsize=4096)
def least_verdicts(precision: float, confidence: float, rejected: int = 0) -> int:
    """Least number of verdicts above one threshold, so many rejected, that prove the precision.

    The smallest n with P(Binomial(n, 1 − precision) ≤ rejected) ≤ 1 − confidence: 45 for 0.95 at
    0.9 where none is rejected.
    """
    low, high = rejected, rejected + 1
    while _binomial_cdf(rejected, high, 1 - precision) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _binomial_cdf(rejected, middle, 1 - precision) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def one_a_patient(opinions: Iterable[Opinion]) -> list[Opinion]:
    """Of each patient's opinions one, whatever their order.

    Which one is decided by a hash of patient and confidence; of several on one row a rejection
    counts.
    """
    first: dict[str, tuple[tuple[bytes, bool], Opinion]] = {}
    for opinion in opinions:
        name = f"{opinion.patient}\n{opinion.group}\n{opinion.confidence!r}".encode()
        key = (hashlib.sha256(name).digest(), opinion.accepted)
        if opinion.patient not in first or key < first[opinion.patient][0]:
            first[opinion.patient] = key, opinion
    return [opinion for _, (_, opinion) in sorted(first.items())]


def candidates(confidences: np.ndarray, verdicts: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds to test and the share of chosen rows each keeps, from strict to loose.

    The strictest keeps so much that `ROOM` times `least` of the verdicts are to be expected above
    it; further ones keep equally many times more each. Equal confidences are kept together.
    `confidences` is (N,), N > 0; returns two arrays (C,), 1 ≤ C ≤ CANDIDATES.
    """
    falling = np.sort(confidences)[::-1]
    first = min(1.0, ROOM * least / max(verdicts, 1))
    number = min(CANDIDATES, 1 + math.floor(math.log(1 / first) / math.log(STEP)))
    wanted = np.geomspace(first, 1, number) if number > 1 else np.ones(1)
    places = np.ceil(wanted * falling.size - 1e-9).astype(int) - 1
    thresholds = np.unique(falling[places])[::-1]
    return thresholds, np.array([np.mean(confidences >= t) for t in thresholds])


def granted(
    p_values: ArrayLike, verdicts: int, shares: ArrayLike, precision: float, confidence: float
) -> np.ndarray:
    """Which candidates are granted, by closed testing.

    `p_values` is (..., C) with candidates from strict to loose, which keep `shares` (C,) of the
    chosen rows; `verdicts` is the size of the sample. Returns truth values of the same shape.
    """
    p = np.asarray(p_values, dtype=float)
    found = tuple(np.asarray(shares, dtype=float).tolist())
    levels, covered = _tests(verdicts, found, precision, confidence)
    stand = np.asarray((p[..., None, :] >= levels).all(axis=-1))  # sets that are not rejected
    return np.asarray(~(stand[..., None] & covered).any(axis=-2))


@lru_cache(maxsize=64)
def _tests(
    verdicts: int, shares: tuple[float, ...], precision: float, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """The tests of all sets (T): below which p-value of a candidate each rejects, and whether a
    candidate is in a set so tested, both (T, C); 0 for one that it does not look at.

    Levels are simulated where each verdict is wrong with the target rate; with B draws the critical
    value is exceeded by so few that the observed one, counted among them, is within the error rate
    (a Monte Carlo test, Dwass 1957). No level is above 1 − confidence, so that a granted threshold
    also passes the plain binomial test.
    """
    alpha = 1 - confidence
    single = np.nextafter(alpha, 1)  # "below" it is "at most" alpha
    rng = np.random.default_rng(0)
    zones = np.diff([0.0, *shares, 1.0]).clip(0)
    counts = rng.multinomial(verdicts, zones / zones.sum(), size=DRAWS)[:, : len(shares)]
    wrong = rng.binomial(counts, 1 - precision).cumsum(axis=1)
    drawn = p_value(wrong, counts.cumsum(axis=1), precision)
    drawn = np.where(drawn <= alpha, drawn, np.inf)
    allowed = math.floor(alpha * (DRAWS + 1)) - 1
    looked_at = [np.array(places) for places in spread(len(shares))]
    levels = np.zeros((len(looked_at), len(shares)))
    covered = np.zeros(levels.shape, dtype=bool)
    for level, cover, members in zip(levels, covered, looked_at):
        weights = TILT ** np.arange(members.size)
        least = (drawn[:, members] / weights).min(axis=1)
        critical = np.inf if members.size == 1 else np.partition(least, allowed)[allowed]
        level[members] = np.minimum(critical * weights, single)
        for place in members:
            cover[place : place + APART] = True
    return levels, covered


def spread(number: int, first: int = 0) -> Iterator[tuple[int, ...]]:
    """What the tests of sets look at: all choices of places that are at least `APART` apart."""
    for place in range(first, number):
        yield (place,)
        for rest in spread(number, place + APART):
            yield (place, *rest)


def p_value(wrong: ArrayLike, kept: ArrayLike, precision: float) -> np.ndarray:
    """P(Binomial(kept, 1 − precision) ≤ wrong): small where the precision is above the target."""
    return np.asarray(_binomial_cdf(wrong, kept, 1 - precision))


def _certificate(
    groups: tuple[str, ...],
    opinions: list[Opinion],
    confidences: np.ndarray,
    precision: float,
    confidence: float,
) -> Certificate:
    """The certificate of some groups' chosen rows."""
    said = _confidences([o.confidence for o in opinions], "confidences of verdicts")
    wrong = np.array([not o.accepted for o in opinions], dtype=bool)
    least = least_verdicts(precision, confidence)
    threshold, share, missing = None, 0.0, max(0, least - said.size)
    kept = np.zeros(said.size, dtype=bool)
    if confidences.size:
        thresholds, shares = candidates(confidences, said.size, least)
        above = said >= thresholds[:, None]
        n, k = above.sum(axis=1), (above & wrong).sum(axis=1)
        passed = np.flatnonzero(
            granted(p_value(k, n, precision), said.size, shares, precision, confidence)
        )
        if passed.size:
            threshold, share = float(thresholds[passed[-1]]), float(shares[passed[-1]])
            kept = above[passed[-1]]
        else:
            needed = [least_verdicts(precision, confidence, int(each)) for each in k]
            missing = min(math.ceil((a - b) / s) for a, b, s in zip(needed, n, shares))
            missing = max(1, missing)
    return Certificate(
        groups=groups,
        precision=precision,
        confidence=confidence,
        threshold=threshold,
        share=share,
        verdicts=said.size,
        kept_verdicts=int(kept.sum()),
        rejected=int((kept & wrong).sum()),
        readers=len({reader for o in opinions for reader in o.readers}),
        missing=0 if threshold is not None else missing,
    )


def _confidences(values: ArrayLike, what: str) -> np.ndarray:
    """The values as numbers in [0, 1]; raises TriptychError where one is none."""
    found = finite(values, what)
    if found.size and not (found.min() >= 0 and found.max() <= 1):
        raise TriptychError(f"{what} are to be in [0, 1]: {found.min():g} to {found.max():g}")
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _binomial_cdf(successes: Any, trials: Any, probability: float) -> Any:
    from scipy.stats import binom  # takes half a second to load

    return binom.cdf(successes, trials, probability)
