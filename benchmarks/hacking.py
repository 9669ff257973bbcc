"""How often GRPO's watch stops a training, by how the judge's part and right answers change.

    python -m benchmarks.hacking        # the table of docs/grpo.md: seconds

A hundred made trainings of 300 steps for each line: both parts change evenly from 0.4, with noise
of 0.05 a step (`pipelines.training.hacking`). On the left noise is white, on the right each step
has half of the one before. Ends with one line of JSON.
"""

from __future__ import annotations

import json

import numpy as np
import typer

from engine.config.training import Hacking
from pipelines.training.hacking import hacked

STEPS = np.arange(300)
TRAININGS = 100
CHANGES = ((0.2, 0.0), (0.2, -0.1), (0.1, 0.0), (0.15, 0.05), (0.15, 0.15), (0.0, 0.0))
FOLLOWS = (0.0, 0.5)


def series(slope: float, seed: int, start: float = 0.4, follow: float = 0.0) -> list[float]:
    """Three hundred steps of a part's mean: a line, and noise of 0.05 that may follow itself."""
    rng = np.random.default_rng(seed)
    fresh = rng.normal(0, 0.05 * np.sqrt(1 - follow**2), len(STEPS))
    noise = [float(rng.normal(0, 0.05))]
    for each in fresh[1:]:
        noise.append(follow * noise[-1] + float(each))
    return list(np.clip(start + slope * STEPS + noise, 0, 1))


def stops(judge: list[float], right: list[float]) -> bool:
    """Whether a training with these parts stops."""
    return any(hacked(judge[:n], right[:n], Hacking()) for n in range(1, len(judge) + 1))


def share(judge: float, right: float, follow: float = 0.0, start: float = 0.4) -> float:
    """The share of trainings that stop, by the changes of the two parts a step."""
    found = [
        stops(series(judge, 2 * n, follow=follow), series(right, 2 * n + 1, start, follow))
        for n in range(TRAININGS)
    ]
    return float(np.mean(found))


def main() -> None:
    """Print the table."""
    print("| over 100 steps the judge's part, `correct` | % | % |\n| --- | ---: | ---: |")
    found = []
    for judge, right in CHANGES:
        told = [share(judge / 100, right / 100, follow) for follow in FOLLOWS]
        found.append({"judge": judge, "right": right, "stopped": told})
        print(f"| {judge:+g}, {right:+g} | {' | '.join(f'{100 * one:.0f}' for one in told)} |")
    print(json.dumps({"benchmark": "hacking", "trainings": TRAININGS, "changes": found}))


if __name__ == "__main__":
    typer.run(main)
