"""Accuracy with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.records import Evaluation
from engine.statistics import cluster_bootstrap


def arm_metrics(rows: list[Evaluation], groups: Mapping[str, str]) -> dict[str, Any]:
    """Test accuracy of each arm with a 95 % interval from resampling patients, invalid counted.

    `groups` are the images', by id.
    """
    arms: dict[str, Any] = {}
    for arm in dict.fromkeys(r.arm for r in rows):
        mine = [r for r in rows if r.arm == arm and r.split == "test"]
        if not mine:
            continue
        correct = np.array([r.correct for r in mine])
        low, high = cluster_bootstrap(correct, np.array([groups[r.image_id] for r in mine]), 0)
        arms[arm] = {
            "accuracy": round(float(correct.mean()), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "n": len(mine),
            "invalid": sum(not r.valid for r in mine),
        }
    return arms
