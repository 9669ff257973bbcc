"""Four disjoint sets of patients: what a judge learns from, and what says how good it is.

Pairs and verdicts on a patient's images are of the patient's set, in every round and for ever:

    train      the judge learns from them
    calibrate  turn scores into probabilities
    gate       decide whether a judge has a say, and whether a refined one takes its place
    report     are reported, and decide nothing

What is said of rows drawn at random teaches nobody, whatever the set: a certificate stands on those
of all patients but the set report (`pipelines/guarantee.py`).
"""

from __future__ import annotations

from engine.records import content_id

TRAIN, CALIBRATE, GATE, REPORT = "train", "calibrate", "gate", "report"
SHARES = {TRAIN: 0.6, CALIBRATE: 0.16, GATE: 0.12, REPORT: 0.12}


def set_of(group: str) -> str:
    """The set of a patient (`Image.group`): decided by its hash."""
    place = int(content_id("patient set", group)[:8], 16) / 16**8
    for name, share in SHARES.items():
        if place < share:
            return name
        place -= share
    return REPORT


def is_frozen(group: str) -> bool:
    """Whether nothing of a patient is ever learned from by a judge."""
    return set_of(group) != TRAIN
