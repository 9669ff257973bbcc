"""The arithmetic of the judge: its losses, its calibration, and how it is measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from engine.config import build
from engine.errors import TriptychError
from engine.statistics import auc
from engine.vlm.protocol import Request
from pipelines.source import check_names
from reward_model import losses
from reward_model.calibration import fit_platt, fit_with_logprob, probability
from reward_model.losses import bradley_terry, check_loss, names, open_loss
from reward_model.losses import tiers as on_tiers
from reward_model.losses.bradley_terry import CENTRE
from reward_model.measure import Measurement, measure, scored
from reward_model.preferences import TIERS
from reward_model.scoring import Judge
from reward_model.settings import JudgeSettings
from reward_model.training import loss_of as loss_of_examples
from tests.judge_rows import example, write

NO_TIERS = torch.zeros(2, 1)
logit = st.floats(-20, 20, width=32)


def loss_of(chosen: list[float], rejected: list[float]) -> float:
    return float(bradley_terry.loss(torch.tensor([chosen, rejected]), NO_TIERS).mean())


def slopes(chosen: float, rejected: float) -> tuple[float, float]:
    """The pair loss's derivatives by the chosen and by the rejected score."""
    scores = torch.tensor([chosen, rejected], dtype=torch.float64, requires_grad=True)
    bradley_terry.loss(scores.view(2, 1), NO_TIERS).backward()
    assert scores.grad is not None
    return float(scores.grad[0]), float(scores.grad[1])


# The pair loss


def test_the_pair_loss_is_bradley_terry_with_a_centred_sum() -> None:
    one = -math.log(1 / (1 + math.exp(-1.5))) + 0.02 * 2.5**2
    two = -math.log(1 / (1 + math.exp(4.0))) + 0.02 * 2.0**2
    assert CENTRE == 0.02
    assert loss_of([2.0], [0.5]) == pytest.approx(one, rel=1e-5)
    assert loss_of([2.0, -1.0], [0.5, 3.0]) == pytest.approx((one + two) / 2, rel=1e-5)


@given(logit, logit)
def test_a_right_ranking_costs_less_than_a_wrong_one(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert loss_of([high], [low]) <= loss_of([low], [high])
    if high - low > 1e-3:
        assert loss_of([high], [low]) < loss_of([low], [high])


@pytest.mark.parametrize("level", [-3.0, 0.0, 3.0])
def test_a_step_downhill_raises_the_chosen_above_the_rejected(level: float) -> None:
    chosen, rejected = slopes(level, level)
    assert chosen - rejected == pytest.approx(-1.0)  # -2 sigmoid(0)
    assert slopes(0.0, 0.0) == pytest.approx((-0.5, 0.5))


@given(logit, logit)
def test_a_step_downhill_pulls_the_sum_of_two_scores_to_zero(one: float, two: float) -> None:
    """Only the second term sees the sum: its derivative by both scores together is 4c·sum."""
    assert sum(slopes(one, two)) == pytest.approx(4 * CENTRE * (one + two), abs=1e-9)


def test_scores_far_apart_cost_neither_overflow_nor_nothing() -> None:
    assert loss_of([-1e4], [1e4]) == pytest.approx(2e4)
    assert loss_of([1e4], [-1e4]) == 0


# The loss of quality tiers


def test_medgr2s_tiers_are_scaled_to_one_and_minus_one() -> None:
    tiers = torch.tensor([TIERS[t] for t in ("expert", "perturbed", "incoherent", "irrelevant")])
    assert tiers.tolist() == [10, 6, 0, -6]
    assert float(on_tiers.loss(torch.tensor([1.0, 0.5, -0.25, -1.0]), tiers)) == 0


def test_the_tier_loss_is_the_mean_squared_error() -> None:
    loss = on_tiers.loss(torch.tensor([0.0, 0.5]), torch.tensor([10.0, -6.0]))
    assert float(loss) == pytest.approx((1.0**2 + 1.5**2) / 2)


def test_a_step_downhill_moves_a_score_towards_its_tier() -> None:
    scores = torch.zeros(2, requires_grad=True)
    on_tiers.loss(scores, torch.tensor([10.0, -6.0])).backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx([-1.0, 1.0])  # 2 (score - target) / 2 rows


# Examples: pairs and single rows in one batch


def cost(
    scores: list[list[float]], targets: list[list[float]], second: list[int], name: str = ""
) -> float:
    tiers = torch.tensor([[10.0, 6.0]] * len(targets))
    loss = open_loss(name or "bradley-terry")
    of = torch.tensor(scores), torch.tensor(targets), tiers, torch.tensor(second)
    return float(loss_of_examples(loss, *of))


NO = float("nan")


def test_a_pair_costs_what_the_loss_says_by_the_criterion_that_was_spoken_of() -> None:
    found = cost([[9.0, 2.0, 9.0], [-9.0, 0.5, -9.0]], [[NO, 1.0, NO]], [1])
    assert found == pytest.approx(loss_of([2.0], [0.5]))


def test_a_single_row_costs_cross_entropy_by_what_was_spoken_of() -> None:
    right, wrong = -math.log(expit(2.0)), -math.log(1 - expit(-1.0))
    assert cost([[2.0, 9.0, -1.0]], [[1.0, NO, 0.0]], [-1]) == pytest.approx((right + wrong) / 2)
    halfway = -0.5 * (math.log(expit(2.0)) + math.log(1 - expit(2.0)))
    assert cost([[2.0, 0.0, 0.0]], [[0.5, NO, NO]], [-1]) == pytest.approx(halfway)


@pytest.mark.parametrize("name", ["bradley-terry", "tiers"])
def test_a_tie_costs_the_mean_of_both_orders(name: str) -> None:
    tie, target = [[0.5, NO, NO]], [[1.0, NO, NO]]
    rows = [[2.0, 0.0, 0.0], [0.5, 0.0, 0.0]]
    either = cost(rows, target, [1], name), cost(rows[::-1], target, [1], name)
    assert cost(rows, tie, [1], name) == pytest.approx(sum(either) / 2)
    even = [[1.25, 0.0, 0.0]] * 2
    assert cost(even, tie, [1], name) < cost(rows, tie, [1], name)


def test_a_batch_costs_the_mean_of_its_examples() -> None:
    pair = cost([[2.0, 0.0, 0.0], [0.5, 0.0, 0.0]], [[1.0, NO, NO]], [1])
    alone = cost([[1.0, 0.0, 0.0]], [[0.0, NO, NO]], [-1])
    scores = [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.5, 0.0, 0.0]]
    both = cost(scores, [[0.0, NO, NO], [1.0, NO, NO]], [-1, 2])
    assert both == pytest.approx((pair + alone) / 2)


