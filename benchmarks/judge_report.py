"""The tables of `benchmarks.judge` on phantoms, as docs/judge.md has them, from several seeds.

    python -m benchmarks.judge --part phantoms --set seed=0 > seed0.log     # and 1, 2
    python -m benchmarks.judge_report seed0.log seed1.log seed2.log

Each file is what the benchmark printed: its last line is read. Ends with one line of JSON.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

Result = dict[str, Any]
NAMES = {
    "blind judge": "blind judge",
    "length": "length",
    "agreement": "agreement",
    "confidence": "confidence",
    "both": "agreement + confidence",
    "judge": "judge",
    "as used": "as used",
}
UNSURE = ("even odds", "heads", "heads and even odds", "dropout", "disagreement of samples")


def interval(told: Result) -> str:
    """An AUC with its 95 % interval."""
    return f"{told['auc']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"


def above(told: Result) -> str:
    """How far a judge is above agreement + confidence, with the 95 % interval."""
    gain, low, high = told["above both"]
    return f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"


def both(told: Result) -> str:
    """AUC of true answers and of accepted rows."""
    return f"{told['true']['auc']:.3f} · {told['accepted']['auc']:.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def mean_and_range(values: Sequence[float], form: str) -> str:
    """The mean, and the least and largest value."""
    low, high = min(values), max(values)
    return f"{fmean(values):{form}} ({low:{form}} to {high:{form}})"


def show(seeds: Sequence[Result]) -> None:
    """Print all tables, a column a seed where they are not taken together."""
    for what in ("accepted", "true"):
        rows = {
            told: [interval(seed["table"][name][what]) for seed in seeds]
            for name, told in NAMES.items()
        }
        rows |= {
            f"{NAMES[name]} above {NAMES['both']}": [
                above(seed["table"][name][what]) for seed in seeds
            ]
            for name in ("judge", "as used")
        }
        beside(what, rows)
    for what in ("learns from", "noise"):
        names = seeds[0][what]
        beside(what, {name: [both(seed[what][name]) for seed in seeds] for name in names})
    blind(seeds)
    perturbed(seeds)
    curves(seeds)
    beside("unsure by", {name: [unsure(seed, name) for seed in seeds] for name in UNSURE})


def beside(what: str, rows: dict[str, list[str]]) -> None:
    """Print a table with a column a seed."""
    number = len(next(iter(rows.values())))
    heads = (f"seed {n}" for n in range(number))
    table([what, *heads], [[name, *cells] for name, cells in rows.items()])


def unsure(seed: Result, name: str) -> str:
    """How well a way of being unsure finds the judge's mistakes, and what it is above even odds."""
    told = seed["uncertainty"][name]
    return f"{told['auc']:.3f} ({told['above even odds'][0]:+.3f})"


def blind(seeds: Sequence[Result]) -> None:
    """What words alone tell of pairs, seeds beside each other."""
    kinds = [name for name in seeds[0]["blind"] if name != "seconds"]

    def cells(kind: str, figure: str) -> str:
        told = [seed["blind"][kind].get(figure) for seed in seeds]
        return " · ".join("–" if value is None else f"{value:.2f}" for value in told)

    rows = [
        [
            kind,
            " · ".join(str(seed["blind"][kind]["pairs"]) for seed in seeds),
            cells(kind, "frozen"),
            cells(kind, "same"),
        ]
        for kind in kinds
    ]
    table(["pairs", "number", "frozen", "the same"], rows)


def perturbed(seeds: Sequence[Result]) -> None:
    """How often a true row is ranked above one made wrong, seeds together."""
    total: dict[str, list[float]] = defaultdict(lambda: [0, 0])
    for seed in seeds:
        for way, told in seed["perturbed"].items():
            if way != "seconds":
                total[way][0] += told["pairs"]
                total[way][1] += told["pairs"] * told["found"]
    rows = [[way, f"{n:.0f}", f"{found / n:.0%}"] for way, (n, found) in sorted(total.items())]
    table(["made wrong", "pairs", "found"], rows)


def curves(seeds: Sequence[Result]) -> None:
    """AUC of accepted rows by number of verdicts and how they were asked for, draws together."""

    def values(order: str, number: str) -> list[float]:
        return [told["accepted"]["auc"] for seed in seeds for told in seed["curve"][order][number]]

    rows = []
    for number in seeds[0]["curve"]["random"]:
        random, least = values("random", number), values("informative", number)
        gains = [new - old for old, new in zip(random, least)]
        told = (mean_and_range(random, ".3f"), mean_and_range(least, ".3f"))
        rows.append([number, *told, mean_and_range(gains, "+.3f")])
    table(["verdicts", "random order", "least sure", "least sure above random"], rows)


def main(
    logs: Annotated[list[Path], typer.Argument(help="What the benchmark printed, a seed each.")],
) -> None:
    """Print the tables."""
    seeds = [json.loads(log.read_text().splitlines()[-1])["phantoms"] for log in logs]
    show(seeds)
    print(json.dumps({"benchmark": "judge_report", "rows": [seed["rows"] for seed in seeds]}))


if __name__ == "__main__":
    typer.run(main)
