"""The judge that does not look: words of question, answer and reasoning, and no image.

What it reaches on pairs is what their texts give away. A logistic regression on which words there
are, which words of the question stand with which answer, and which follow each other in the
reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from engine.answers.spelling import normalise
from engine.records import Triplet

PENALTY = 1e-3  # of squared weights, beside the mean loss of a row
_WORD = re.compile(r"\w+")


def blind_scores(
    rows: Sequence[Triplet], targets: Sequence[float], asked: Sequence[Triplet]
) -> np.ndarray:
    """(len(asked),) log-odds that a row is right, of a regression that saw `rows`.

    `targets` are in [0, 1]: how likely each of `rows` is right.
    """
    places: dict[str, int] = {}
    for row in rows:
        for word in _features(row):
            places.setdefault(word, len(places))
    seen, target = _matrix(rows, places), np.asarray(targets, float)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = seen @ weights[:-1] + weights[-1]
        off = (expit(odds) - target) / len(target)
        penalty = PENALTY * float(weights @ weights)
        slope = np.append(seen.T @ off, off.sum()) + 2 * PENALTY * weights
        return float(np.mean(np.logaddexp(0, odds) - target * odds)) + penalty, slope

    start = np.zeros(len(places) + 1)
    weights = minimize(loss, start, jac=True, method="L-BFGS-B").x if len(rows) else start
    return np.asarray(_matrix(asked, places) @ weights[:-1] + weights[-1])


def _features(row: Triplet) -> set[str]:
    asked = set(_WORD.findall(f"{row.question} {' '.join(row.options)}".lower()))
    answer, reasons = normalise(row.answer), _WORD.findall(row.rationale.lower())
    said = {*_WORD.findall(answer), answer}
    return {
        *(f"question {word}" for word in asked),
        *(f"answer {word}" for word in said),
        *(f"question {word} answer {answer}" for word in asked),
        *(f"reasoning {word}" for word in reasons),
        *(f"reasoning {word} {after}" for word, after in pairwise(reasons)),
    }


def _matrix(rows: Sequence[Triplet], places: dict[str, int]) -> csr_array:
    """Which known words each row has."""
    found = [[places[w] for w in _features(row) if w in places] for row in rows]
    starts = np.cumsum([0, *map(len, found)])
    columns = np.concatenate([np.empty(0, int), *(np.array(f, int) for f in found)])
    return csr_array((np.ones(len(columns)), columns, starts), shape=(len(rows), len(places)))
