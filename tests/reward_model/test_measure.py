"""What frozen patients say of a judge: which set says what, and whether a new judge takes over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.caveats import at_chance
from engine.records import Task
from engine.statistics import auc, auc_difference
from reward_model.calibration import brier, calibration_error, fit_platt
from reward_model.criteria import CRITERIA
from reward_model.measure import Gate, Measurement, Scored, compared, measure, scored
from reward_model.scoring import Judge
from reward_model.settings import JudgeSettings
from tests.judge_rows import example, verdict, write
from tests.round_workspace import make_image, make_triplet


class Known(Judge):
    """A judge whose logits are the number that it is shown."""

    def __init__(self) -> None:
        criteria = {"factuality": 1.0}
        self.settings = JudgeSettings(criteria=criteria, prompts="compact", max_pixels=2**20)

    def scores(self, requests: Any, batch: int = 64) -> np.ndarray:
        return np.array([[float(r.text)] * 3 for r in requests])


class Undecided(Known):
    """A judge that says the same of all."""

    def scores(self, requests: Any, batch: int = 64) -> np.ndarray:
        return np.full((len(requests), len(CRITERIA)), 0.25)


def of(folder: Path, rows: list[dict[str, Any]]) -> Scored:
    write(folder, rows)
    return scored(Known(), folder, {"i": b""})


def verdicts(which: str, number: int, shift: float = 1.0, **more: Any) -> list[dict[str, Any]]:
    """Verdicts on a patient each, half of which accept, with scores that overlap."""
    rng = np.random.default_rng(len(which) + number)
    return [
        verdict(
            str(rng.normal() + shift * (n % 2)), float(n % 2), set=which, patient=f"{which}{n}",
            **more,
        )
        for n in range(number)
    ]  # fmt: skip


def pairs(which: str, number: int) -> list[dict[str, Any]]:
    return [example("1", "0", set=which, patient=f"{which}{n}") for n in range(number)]


def test_each_set_of_patients_has_its_use_and_no_other(tmp_path: Path) -> None:
    """Rows of one set with scores of their own: what they change is what the set is for."""
    every = {name: verdicts(name, 60) for name in ("calibrate", "gate", "report")}
    plain = measure(of(tmp_path / "plain", [row for rows in every.values() for row in rows]))

    def changed(name: str) -> Measurement:
        turned = [row | {"first": str(-float(row["first"]))} for row in every[name]]
        rows = turned + [row for other in every if other != name for row in every[other]]
        return measure(of(tmp_path / name, rows))

    assert changed("calibrate").calibration != plain.calibration
    assert (changed("calibrate").gate, changed("calibrate").report) == (plain.gate, plain.report)
    assert changed("gate").gate != plain.gate
    assert (changed("gate").calibration, changed("gate").report) == (
        plain.calibration,
        plain.report,
    )
    told = changed("report")
    assert told.report != plain.report
    assert (told.calibration, told.gate) == (plain.calibration, plain.gate)
    assert plain.to_dict()["sets"] == ["report"]
    assert plain.calibrated_on == "60 verdicts of calibrate"


def test_verdicts_count_before_pairs_and_pairs_where_there_are_few(tmp_path: Path) -> None:
    many = [*verdicts("report", 30), *pairs("report", 20)]
    assert measure(of(tmp_path / "many", many)).report.on == "verdicts"
    few = [*verdicts("report", 8), *pairs("report", 20)]
    found = measure(of(tmp_path / "few", few)).report
    assert (found.on, found.n, found.auc) == ("pairs", 20, 1.0)


def test_verdicts_and_pairs_are_told_beside_each_other(tmp_path: Path) -> None:
    told = measure(of(tmp_path, [*verdicts("report", 30), *pairs("report", 20)])).to_dict()
    assert told["auc"] == told["verdicts"]["auc"] < told["pairs"]["auc"] == 1.0
    assert (told["verdicts"]["n"], told["pairs"]["n"]) == (30, 20)


def test_where_a_set_has_too_little_wider_ones_stand_in_and_are_named(tmp_path: Path) -> None:
    rows = [*verdicts("gate", 12), *verdicts("report", 12), *verdicts("calibrate", 60)]
    found = measure(of(tmp_path / "small", rows))
    assert found.gate.sets == found.report.sets == ("gate", "report")
    assert found.calibrated_on == "60 verdicts of calibrate"
    tiny = measure(of(tmp_path / "tiny", [*verdicts("gate", 3), *verdicts("calibrate", 5)]))
    assert tiny.gate.sets == ("calibrate", "gate", "report")
    assert tiny.gate.n == 8


def test_one_patient_however_many_verdicts_is_too_little(tmp_path: Path) -> None:
    rows = [row | {"patient": "one"} for row in verdicts("gate", 60)]
    found = measure(of(tmp_path, [*rows, *verdicts("report", 60)]))
    assert found.gate.sets == ("gate", "report")


def test_without_a_frozen_patient_nothing_is_known_and_the_judge_is_at_chance(
    tmp_path: Path,
) -> None:
    found = measure(of(tmp_path, []))
    assert (found.report.auc, found.gate.auc_low, found.pairwise, found.ece) == (None,) * 4
    assert found.calibration == (1.0, 0.0)
    assert at_chance(found.to_dict())
    assert compared(of(tmp_path / "a", []), of(tmp_path / "b", [])).verdict == "unknown"


def test_a_judge_is_calibrated_on_verdicts_and_its_error_told_of_others(tmp_path: Path) -> None:
    rows = [*verdicts("calibrate", 200, 2.0), *verdicts("report", 200, 2.0)]
    of_set = of(tmp_path, rows)
    found = measure(of_set)
    scores = np.array([float(row["first"]) for row in rows])
    right = np.arange(400) % 2 == 1
    assert found.calibration == pytest.approx(fit_platt(scores[:200], right[:200]))
    slope, offset = found.calibration
    chance = 1 / (1 + np.exp(-slope * scores[200:] - offset))
    assert found.ece == round(calibration_error(chance, right[200:]), 4)
    assert found.brier == round(brier(chance, right[200:]), 4)


def with_logprobs(which: str, number: int, worth: float = 1.0) -> list[dict[str, Any]]:
    """Verdicts that follow the score and, by its `worth`, the generator's log-probability."""
    rng = np.random.default_rng(len(which))
    score, sure = rng.normal(size=(2, number))
    accepted = rng.random(number) < 1 / (1 + np.exp(-2 * score - 2 * worth * sure))
    return [
        verdict(
            str(score[n]), float(accepted[n]), set=which, patient=f"{which}{n}",
            logprob=sure[n] / 10 - 1,
        )
        for n in range(number)
    ]  # fmt: skip


