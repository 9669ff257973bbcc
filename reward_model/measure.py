"""How good a judge is on frozen pairs: pairwise accuracy, AUC with its interval, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import TriptychError
from engine.statistics import auc, auc_interval
from engine.trainer import read_training_set
from engine.vlm.protocol import Request
from reward_model.calibration import fit_platt
from reward_model.criteria import CRITERIA
from reward_model.scoring import Judge

BATCH = 64  # rows whose pictures are in memory at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What frozen pairs say of a judge; an AUC and its 95 % interval are None without such a pair.

    `unscored` of the `n_holdout` pairs have no finite score; `calibration` is Platt's slope and
    offset, by which a score is the probability that an expert accepts.
    """

    pairwise: float
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    n_holdout: int
    unscored: int
    calibration: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """As the record has it."""
        return asdict(self) | {"calibration": list(self.calibration)}


def measure(judge: Judge, data: Path, pixels: Mapping[str, bytes]) -> Measurement:
    """Pairwise accuracy (each pair by its own criterion), AUC and calibration on frozen pairs.

    AUC is of the overall score on factuality pairs: chosen rows against rejected ones, with a 95 %
    interval from resampling images; None where there is no such pair. A pair without a finite score
    counts as one that the judge got wrong, and is in no AUC. Raises TriptychError where none has.
    `data` is a training set of pairs, and `pixels` are PNG bytes by id, read a batch at a time.
    """
    rows = read_training_set(data).to_list()
    scores = _scores(judge, rows, pixels)
    place = np.array([CRITERIA.index(r["criterion"]) for r in rows])
    n = len(rows)
    scored = np.isfinite(scores).all(1)
    scored = scored[:n] & scored[n:]
    if not scored.any():
        raise TriptychError(
            f"the judge has no finite score for any of {n} frozen pairs: lower reward.lr"
        )
    own = scores[np.arange(2 * n), np.tile(place, 2)]
    facts = np.tile((place == 0) & scored, 2)
    overall, accepted = judge.overall(scores)[facts], np.repeat([True, False], n)[facts]
    images_of_facts = np.tile([r["image_id"] for r in rows], 2)[facts]
    area, low, high = _area(overall, accepted, images_of_facts)
    return Measurement(
        pairwise=round(float((scored & (own[:n] > own[n:])).mean()), 4),
        auc=area,
        auc_low=low,
        auc_high=high,
        n_holdout=n,
        unscored=int(n - scored.sum()),
        calibration=fit_platt(overall, accepted),
    )


def _scores(judge: Judge, rows: list[dict[str, Any]], pixels: Mapping[str, bytes]) -> np.ndarray:
    """(2N, 3) logits of N pairs, in the order of CRITERIA: all chosen rows, then all rejected."""
    both = [(row["image_id"], row[side]) for side in ("chosen", "rejected") for row in rows]
    parts = [both[low : low + BATCH] for low in range(0, len(both), BATCH)]
    return np.concatenate(
        [judge.scores([Request(pixels[i], text) for i, text in part]) for part in parts]
    )


def _area(
    scores: np.ndarray, accepted: np.ndarray, images: np.ndarray
) -> tuple[float | None, float | None, float | None]:
    """(AUC, lower and upper bound of its interval); None for each where there are no pairs."""
    if not scores.size:
        return None, None, None
    low, high = auc_interval(scores, accepted, images, seed=0)
    return round(auc(scores, accepted), 4), round(low, 4), round(high, 4)
