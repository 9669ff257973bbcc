"""How often the generator's gate lets a policy take over, by what the policy is worth.

    python -m benchmarks.renewal

Made-up generators, no model: three tasks a patient, four rows a task. If a row is right follows a
logistic model with a patient's effect, a task's that both generators share, and each one's own;
whether it is as asked the same, by itself. The policy's rate lies so many points from that of who
generates now (70 % right, 70 % as asked, on average over all tasks there could be). A minute. A
table of how often it takes over by precision alone, and by both where it is equal in the other,
then one line of JSON.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
from scipy.special import expit

from generators.renewal import paired

TASKS = (60, 120, 240)
SHIFTS = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1)
RATE, A_PATIENT, ROWS, DRAWS = 0.7, 3, 4, 200
SPREAD = (0.7, 1.0)  # of patients and of tasks, in logits


@cache
def offset_of(rate: float) -> float:
    """The logit of a middling task by which a generator's rows are right at a rate, on average."""
    logits = np.random.default_rng(0).normal(0, np.hypot(*SPREAD), 100_000)
    low, high = -10.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(logits + middle).mean() < rate else (low, middle)
    return low


def written(
    rng: np.random.Generator, tasks: int, shift: float
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Shares (tasks,) of who generates now and of one `shift` apart, and whose each task is."""
    patients = np.arange(tasks) // A_PATIENT
    shared = rng.normal(0, SPREAD[0], patients.max() + 1)[patients]
    shared += rng.normal(0, SPREAD[1] / np.sqrt(2), tasks)
    now, new = (
        rng.binomial(
            ROWS,
            expit(shared + rng.normal(0, SPREAD[1] / np.sqrt(2), tasks) + offset_of(rate)),
        )
        / ROWS
        for rate in (RATE, RATE + shift)
    )
    return now, new, [str(patient) for patient in patients]


def takes_over(tasks: int, shift: float) -> dict[str, Any]:
    """How often of DRAWS a policy passes by precision alone, and by both, equal in the other."""
    rng = np.random.default_rng(tasks)
    one = both = 0
    for _ in range(DRAWS):
        precision, adherence = (
            paired(now.tolist(), new.tolist(), whose).passes
            for now, new, whose in (written(rng, tasks, s) for s in (shift, 0.0))
        )
        one += precision
        both += precision and adherence
    return {"tasks": tasks, "shift": shift, "precision": one / DRAWS, "both": both / DRAWS}


def main() -> None:
    """Print the table and the line."""
    found = [takes_over(tasks, shift) for shift in SHIFTS for tasks in TASKS]
    print(f"| precision, points | {' | '.join(f'{tasks} tasks' for tasks in TASKS)} |")
    for shift in SHIFTS:
        cells = [f"{r['precision']:.0%} · {r['both']:.0%}" for r in found if r["shift"] == shift]
        print(f"| {100 * shift:+.0f} | {' | '.join(cells)} |")
    print(json.dumps({"benchmark": "renewal", "draws": DRAWS, "results": found}))


if __name__ == "__main__":
    main()
