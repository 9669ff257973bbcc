"""The judge's benchmark: its heuristics, its figures, and which rows are asked about next."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import judge
from benchmarks.judge_bench import Asked, agreement, figure, heuristics, taught_by
from benchmarks.judge_unsure import dropout, ensemble
from engine.records import Triplet
from reward_model.examples import Example
from tests.drawn_workspace import answered
from tests.lineage_workspace import make_image

IMAGES = [make_image(n, f"g{n}") for n in range(40)]


def asked(rows: list[Triplet], right: list[bool]) -> Asked:
    return Asked(
        rows, np.array(right), np.array([r.image_id for r in rows]), ["presence"] * len(rows)
    )


def test_agreement_is_the_share_of_a_questions_samples() -> None:
    rows = [answered(IMAGES[0], "Is it?", a, sample=n) for n, a in enumerate(("yes", "Yes.", "no"))]
    assert agreement(rows, rows).tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])


def test_whether_longer_is_better_is_learned_elsewhere() -> None:
    short, long = answered(IMAGES[0], "Is it?", "no"), answered(IMAGES[1], "Is it?", "yes indeed")
    for known in ([False, True], [True, False]):
        found = heuristics(
            asked([short, long], [True, False]), [short, long], asked([short, long], known)
        )
        assert (found["length"][1] > found["length"][0]) == known[1]


def test_a_figure_is_told_by_kind_where_both_are_there() -> None:
    rows = [answered(image, "Is it?", "yes") for image in IMAGES]
    right = [n % 2 == 0 for n in range(40)]
    kinds = ["side"] * 20 + ["count"] * 19 + ["size"]
    some = Asked(rows, np.array(right), np.array([r.image_id for r in rows]), kinds)
    found = figure(np.array(right, float), some)
    assert (found["auc"], found["by_kind"]) == (1.0, {"side": 1.0, "count": 1.0})


def test_a_blind_judge_learns_both_sides_of_a_pair() -> None:
    one, other = answered(IMAGES[0], "Is it?", "yes"), answered(IMAGES[0], "Is it?", "no")
    pair = Example(first=one, second=other, targets={"factuality": 1.0}, round=0, sources=())
    other_criterion = Example(first=one, targets={"relevance": 1.0}, round=0, sources=())
    assert taught_by([pair, other_criterion]) == ([one, other], [1.0, 0.0])


def test_where_the_judge_is_least_sure_is_asked_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred rows fifty are asked at random, and then those nearest to even odds."""
    rows = [answered(IMAGES[n % 40], f"Is {n} there?", "yes") for n in range(100)]
    sure = {row.id: n / 250 for n, row in enumerate(rows)}
    seen: dict[str, list[str]] = {}

    def train(name: str, examples: list[Triplet], frozen: list[Any]) -> Path:
        seen[name] = [row.id for row in examples]
        return Path(name)

    bench: Any = SimpleNamespace(
        order=lambda seed: rows[::-1],
        frozen=lambda row: False,
        singles=lambda rows, noise: [],
        train=train,
        judge=lambda weights: weights,
        judged=lambda judge, rows: [SimpleNamespace(probability=0.5 + sure[r.id]) for r in rows],
        pieces=SimpleNamespace(made=lambda name, make: make()),
    )
    monkeypatch.setattr(judge, "SIZES", (50, 60))
    monkeypatch.setattr(judge, "said", lambda bench, rows, frozen: (rows, frozen))
    monkeypatch.setattr(judge, "_told", lambda bench, weights: {"weights": str(weights)})
    for order in ("random", "informative"):
        assert [n for n, _ in judge.curve(bench, order, 0, [])] == [50, 60]
    assert seen["random 0 50"] == seen["informative 0 50"]
    first = set(seen["random 0 50"])
    assert set(seen["random 0 60"]) - first == {r.id for r in rows[40:50]}
    assert set(seen["informative 0 60"]) - first == {r.id for r in rows[:10]}


def test_heads_of_other_patients_disagree_most_where_nothing_was_seen() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(80, 3))
    targets = (seen[:, 0] > 0).astype(float)
    patients = np.arange(80) // 2
    read = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 8.0]])
    near, far = ensemble(seen, targets, patients, read).std(0)
    assert far > near


def test_dropout_keeps_the_mean_and_spreads() -> None:
    class Heads:
        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def detach(self) -> Heads:
            return self

        float = cpu = detach

        def numpy(self) -> np.ndarray:
            return self.values

    heads = SimpleNamespace(weight=Heads(np.ones((3, 8)) / 8), bias=Heads(np.zeros(3)))
    told: Any = SimpleNamespace(
        model=SimpleNamespace(heads=heads),
        settings=SimpleNamespace(calibration=(1.0, 0.0)),
        overall=lambda scores: scores[:, 0],
    )
    found = dropout(told, np.full((1, 8), 1.0))
    assert found.std() > 0
    assert found.mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.05)
