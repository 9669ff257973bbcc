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
    scores = finite(scores, "scores to calibrate")
    positive, negative = int(accepted.sum()), int((~accepted.astype(bool)).sum())
    if not positive or not negative:
        return 1.0, 0.0
    target = np.where(accepted, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: np.ndarray) -> float:
        logit = np.exp(parameters[0]) * scores + parameters[1]
        return float(np.mean(np.logaddexp(0, logit) - target * logit))

    best = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    slope, offset = finite([np.exp(best[0]), best[1]], "figures of the calibration")
    return float(slope), float(offset)


def probability(scores: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Calibrated probabilities of scores."""
    return np.asarray(expit(slope * scores + offset))
