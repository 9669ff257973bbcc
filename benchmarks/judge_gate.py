"""How often a refined judge takes over by how good it is: the part of `benchmarks.judge` on that.

Scores are drawn: a judge's are normal, of right rows shifted so that its AUC is as said, and of two
judges correlated at 0.7 given whether a row is right. Each row is of a patient of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from reward_model.measure import Evidence, Scored, verdict_on
from reward_model.patient_sets import GATE

ROWS = (36, 72, 150)  # half of them right
AUCS = ((0.85, 0.70), (0.85, 0.75), (0.85, 0.80), (0.85, 0.85), (0.85, 0.88), (0.80, 0.88))
SHARED, DRAWS = 0.7, 100


def gate() -> dict[str, Any]:
    """By rows of the gate, and old and new AUC, the share of refined judges in each verdict."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for number in ROWS:
        for old, new in AUCS:
            told = [_verdict(rng, number, old, new) for _ in range(DRAWS)]
            found[f"{number} rows, {old:.2f} to {new:.2f}"] = {
                "takes over": round(float(np.mean([t != "worse" for t in told])), 2),
                "better": round(float(np.mean([t == "better" for t in told])), 2),
            }
    return found


def _verdict(rng: np.random.Generator, number: int, old: float, new: float) -> str:
    right = np.arange(number) % 2 == 1
    shared = np.sqrt(SHARED) * rng.normal(size=number)
    scores = [
        shared + np.sqrt(1 - SHARED) * rng.normal(size=number) + _shift(area) * right
        for area in (old, new)
    ]
    places = np.column_stack([np.zeros(number, int), np.arange(number)])
    evidence = Evidence("verdicts", (GATE,), places, right, np.arange(number))
    empty = np.empty((0, 3))
    before, after = (Scored([], empty, empty, np.stack([s, s]), np.stack([s, s])) for s in scores)
    return verdict_on(evidence, before, after).verdict


def _shift(area: float) -> float:
    """How far apart two normal distributions of deviation one are at an AUC."""
    return float(norm.ppf(area) * np.sqrt(2))
