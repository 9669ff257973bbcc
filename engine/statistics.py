"""The few statistics that every stage reports with, so that two tables never disagree on a method.

All are pure NumPy and deterministic: the bootstrap takes its seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


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
    truth values. NaN where one of the classes is missing.
    """
    values, positive = np.asarray(scores, dtype=float), np.asarray(labels).astype(bool)
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2
    u = mid_rank[inverse][positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * n_negative))


def cluster_bootstrap(
    correct: ArrayLike, groups: ArrayLike, seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95 % percentile interval of the mean of `correct`, resampling whole groups.

    Questions about one patient stand or fall together, so the patient is what is drawn again
    (Cameron, Gelbach & Miller 2008). `correct` is (N,) of any numbers (a paired difference works
    too), `groups` (N,) of labels. Returns (NaN, NaN) for no rows.
    """
    values = np.asarray(correct, dtype=float)
    if values.size == 0:
        return float("nan"), float("nan")
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    rng = np.random.default_rng(seed)
    k = sizes.size
    drawn = rng.multinomial(k, np.full(k, 1 / k), size=resamples)
    low, high = np.quantile((drawn @ sums) / (drawn @ sizes), [0.025, 0.975])
    return float(low), float(high)
