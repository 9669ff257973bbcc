"""From a judge's score to the probability that an expert accepts the row (Platt 1999)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from engine.statistics import finite


def fit_platt(scores: np.ndarray, accepted: np.ndarray) -> tuple[float, float]:
    """Slope and offset of `p = sigmoid(slope * score + offset)` by maximum likelihood.

    Targets are smoothed as in Platt's paper. The slope is held positive: a judge that ranks
    backwards is not repaired here. Returns (1, 0) where only one class is present. Raises
    TriptychError where a score is not finite.
    """
    slope, offset = _fit(scores[:, None], accepted)
    return slope, offset


def fit_with_logprob(
    scores: np.ndarray, logprobs: np.ndarray, accepted: np.ndarray
) -> tuple[float, float, float]:
    """Slope, weight and offset of `p = sigmoid(slope * score + weight * logprob + offset)`.

    `logprobs` are the generator's mean log-probabilities; else as `fit_platt`, both held positive.
    """
    slope, weight, offset = _fit(np.column_stack([scores, logprobs]), accepted)
    return slope, weight, offset


def _fit(features: np.ndarray, accepted: np.ndarray) -> list[float]:
    """A positive slope of each of the (N, K) features, and an offset."""
    features = finite(features, "scores to calibrate")
    positive, negative = int(accepted.sum()), int((~accepted.astype(bool)).sum())
    count = features.shape[1]
    if not positive or not negative:
        return [1.0] * count + [0.0]
    target = np.where(accepted, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: np.ndarray) -> float:
        logit = features @ np.exp(parameters[:count]) + parameters[count]
        return float(np.mean(np.logaddexp(0, logit) - target * logit))

    best = minimize(loss, np.zeros(count + 1), method="Nelder-Mead").x
    return [float(v) for v in finite([*np.exp(best[:count]), best[count]], "the calibration")]


def probability(scores: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Calibrated probabilities of scores."""
    return np.asarray(expit(slope * scores + offset))


def probability_with(
    scores: np.ndarray,
    logprobs: np.ndarray,
    calibration: tuple[float, float],
    with_logprob: tuple[float, float, float] | None,
) -> np.ndarray:
    """(N,) calibrated probabilities, by the log-probability too where that is known (finite)."""
    alone = probability(scores, *calibration)
    if with_logprob is None:
        return alone
    slope, weight, offset = with_logprob
    return np.where(
        np.isfinite(logprobs), expit(slope * scores + weight * logprobs + offset), alone
    )


def calibration_error(chance: np.ndarray, accepted: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error in bins of equal mass (Nixon et al. 2019), in [0, 1].

    Rows in order of their probability `chance` are put into bins of as many rows, at least ten a
    bin, and the mean over the rows of |mean probability - share accepted| is taken. Of few rows it
    is above zero by chance: of a judge that is calibrated by about sqrt(p (1 - p) bins / rows).
    """
    order = np.argsort(chance, kind="stable")
    parts = np.array_split(order, max(min(bins, len(order) // 10), 1))
    gaps = [abs(chance[part].mean() - accepted[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))


def brier(chance: np.ndarray, accepted: np.ndarray) -> float:
    """Mean squared difference of probability and what was the case (Brier 1950), in [0, 1]."""
    return float(np.mean((chance - accepted) ** 2))


def log_loss(chance: np.ndarray, accepted: np.ndarray) -> float:
    """Mean of -log of the probability of what was the case."""
    likely = np.where(accepted, chance, 1 - chance)
    return float(-np.mean(np.log(np.maximum(likely, np.finfo(float).tiny))))
