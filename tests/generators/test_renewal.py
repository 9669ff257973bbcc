"""Two generators on the same held-out tasks: what is compared, and when the new one takes over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.records import Image, Task, Triplet
from engine.statistics import mean_gains, verdict_of
from generators.found import as_asked, found_of
from generators.renewal import ADHERENCE, PRECISION, Held, Paired, paired, right, shares
from tests.drawn_workspace import answered, drawn
from tests.lineage_workspace import make_image, make_judgement, make_model

TUMOR = drawn("MR", 1, "tumor", split="val")
REAL = make_image(7, "patient", "val")
EASY = Task.make("MR", "disease", "easy", "closed", "direct")
SIDE = Task.make("MR", "attribute", "easy", "choice", "direct")
JUDGE = make_model("judge", "judge", None, 0, 1)
HELD = Held([(TUMOR.id, EASY), (REAL.id, EASY)], {i.id: i for i in (TUMOR, REAL)}, {})
PATIENTS = [f"p{n // 2}" for n in range(40)]  # two tasks each


def asked(image: Image, answer: str, sample: int = 0, **more: object) -> Triplet:
    row = answered(image, "Is there a tumor?", answer, sample=sample, round=1)
    return replace(row, task_id=EASY.id, **more)  # type: ignore[arg-type]


# What takes over


def test_a_generator_that_is_better_or_the_same_takes_over() -> None:
    now = [0.5] * 40
    better = paired(now, [0.75] * 40, PATIENTS)
    assert (better.verdict, better.passes, better.gain) == ("better", True, 0.25)
    assert (better.tasks, better.patients) == (40, 20)
    same = paired(now, now, PATIENTS)
    assert (same.verdict, same.passes, same.gain) == ("not worse", True, 0.0)


def test_one_that_is_worse_in_three_of_four_draws_does_not() -> None:
    rng = np.random.default_rng(0)
    now = rng.random(40)
    worse = paired(now.tolist(), (now - 0.1).tolist(), PATIENTS)
    assert (worse.verdict, worse.passes) == ("worse", False)
    noise = np.repeat(rng.normal(0, 0.2, 20), 2)
    noise -= noise.mean()
    for shift, passes in ((-0.1, False), (-0.005, True), (0.1, True)):  # of a patient's ±0.2
        found = paired(now.tolist(), (now + noise + shift).tolist(), PATIENTS)
        assert found.passes is passes
        _, draws = mean_gains(now, now + noise + shift, PATIENTS, seed=0)
        assert (np.mean(draws < 0) > 0.75) is not passes


def test_patients_are_drawn_and_not_tasks() -> None:
    """Twenty tasks of one patient that gained prove no more than one."""
    new = [1.0] * 20 + [0.4] * 4
    one = paired([0.5] * 24, new, ["a"] * 20 + ["b", "c", "d", "e"])
    each = paired([0.5] * 24, new, [f"{n}" for n in range(24)])
    assert (each.verdict, one.verdict) == ("better", "not worse")
    assert (one.low or 0.0) < 0


def test_without_anything_measured_who_generates_stays() -> None:
    nothing = paired([None, 0.5], [0.5, None], ["a", "b"])
    assert (nothing.verdict, nothing.passes, nothing.tasks) == ("unknown", False, 0)
    assert nothing.in_words("precision") == "precision is not known"
    half = paired([None, 0.5], [0.5, 0.6], ["a", "b"])
    assert (half.tasks, half.verdict) == (1, "better")


def test_a_verdict_is_that_of_the_judges_gate() -> None:
    assert verdict_of(np.linspace(0.1, 1, 100))[0] == "better"
    assert verdict_of(np.linspace(-0.76, 0.24, 100))[0] == "worse"
    assert verdict_of(np.linspace(-0.74, 0.26, 100))[0] == "not worse"


def test_the_words_have_the_figures() -> None:
    told = Paired(verdict="worse", tasks=9, patients=4, now=0.61, new=0.58, gain=-0.03, low=-0.07,
                  high=0.001)  # fmt: skip
    assert told.in_words("precision") == (
        "precision 61.0 % → 58.0 % (-3.0 points, 90 % interval -7.0 to +0.1: worse)"
    )


# What is compared


def test_a_row_is_right_by_the_truth_then_by_gold_then_by_the_judge() -> None:
    yes, no = asked(TUMOR, "yes"), asked(TUMOR, "no")
    assert [right(row, HELD, None) for row in (yes, no)] == [1.0, 0.0]
    real = asked(REAL, "yes")
    assert right(real, HELD, None) is None  # the judge is at chance
    opinion = make_judgement(real, JUDGE)
    assert right(real, HELD, {real.id: opinion}) == opinion.probability
    assert right(real, HELD, {}) == 0.0  # no finite score: selection rejects it
    gold = replace(HELD, golds={(REAL.id, "is there tumor"): "no"})
    assert right(real, gold, {real.id: opinion}) == 0.0
    assert right(asked(REAL, "no"), gold, {}) == 1.0


@pytest.mark.parametrize("image", [TUMOR, REAL], ids=["drawn", "real"])
def test_what_cannot_be_read_is_neither_right_nor_as_asked(image: Image) -> None:
    read = [asked(image, "yes", n) for n in range(2)]
    lost = [asked(image, "", n, problem="answer: no answer tag") for n in (2, 3)]
    rows = [*read, *lost]
    judged = {row.id: replace(make_judgement(row, JUDGE), probability=1.0) for row in read}
    held = replace(HELD, pairs=[(image.id, EASY)])
    told = shares(held, rows, {read[0].question_key: "yes"}, judged)
    assert told[PRECISION] == [0.5]
    assert told[ADHERENCE] == [0.5]
    assert told["question_type"] == [1.0]  # of what could be read


def test_each_task_has_its_share_in_the_tasks_order() -> None:
    rows = [asked(TUMOR, said, n) for n, said in enumerate(("yes", "yes", "no", "yes"))]
    rows += [replace(asked(TUMOR, "no", 9), task_id=SIDE.id)]
    held = replace(HELD, pairs=[(TUMOR.id, SIDE), (TUMOR.id, EASY), (REAL.id, EASY)])
    told = shares(held, rows, {rows[0].question_key: "yes"}, None)
    assert told[PRECISION] == [0.0, 0.75, None]  # nobody wrote of the last
    assert told[ADHERENCE] == [0.0, 0.0, 0.0]  # 3 of 5 agree: medium and not easy
    assert told["difficulty"] == [0.0, 0.0, None]
    assert held.patients == [TUMOR.group, TUMOR.group, "patient"]


def test_a_row_is_as_asked_where_all_that_is_known_of_it_is() -> None:
    few = [asked(TUMOR, "yes", n) for n in range(2)]  # too few samples to know how hard it is
    many = [asked(TUMOR, "yes", n) for n in range(3)]
    hard = replace(EASY, difficulty="hard")
    for rows, task, same in ((few, hard, True), (many, hard, False), (many, EASY, True)):
        found = found_of(rows, {rows[0].question_key: "yes"})
        assert {as_asked(one, task) for one in found} == {same}
    assert not as_asked(found[0], SIDE)
