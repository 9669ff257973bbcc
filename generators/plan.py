"""What the next round asks for: more of what the policy gets wrong on the validation images."""

from __future__ import annotations

from collections import defaultdict

from engine.records import Evaluation
from generators.tasks import Mix

FLOOR = 0.2  # of a cell's weight stays, so that nothing is forgotten
PRIOR = 4  # pseudo-answers at even odds, so that a few questions do not decide


def next_mix(mix: Mix, evaluations: list[Evaluation]) -> Mix:
    """Weight each cell by the policy's smoothed error rate there, above a floor.

    Cells without questions keep an error rate of one half. Weights keep the mix's mean.
    """
    wrong: dict[str, int] = defaultdict(int)
    asked: dict[str, int] = defaultdict(int)
    for row in evaluations:
        cell = f"{row.modality}/{row.question_type}"
        asked[cell] += 1
        wrong[cell] += not row.correct
    rate = {cell: (wrong[cell] + PRIOR / 2) / (asked[cell] + PRIOR) for cell in mix}
    raw = {cell: mix[cell] * (FLOOR + (1 - FLOOR) * rate[cell]) for cell in mix}
    scale = sum(mix.values()) / sum(raw.values())
    return {cell: round(weight * scale, 6) for cell, weight in raw.items()}