EACH = ("calibrate", "gate", "report")


def test_the_log_probability_joins_the_score_where_the_gate_speaks_for_it(tmp_path: Path) -> None:
    rows = [row for name in EACH for row in with_logprobs(name, 400)]
    found = measure(of(tmp_path, rows))
    assert found.with_logprob is not None
    assert found.joint is not None
    slope, weight, _ = found.with_logprob
    assert weight == pytest.approx(10 * slope, rel=0.4)
    assert (found.joint.n, found.joint.sets) == (400, ("report",))
    assert (found.joint.auc or 0) > (found.report.auc or 1) + 0.05
    alone = measure(of(tmp_path / "alone", [row | {"logprob": None} for row in rows]))
    assert (found.brier or 1) < (alone.brier or 0) - 0.02  # what is told is what is used
    assert (alone.calibration, alone.report) == (found.calibration, found.report)
    assert (alone.with_logprob, alone.joint) == (None, None)


def test_a_log_probability_that_misleads_on_the_gate_is_not_used(tmp_path: Path) -> None:
    turned = [row | {"logprob": -2 - row["logprob"]} for row in with_logprobs("gate", 400)]
    rows = [*with_logprobs("calibrate", 400), *turned, *with_logprobs("report", 400)]
    assert measure(of(tmp_path, rows)).with_logprob is None