# Calibration


def test_platt_finds_the_slope_and_offset_that_made_the_answers() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 2, 40_000)
    accepted = rng.random(40_000) < expit(1.7 * scores - 0.6)
    slope, offset = fit_platt(scores, accepted)
    assert slope == pytest.approx(1.7, abs=0.06)
    assert offset == pytest.approx(-0.6, abs=0.06)
    chance = probability(scores, slope, offset)
    for low in np.arange(0, 1, 0.2):  # as often accepted as it says
        some = (chance >= low) & (chance < low + 0.2)
        assert accepted[some].mean() == pytest.approx(chance[some].mean(), abs=0.03)


def test_a_score_and_a_log_probability_get_a_weight_each() -> None:
    rng = np.random.default_rng(0)
    scores, sure = rng.normal(0.5, 2, 40_000), rng.normal(-0.4, 0.15, 40_000)
    accepted = rng.random(40_000) < expit(0.8 * scores + 9 * sure + 3)
    fitted = fit_with_logprob(scores, sure, accepted)
    assert fitted == pytest.approx((0.8, 9.0, 3.0), rel=0.06)


def test_a_judge_that_ranks_backwards_is_not_turned_round() -> None:
    scores = np.linspace(-3, 3, 200)
    slope, offset = fit_platt(scores, scores < 0.3)
    assert 0 < slope < 0.01
    assert probability(scores, slope, offset) == pytest.approx(0.55, abs=0.02)


@pytest.mark.parametrize("seen", [True, False])
def test_with_one_class_nothing_is_fitted(seen: bool) -> None:
    assert fit_platt(np.array([0.2, 3.0, -1.0]), np.array([seen] * 3)) == (1.0, 0.0)


@pytest.mark.parametrize(("positive", "negative"), [(3, 3), (8, 2), (1, 6)])
def test_perfectly_separated_scores_are_smoothed_as_platt_did(positive: int, negative: int) -> None:
    """Two scores and two parameters: the fit meets (n+1)/(n+2) and 1/(m+2) exactly."""
    scores = np.repeat([1.0, -1.0], [positive, negative])
    slope, offset = fit_platt(scores, scores > 0)
    high, low = probability(np.array([1.0, -1.0]), slope, offset)
    assert high == pytest.approx((positive + 1) / (positive + 2), abs=1e-3)
    assert low == pytest.approx(1 / (negative + 2), abs=1e-3)


# Measuring a judge


