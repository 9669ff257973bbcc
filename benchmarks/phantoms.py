"""How long drawing takes: `python -m benchmarks.phantoms [--size 256] [--number 60]`.

Prints one line of JSON: for every kind the median and the 95th percentile in ms of CPU time of one
core over `number` draws, findings and difficulties at random, after one draw to warm up.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from generators.phantoms import KINDS, draw


def timed(kind: str, size: int, number: int) -> dict[str, float]:
    """Median and 95th percentile, in ms, of drawing one phantom of a kind."""
    draw(kind, 0, size)
    taken = []
    for seed in range(1, number + 1):
        start = time.process_time()
        draw(kind, seed, size, difficulty=(seed % 5) / 4)
        taken.append(1000 * (time.process_time() - start))
    return {"median": round(float(np.median(taken)), 1),
            "p95": round(float(np.quantile(taken, 0.95)), 1)}  # fmt: skip


def main() -> None:
    """Time every kind on one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--number", type=int, default=60)
    args = parser.parse_args()
    kinds = {kind: timed(kind, args.size, args.number) for kind in KINDS}
    print(json.dumps({"size": args.size, "number": args.number, "unit": "ms", "kinds": kinds}))


if __name__ == "__main__":
    main()