def test_without_a_gate_of_its_own_the_log_probability_is_not_used(tmp_path: Path) -> None:
    rows = [*with_logprobs("calibrate", 400), *with_logprobs("gate", 9)]
    assert measure(of(tmp_path, rows)).with_logprob is None


def test_a_row_without_a_log_probability_has_the_scores_own_probability() -> None:
    judge = Undecided()
    judge.id = "judge"
    judge.settings = replace(judge.settings, calibration=(1.0, 0.5), with_logprob=(2.0, 3.0, 1.0))
    image = make_image(0, "p", "train")
    task = Task.make("MR", "presence", "easy", "yes/no", "direct")
    row = make_triplet(image, "generator", task, 0, 1)
    rows = [replace(row, logprob=-0.5), replace(row, logprob=None)]
    sure, unsure = judge.judge(rows, {image.id: b""})
    assert sure.probability == pytest.approx(1 / (1 + np.exp(-(0.5 - 1.5 + 1.0))), abs=1e-5)
    assert unsure.probability == pytest.approx(1 / (1 + np.exp(-0.75)), abs=1e-5)


def test_a_judge_in_use_is_measured_with_the_calibration_that_it_is_used_with(
    tmp_path: Path,
) -> None:
    rows = [*verdicts("calibrate", 200, 2.0), *verdicts("report", 200, 2.0)]
    of_set = of(tmp_path, rows)
    sure = measure(of_set, ((50.0, -50.0), None))
    assert (sure.calibration, sure.calibrated_on) == ((50.0, -50.0), "as it was")
    assert sure.ece is not None
    found = measure(of_set).ece
    assert found is not None
    assert sure.ece > found + 0.05


def test_each_rounds_verdicts_are_told_by_themselves(tmp_path: Path) -> None:
    rows = [*verdicts("report", 60, 3.0, round=1), *verdicts("report", 40, 0.0, round=2)]
    rows = [row | {"patient": f"{row['patient']} {row['round']}"} for row in rows]
    first, second = measure(of(tmp_path, rows)).rounds
    assert (first["round"], first["n"], second["round"], second["n"]) == (1, 60, 2, 40)
    assert first["auc"] > 0.9 > second["auc"]
    assert 0 < first["ece"] < 0.3
    assert first["precision"] == second["precision"] == 0.5


def test_precision_is_of_rows_that_were_drawn_at_random(tmp_path: Path) -> None:
    rows = verdicts("report", 40)
    asked = [row | {"stream": "random" if row["accepted"] else "informative"} for row in rows]
    assert measure(of(tmp_path, asked)).precision == 1.0


# The gate


def judges(folder: Path, gain: float, number: int = 60) -> tuple[Scored, Scored]:
    """Two judges on the same verdicts, of which the second sees `gain` more of the truth."""
    rng = np.random.default_rng(3)
    hard = rng.normal(size=number)
    noise = rng.normal(size=number) * 0.3
    right = np.arange(number) % 2

    def seen(name: str, shift: float) -> Scored:
        values = hard + noise * (name == "new") + shift * right
        rows = [
            verdict(str(v), float(r), set="gate", patient=f"g{n}")
            for n, (v, r) in enumerate(zip(values, right))
        ]
        return of(folder / name, rows)

    return seen("old", 1.0), seen("new", 1.0 + gain)


@pytest.mark.parametrize(
    ("gain", "verdict", "passes"),
    [(1.5, "better", True), (0.0, "not worse", True), (-1.5, "worse", False)],
)
def test_a_judge_takes_over_unless_it_is_shown_to_be_worse(
    tmp_path: Path, gain: float, verdict: str, passes: bool
) -> None:
    found = compared(*judges(tmp_path, gain))
    assert (found.verdict, found.passes) == (verdict, passes)
    assert found.gain is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.gain <= found.high
    assert (found.on, found.n, found.sets) == ("verdicts", 60, ("gate",))


def test_with_nothing_to_compare_on_the_old_judge_stays() -> None:
    assert not Gate(verdict="unknown", on="pairs", sets=("gate",), n=0).passes


