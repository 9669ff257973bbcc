"""The tables of `benchmarks.loop`, as Markdown, from what each seed gave."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

Result = dict[str, Any]
ARMS = (
    "base",
    "expert seed",
    "unfiltered",
    "random questions",
    "agreement + log-probability",
    "filtered",
    "both rounds",
    "true labels",
)
GRPO = tuple(
    name
    for start, grpo, labels in (
        ("loop's SFT, round 1", "GRPO, round 1", ", round 1"),
        ("loop's SFT, round 2", "GRPO, round 2", ", round 2"),
        ("", "GRPO, true labels", ", true labels"),
    )
    for name in (
        start,
        grpo,
        f"SFT on GRPO's rows{labels}, SFT's rate",
        f"SFT on GRPO's rows{labels}, GRPO's rate",
    )
    if name
)
SUCCESS = (  # claim, the arm, the arms of which it must beat the better one
    ("1. choosing beats chance", "filtered", ("random questions",)),
    ("2. the judge beats its absence", "filtered", ("agreement + log-probability",)),
    ("3. a second round beats the first seen again", "both rounds", ("filtered",)),
    (
        "4. GRPO beats SFT on the same rows",
        "GRPO, round 2",
        tuple(f"SFT on GRPO's rows, round 2, {rate}" for rate in ("SFT's rate", "GRPO's rate")),
    ),
    (
        "5. the same on true labels",
        "GRPO, true labels",
        tuple(f"SFT on GRPO's rows, true labels, {rate}" for rate in ("SFT's rate", "GRPO's rate")),
    ),
)
OTHER = (  # told, not judged
    ("expert seed", "filtered"),
    ("unfiltered", "filtered"),
    ("filtered", "true labels"),
    ("loop's SFT, round 1", "GRPO, round 1"),
    ("loop's SFT, round 2", "GRPO, round 2"),
    ("loop's SFT, round 2", "GRPO, true labels"),
)


def known(results: list[Result], arm: str, key: str = "accuracy") -> list[float]:
    """A figure of an arm in the seeds that have it."""
    arms = [r["arms"][arm] for r in results if arm in r["arms"]]
    return [a[key] for a in arms if a.get(key) is not None]


def spread(values: list[float], scale: float = 100, digits: int = 1) -> str:
    """Mean and standard deviation over seeds, in percent unless scaled otherwise."""
    if not values:
        return "–"
    mean = f"{scale * np.mean(values):.{digits}f}"
    return f"{mean} ± {scale * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def row(*cells: object) -> None:
    """A line of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def interval(gains: list[float]) -> tuple[float, float] | None:
    """95 % t-interval of the mean over seeds; None for fewer than three."""
    if len(gains) < 3:
        return None
    half = stats.t.ppf(0.975, len(gains) - 1) * np.std(gains, ddof=1) / np.sqrt(len(gains))
    return float(np.mean(gains) - half), float(np.mean(gains) + half)


def verdict(gains: list[float]) -> str:
    """What the docstring of `benchmarks.loop` calls success."""
    found = interval(gains)
    if found is None:
        return "open (fewer than three seeds)"
    return "**met**" if found[0] > 0 else "**refuted**" if found[1] < 0 else "open"


def gains_of(results: list[Result], arm: str, others: tuple[str, ...]) -> tuple[str, list[float]]:
    """The other arm with the better mean, and the arm's gain over it, seed by seed."""
    whole = [r for r in results if all(name in r["arms"] for name in (arm, *others))]
    if not whole:
        return others[0], []
    best = max(others, key=lambda name: np.mean(known(whole, name)))
    return best, [r["arms"][arm]["accuracy"] - r["arms"][best]["accuracy"] for r in whole]


def compared(results: list[Result], arm: str, others: tuple[str, ...]) -> tuple[str, ...]:
    """The cells of a comparison: than what, mean, interval, each seed."""
    best, gains = gains_of(results, arm, others)
    bounds = interval(gains)
    between = f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}" if bounds else "–"
    return best, spread(gains), between, ", ".join(f"{100 * g:+.1f}" for g in gains)


def report(results: list[Result]) -> None:
    """Print every table."""
    asked = next((r["questions"] for r in results if "questions" in r), 0)
    print(f"\n{len(results)} seeds, {asked} held-out questions each\n")
    row("arm", "accuracy in %", "seeds", "steps", "rows", "questions", "passes", "precision in %")
    row(*["---"] * 8)
    for arm in (*ARMS, *GRPO):
        seeds = ", ".join(f"{100 * v:.1f}" for v in known(results, arm))
        counts = [
            spread(known(results, arm, key), 1, digits)
            for key, digits in (("steps", 0), ("rows", 0), ("questions", 0), ("passes", 2))
        ]
        precision = spread(known(results, arm, "precision"))
        row(arm, spread(known(results, arm)), seeds, *counts, precision)
    print()
    row("success, laid down before", "than", "points", "95 % interval", "seeds", "verdict")
    row(*["---"] * 6)
    for claim, arm, others in SUCCESS:
        row(claim, *compared(results, arm, others), verdict(gains_of(results, arm, others)[1]))
    print()
    row("from", "to", "points", "95 % interval", "seeds")
    row(*["---"] * 5)
    for one, other in OTHER:
        than, *cells = compared(results, other, (one,))
        row(than, other, *cells)
    print()
    rounds(results)
    judges(results)


def rounds(results: list[Result]) -> None:
    """Rows, judge and GRPO by round."""
    row("figure in %", "round 1", "round 2")
    row(*["---"] * 3)
    by_round = [[r["rounds"][n] for r in results if n in r["rounds"]] for n in ("1", "2")]
    for key in next(iter(by_round[0]), {}):
        scale = 1 if key in ("grpo_fresh", "grpo_mixed") else 100
        cells = [[float(f[key]) for f in found if f[key] is not None] for found in by_round]
        row(key.replace("_", " "), *(spread(values, scale) for values in cells))


def judges(results: list[Result]) -> None:
    """The first judge, and the ways of training it."""
    print()
    row("judge", "AUC on frozen pairs in %", "pairwise accuracy in %")
    row(*["---"] * 3)
    first = [r["judge"] for r in results if "judge" in r]
    row("the first", *(spread([f[k] for f in first]) for k in ("auc", "pairwise")))
    logprob = [f["logprob_auc"] for f in first if f["logprob_auc"] is not None]
    row("generator's log-probability", spread(logprob), "–")
    for name in sorted({name for r in results for name in r["judges"]}):
        found = [r["judges"][name] for r in results if name in r["judges"]]
        row(name, *(spread([f[k] for f in found]) for k in ("auc", "pairwise")))