class Known(Judge):
    """A judge whose three logits are the text that it is shown."""

    def __init__(self) -> None:
        criteria = {"factuality": 0.6, "reasoning": 0.2, "relevance": 0.2}
        self.settings = JudgeSettings(criteria=criteria, prompts="compact", max_pixels=2**20)

    def scores(self, requests: Any, batch: int = 64) -> np.ndarray:
        return np.array([[float(word) for word in r.text.split()] for r in requests])


def measured(folder: Path, pairs: list[tuple[str, str, str]]) -> Measurement:
    """What `measure` says of pairs of (criterion, the chosen row's logits, the rejected row's)."""
    write(folder, [example(*both, **{"factuality": None, by: 1.0}) for by, *both in pairs])
    return measure(scored(Known(), folder, {"i": b""}))


def test_a_pair_is_ranked_by_its_own_criterion(tmp_path: Path) -> None:
    pairs = [
        ("factuality", "1 -9 -9", "0 9 9"),
        ("reasoning", "-9 1 -9", "9 0 9"),
        ("relevance", "-9 -9 1", "9 9 0"),
        ("relevance", "9 9 0", "-9 -9 1"),
    ]
    assert measured(tmp_path, pairs).pairwise == 0.75


def test_a_tie_is_not_a_right_ranking(tmp_path: Path) -> None:
    assert measured(tmp_path, [("factuality", "1 2 3", "1 0 0")]).pairwise == 0


def test_auc_is_of_the_overall_score_on_factuality_pairs_alone(tmp_path: Path) -> None:
    wrong_elsewhere = [("reasoning", "-9 -9 -9", "9 9 9"), ("relevance", "-9 -9 -9", "9 9 9")]
    # Overall: chosen 1.2 and 2.0, rejected 1.0 and 1.5; by factuality alone it would be 0.5.
    facts = [("factuality", "0 3 3", "1 1 1"), ("factuality", "2 2 2", "1.5 1.5 1.5")]
    found = measured(tmp_path, wrong_elsewhere + facts)
    assert found.report.auc == 0.75
    assert (found.report.n, found.frozen) == (2, 4)


def test_chosen_rows_are_the_positives(tmp_path: Path) -> None:
    good = [("factuality", f"{2 + n} 0 0", f"{-n} 0 0") for n in range(4)]
    turned = [(criterion, rejected, chosen) for criterion, chosen, rejected in good]
    right, wrong = measured(tmp_path / "a", good), measured(tmp_path / "b", turned)
    assert (right.report.auc, right.pairwise) == (1, 1)
    assert (wrong.report.auc, wrong.pairwise) == (0, 0)


def test_the_calibration_is_platts_of_the_same_scores(tmp_path: Path) -> None:
    facts = [("factuality", f"{n} 0 0", f"{n - 3} 0 0") for n in range(6)]
    noise = [("relevance", "50 50 -50", "-50 -50 50")] * 3
    scores = 0.6 * np.array([*range(6), *range(-3, 3)], dtype=float)
    chosen = np.repeat([True, False], 6)
    found = measured(tmp_path, noise + facts)
    assert found.calibration == pytest.approx(fit_platt(scores, chosen))
    assert found.report.auc == round(auc(scores, chosen), 4)


def test_a_judge_is_shown_the_image_of_each_side(tmp_path: Path) -> None:
    class Watching(Known):
        def scores(self, requests: Any, batch: int = 64) -> np.ndarray:
            seen.extend(requests)
            return super().scores(requests)

    seen: list[Request] = []
    write(tmp_path, [example("1 1 1", "0 0 0", image_id=i) for i in "ab"])
    scored(Watching(), tmp_path, {"a": b"first", "b": b"second"})
    assert [(r.png, r.text) for r in seen] == [
        (b"first", "1 1 1"),
        (b"second", "1 1 1"),
        (b"first", "0 0 0"),
        (b"second", "0 0 0"),
    ]


# A loss is found by its place


def test_a_loss_is_one_file_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is known without torch, the configuration takes it, and the trainer opens it."""
    assert names() == ["bradley-terry", "tiers"]
    with pytest.raises(TriptychError, match="no loss 'hinge-pairs': one of bradley-terry, tiers"):
        check_loss("hinge-pairs")
    (tmp_path / "hinge_pairs.py").write_text(
        "def loss(scores, tiers):\n    return (1 - scores[0] + scores[1]).clamp(min=0)\n"
    )
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    check_names(build({}, ["reward.objective=hinge-pairs"], "run.yaml"))
    found = open_loss("hinge-pairs")(torch.tensor([[2.0, 0.0], [0.5, 0.5]]), torch.zeros(2, 2))
    assert float(found.mean()) == 0.75