def test_rows_that_one_of_the_judges_cannot_score_are_compared_by_neither(tmp_path: Path) -> None:
    old, new = judges(tmp_path, 0.0)
    new.overall[0, :4] = np.nan
    assert compared(old, new).n == 56


def test_what_is_hard_for_both_judges_does_not_hide_that_one_is_better() -> None:
    """The paired interval is narrower than the difference of two that are drawn apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    hard = rng.normal(size=200)
    old, new = hard + 0.8 * labels, hard + 1.2 * labels
    groups = np.arange(200)
    gain, low, high = auc_difference(old, new, labels, groups, seed=0)
    assert gain == pytest.approx(auc(new, labels) - auc(old, labels))
    assert low > 0
    apart = rng.normal(size=200) + 1.2 * labels
    _, low_apart, high_apart = auc_difference(old, apart, labels, groups, seed=0)
    assert high - low < (high_apart - low_apart) / 2


def test_the_calibration_error_is_of_bins_of_as_many_rows() -> None:
    chance = np.repeat([0.1, 0.9], 50)
    right = np.concatenate([np.arange(50) < 5, np.arange(50) < 45])
    assert calibration_error(chance, right, bins=2) == pytest.approx(0)
    assert calibration_error(chance, ~right, bins=2) == pytest.approx(0.8)
    assert calibration_error(np.full(5, 0.3), np.arange(5) < 2) == pytest.approx(0.1)  # one bin
    assert brier(np.array([0.0, 0.5]), np.array([False, True])) == pytest.approx(0.125)


def reasoned(which: str, number: int, better: float) -> list[dict[str, Any]]:
    """Pairs by reasoning of a patient each, whose better row has that much more on average."""
    rng = np.random.default_rng(number)
    return [
        example(
            str(rng.normal() + better), str(rng.normal()), set=which, patient=f"{which}{n}",
            factuality=None, reasoning=1.0,
        )
        for n in range(number)
    ]  # fmt: skip


def test_the_reasoning_criterion_has_a_calibration_where_the_gate_shows_its_worth(
    tmp_path: Path,
) -> None:
    rows = [*reasoned("calibrate", 200, 2.0), *reasoned("gate", 40, 2.0)]
    found = measure(of(tmp_path / "known", rows))
    assert found.reasoning_gate is not None
    assert (found.reasoning_gate.sets, found.reasoning_gate.on) == (
        ("gate",),
        "rows with reasoning",
    )
    assert found.reasoning is not None
    slope, offset = found.reasoning
    assert -offset / slope == pytest.approx(1.0, abs=0.3)  # halfway between sound and not
    assert found.to_dict()["reasoning"] == [slope, offset]
    blind = [*reasoned("calibrate", 200, 2.0), *reasoned("gate", 40, 0.0)]
    unknown = measure(of(tmp_path / "blind", blind))
    assert unknown.reasoning is None
    few = [*reasoned("calibrate", 5, 9.0), *reasoned("gate", 3, 9.0)]
    for name, rows in (("few", few), ("none", pairs("gate", 30))):
        assert measure(of(tmp_path / name, rows)).reasoning is None


def test_a_verdict_on_the_reasoning_counts_by_itself(tmp_path: Path) -> None:
    rows = [
        verdict(str(n % 2), 0.0, reasoning=float(n % 2), set="gate", patient=str(n))
        for n in range(40)
    ]
    gate = measure(of(tmp_path, rows)).reasoning_gate
    assert gate is not None
    assert (gate.auc, gate.n, gate.patients) == (1.0, 40, 40)


def test_a_judges_settings_keep_both_calibrations(tmp_path: Path) -> None:
    settings = JudgeSettings(
        criteria={"factuality": 1.0}, prompts="full", max_pixels=9, calibration=(2.0, 1.0),
        reasoning=(3.0, -1.0),
    )  # fmt: skip
    settings.save(tmp_path)
    assert JudgeSettings.load(tmp_path) == settings
