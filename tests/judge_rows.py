"""Rows of a judge's training set (`reward_model.rows`), by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.trainer import write_training_set
from reward_model.measure import Figures, Measurement
from reward_model.patient_sets import REPORT
from reward_model.rows import SCHEMA


def example(first: str, second: str | None = None, **more: Any) -> dict[str, Any]:
    """One row, or two of which the first is better in fact; of a patient of the set report."""
    nothing = dict.fromkeys(SCHEMA.names)
    known: dict[str, Any] = {
        "image_id": "i", "patient": "p", "set": REPORT, "first": first, "second": second,
        "factuality": 1.0, "tier_first": 10.0, "tier_second": 6.0, "stream": "", "round": 0,
    }  # fmt: skip
    return nothing | known | more


def verdict(first: str, accepted: float, **more: Any) -> dict[str, Any]:
    """A row that a share of readers accept, drawn at random."""
    told = {"factuality": accepted, "accepted": accepted, "stream": "random"}
    return example(first, None, **told | more)


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_training_set(folder, rows, SCHEMA)


def figures(auc: float, low: float = 0.8, high: float = 1.0) -> Figures:
    return Figures(
        on="pairs", sets=("report",), n=9, patients=9, auc=auc, auc_low=low, auc_high=high
    )


def measurement(auc: float) -> Measurement:
    """What is measured of a judge of such an AUC."""
    return Measurement(
        report=figures(auc), gate=figures(auc), pairwise=0.9, frozen=9, unscored=0,
        calibration=(1.0, 0.0), calibrated_on="9 pairs of report", ece=0.1, brier=0.1,
        precision=None,
    )  # fmt: skip
