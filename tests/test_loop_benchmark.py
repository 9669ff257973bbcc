"""The loop's benchmark is fair: what arms are shown, how it goes on, what it calls success."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks import arms
from benchmarks.loop import OutOfTime, Pieces
from benchmarks.loop_report import gains_of, verdict
from engine.config import Config
from engine.records import Task, Triplet
from generators import phantoms
from generators import questions as bank
from generators.expert import is_true, write_rows
from pipelines.context import Context
from tests.test_generators import image_of

STEP = 32


@pytest.mark.parametrize("own", [40, 560, 3400])
def test_every_arm_sees_the_expert_as_often_and_as_much_of_its_own(own: int) -> None:
    """A fixed number of steps over all rows would show an expert's row 2 times or 0.4 times."""
    data = arms.exposure([f"e{n}" for n in range(300)], list(range(own)), 2, 1200, 0)
    seen = Counter(data)
    assert len(data) == 2 * 300 + 1200
    assert {seen[f"e{n}"] for n in range(300)} == {2}
    times = [seen[n] for n in range(own)]
    assert sum(times) == 1200
    assert max(times) - min(times) <= 1  # whole passes before any is seen once more


def test_an_arm_without_rows_sees_the_expert_as_often() -> None:
    assert Counter(arms.exposure(["a", "b"], [], 2, 1200, 0)) == {"a": 2, "b": 2}


def rows_and_context() -> tuple[list[Triplet], Context]:
    """Four answers to each of some questions: three agree, and the fourth is sure of itself."""
    image = image_of(phantoms.draw("MR", 1, 64).truth)
    written = write_rows(image, 6, ["step"], 0, False)
    rows = []
    for row, _ in written:
        other = next((o for o in row.options if o != row.answer), "elsewhere")
        for n, (answer, logprob) in enumerate(
            [(row.answer, -0.2), (row.answer, -0.2), (row.answer, -0.2), (other, -0.1)]
        ):
            rows.append(
                replace(row, id=f"{row.id}{n}", answer=answer, logprob=logprob, generator_id="g")
            )
    tables = {Task: [task for _, task in written]}
    context = SimpleNamespace(
        config=Config(), images=lambda: [image], rows=lambda kind: tables[kind]
    )
    return rows, cast(Context, context)


def test_random_questions_are_as_many_questions_and_not_as_many_rows() -> None:
    rows, _ = rows_and_context()
    chosen = arms.random_questions(rows, 4, 0)
    assert len({row.question_key for row in chosen}) == len(chosen) == 4
    assert len(arms.random_questions(rows, 99, 0)) == len({row.question_key for row in rows})
    drawn = {row.answer for seed in range(40) for row in arms.random_questions(rows, 6, seed)}
    assert len(drawn) > len({row.answer for row in rows[::4]})  # wrong answers too


def test_without_a_judge_agreement_chooses_and_confidence_ranks() -> None:
    rows, context = rows_and_context()
    surer = rows[4].question_key
    rows = [replace(r, logprob=-0.01) if r.question_key == surer else r for r in rows]
    chosen = arms.agreed(context, rows, 3)
    assert len({row.question_key for row in chosen}) == 3
    assert chosen[0].question_key == surer
    assert all(row.answer == rows[4 * (i // 4)].answer for row in chosen
               for i, other in enumerate(rows) if other.id == row.id)  # fmt: skip


def test_true_labels_are_true_and_reasoned_in_the_rows_own_style() -> None:
    rows, context = rows_and_context()
    (image,) = context.images()
    told = arms.told_truly(context, [replace(r, answer="nonsense", rationale="") for r in rows])
    assert len(told) == len({row.question_key for row in rows})
    assert all(is_true(image, row) for row in told)
    truth = phantoms.draw("MR", 1, 64).truth
    assert {row.rationale for row in told} == {bank.describe(truth)}


def test_a_finished_piece_is_used_again_and_none_is_begun_out_of_time(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"accuracy": 0.5}

    first = Pieces(tmp_path, 0, time.time() + 60).made("filtered", make)
    late = Pieces(tmp_path, 0, time.time() - 1)
    assert late.made("filtered", make) == first
    assert len(made) == 1
    with pytest.raises(OutOfTime):
        late.made("unfiltered", make)


def test_success_is_an_interval_above_zero_and_nothing_less() -> None:
    assert verdict([0.02, 0.021, 0.019]) == "**met**"
    assert verdict([0.038, 0.016, 0.012]) == "open"  # 2.2 ± 1.4 with three seeds
    assert verdict([-0.02, -0.021, -0.019]) == "**refuted**"
    assert verdict([0.02, 0.021]).startswith("open")


def test_an_arm_is_compared_with_the_better_of_its_controls_in_seeds_that_have_all() -> None:
    def result(**accuracy: float) -> dict[str, Any]:
        return {"arms": {name: {"accuracy": value} for name, value in accuracy.items()}}

    results = [
        result(g=0.8, low=0.7, high=0.79),
        result(g=0.9, low=0.7),
        result(g=0.7, low=0.5, high=0.75),
    ]
    best, gains = gains_of(results, "g", ("low", "high"))
    assert best == "high"
    assert np.allclose(gains, [0.01, -0.05])
