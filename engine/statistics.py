"""The few statistics that every stage reports with, so that two tables never disagree on a method.

All are pure NumPy and deterministic: the bootstrap takes its seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from engine.errors import TriptychError

CHANCE = 0.5  # the AUC of a score that says nothing
WORSE = 0.75  # share of resamples in which what is new is worse, that it does not take over


def finite(values: ArrayLike, what: str) -> np.ndarray:
    """The values as floats; raises TriptychError where one of them is NaN or infinite.

    No comparison with NaN is true, so that whatever is sorted or held against a threshold by it
    ends on either side by chance.
    """
    found = np.asarray(values, dtype=float)
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise TriptychError(f"{bad} of {found.size} {what} are not finite numbers")
    return found


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), 95 % at the default z.

    (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n) with p = successes / n.
    Returns (0, 1) for n = 0: nothing was seen, so nothing is excluded.
    """
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count half.

    The Mann–Whitney U statistic over n₊·n₋, from mid-ranks. `scores` is (N,), `labels` (N,) of
    truth values. NaN where one of the classes is missing. Raises TriptychError where a score is not
    finite.
    """
    _, place = np.unique(finite(scores, "scores"), return_inverse=True)
    return _weighted_auc(place, np.asarray(labels).astype(bool), np.ones(place.size))


def _weighted_auc(place: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float:
    """AUC of scores given by their rank among the different scores, each row counted so often."""
    bins = int(place.max(initial=0)) + 1
    above = np.bincount(place, weights=weights * positive, minlength=bins)
    below = np.bincount(place, weights=weights * ~positive, minlength=bins)
    pairs = above.sum() * below.sum()
    wins = above @ (np.cumsum(below) - below / 2)
    return float(wins / pairs) if pairs else float("nan")


def auc_interval(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95 % percentile interval of the AUC, resampling whole groups.

    Rows of one image are told apart well or badly together, so the image is what is drawn again;
    DeLong's interval (1988) takes rows for independent. `scores`, `labels`, `groups` are (N,).
    Where each draw agrees there is nothing to resample, and Wilson's interval of as many groups
    stands in: two images that are right prove little. (0, 1) where one of the classes is missing:
    nothing is excluded. Raises TriptychError where a score is not finite.
    """
    _, place = np.unique(finite(scores, "scores"), return_inverse=True)
    positive = np.asarray(labels).astype(bool)
    if positive.all() or not positive.any():
        return 0.0, 1.0
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    k = int(member.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=resamples)
    found = np.array([_weighted_auc(place, positive, counts[member]) for counts in drawn])
    low, high = (float(v) for v in np.nanquantile(found, [0.025, 0.975]))
    if low == high:
        return wilson(round(low * k), k)
    return low, high


def auc_gains(
    one: ArrayLike,
    other: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    seed: int,
    resamples: int = 2000,
) -> tuple[float, np.ndarray]:
    """Other's AUC less one's, both of the same rows, and the same of rows that are drawn again.

    Whole groups are drawn, the same for both, so that what is hard for both cancels. `one` and
    `other` are (N,) scores, `labels`, `groups` (N,). NaN where a class is missing, in all or in a
    draw. Raises TriptychError where a score is not finite.
    """
    places = [np.unique(finite(s, "scores"), return_inverse=True)[1] for s in (one, other)]
    positive = np.asarray(labels).astype(bool)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    k = int(member.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=resamples)

    def gain(weights: np.ndarray) -> float:
        first, second = (_weighted_auc(place, positive, weights) for place in places)
        return second - first

    return gain(np.ones(positive.size)), np.array([gain(counts[member]) for counts in drawn])


def auc_difference(
    one: ArrayLike, other: ArrayLike, labels: ArrayLike, groups: ArrayLike, seed: int
) -> tuple[float, float, float]:
    """Other's AUC less one's, and its 95 % percentile interval: of `auc_gains`."""
    gain, drawn = auc_gains(one, other, labels, groups, seed)
    low, high = (float(value) for value in np.nanquantile(drawn, [0.025, 0.975]))
    return gain, low, high


def verdict_of(drawn: np.ndarray) -> tuple[str, float, float]:
    """What gains over what was there say, with their 90 % interval: (verdict, low, high).

    `drawn` are (N,) of rows that were drawn again, as `auc_gains` and `mean_gains` give them. What
    is new is `better` where the interval lies above zero, `worse` where it is in `WORSE` of the
    draws, and else `not worse`.
    """
    low, most, high = (float(value) for value in np.nanquantile(drawn, [0.05, WORSE, 0.95]))
    return "better" if low > 0 else "worse" if most < 0 else "not worse", low, high


def mean_gains(
    one: ArrayLike, other: ArrayLike, groups: ArrayLike, seed: int, resamples: int = 2000
) -> tuple[float, np.ndarray]:
    """Other's mean less one's, both of the same rows, and the same of rows that are drawn again.

    Whole groups are drawn, as in `cluster_bootstrap`. `one`, `other` and `groups` are (N,), N > 0.
    Raises TriptychError where a value is not finite.
    """
    gains = finite(other, "values") - finite(one, "values")
    return float(gains.mean()), _drawn_means(gains, groups, seed, resamples)


def cluster_bootstrap(
    correct: ArrayLike, groups: ArrayLike, seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95 % percentile interval of the mean of `correct`, resampling whole groups.

    Questions about one patient stand or fall together, so the patient is what is drawn again
    (Cameron, Gelbach & Miller 2008). `correct` is (N,) of any numbers (a paired difference works
    too), `groups` (N,) of labels. Returns (NaN, NaN) for no rows. Raises TriptychError where a
    value is not finite.
    """
    values = finite(correct, "values")
    if values.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(_drawn_means(values, groups, seed, resamples), [0.025, 0.975])
    return float(low), float(high)


def _drawn_means(values: np.ndarray, groups: ArrayLike, seed: int, resamples: int) -> np.ndarray:
    """(resamples,) means of values of which whole groups are drawn again."""
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    k = sizes.size
    drawn = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=resamples)
    return np.asarray((drawn @ sums) / (drawn @ sizes))
