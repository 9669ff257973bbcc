"""A certificate keeps its word, is refused where it could not, and says of what it is."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom

from engine.errors import TriptychError
from reward_model import certificate
from reward_model.certificate import (
    CANDIDATES,
    ROOM,
    TILT,
    Certificate,
    Opinion,
    candidates,
    certify,
    granted,
    least_verdicts,
    one_a_patient,
    p_value,
    threshold_of,
)

WHOLE = np.linspace(0, 1, 1000)


def opinions(
    confidences: np.ndarray, wrong: np.ndarray, group: str = "", readers: tuple[str, ...] = ("a",)
) -> list[Opinion]:
    return [
        Opinion(
            confidence=float(c),
            accepted=not w,
            patient=f"{group}{number}",
            group=group,
            readers=readers,
        )
        for number, (c, w) in enumerate(zip(confidences, wrong))
    ]


def faultless(number: int, group: str = "") -> list[Opinion]:
    return opinions(np.linspace(0, 1, number), np.zeros(number), group)


def one(found: tuple[Certificate, ...]) -> Certificate:
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("precision", "confidence", "rejected", "least"),
    [(0.95, 0.9, 0, 45), (0.9, 0.9, 0, 22), (0.95, 0.9, 1, 77), (0.99, 0.95, 0, 299)],
)
def test_least_verdicts_is_the_smallest_sample_that_the_plain_sum_allows(
    precision: float, confidence: float, rejected: int, least: int
) -> None:
    def tail(n: int) -> float:
        q = 1 - precision
        return sum(math.comb(n, k) * q**k * precision ** (n - k) for k in range(rejected + 1))

    assert least_verdicts(precision, confidence, rejected) == least
    assert tail(least) <= 1 - confidence < tail(least - 1)


@pytest.mark.parametrize("number", [0, 1, 44])
def test_too_few_verdicts_are_refused_with_how_many_are_missing(number: int) -> None:
    found = one(certify(faultless(number), {"": WHOLE}, 0.95, 0.9))
    assert not found.granted
    assert found.share == 0
    assert found.missing == 45 - number
    assert f"at least {45 - number} further accepted verdict" in found.in_words(1)


def test_45_faultless_verdicts_certify_the_whole_at_95_percent() -> None:
    found = one(certify(faultless(45), {"": WHOLE}, 0.95, 0.9))
    assert found.threshold == WHOLE.min()
    assert found.share == 1
    assert found.kept_verdicts == 45
    assert found.missing == 0


def test_none_accepted_is_refused() -> None:
    said = opinions(np.linspace(0, 1, 300), np.ones(300))
    found = one(certify(said, {"": WHOLE}, 0.9, 0.9))
    assert not found.granted
    assert found.missing > 300


def test_equal_confidences_are_kept_or_refused_together() -> None:
    same = np.full(500, 0.5)
    good = one(certify(opinions(same[:100], np.zeros(100)), {"": same}, 0.9, 0.9))
    assert good.threshold == 0.5
    assert good.share == 1
    half = np.arange(100) % 2
    assert not one(certify(opinions(same[:100], half), {"": same}, 0.9, 0.9)).granted


def test_a_threshold_divides_the_good_from_the_bad() -> None:
    confidences = np.linspace(0, 1, 200)
    found = one(certify(opinions(confidences, confidences < 0.5), {"": WHOLE}, 0.9, 0.9))
    assert found.threshold is not None
    assert 0.4 < found.threshold < 0.65
    assert found.share == pytest.approx(np.mean(found.threshold <= WHOLE))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.5])
def test_a_confidence_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(TriptychError, match="confidences"):
        certify(opinions(np.array([bad]), np.zeros(1)), {"": WHOLE}, 0.9, 0.9)
    with pytest.raises(TriptychError, match="confidences"):
        certify([], {"": [0.5, bad]}, 0.9, 0.9)


@pytest.mark.parametrize(("precision", "confidence"), [(1.0, 0.9), (0.9, 0.0), (float("nan"), 0.9)])
def test_a_target_outside_its_range_is_refused(precision: float, confidence: float) -> None:
    with pytest.raises(TriptychError, match="guarantee"):
        certify([], {"": WHOLE}, precision, confidence)


def test_a_verdict_of_a_group_without_chosen_rows_is_refused() -> None:
    with pytest.raises(TriptychError, match="'CT'"):
        certify(faultless(50, "CT"), {"MR": WHOLE}, 0.9, 0.9)


def test_one_opinion_a_patient_counts_whatever_the_order() -> None:
    said = [
        Opinion(confidence=c, accepted=accepted, patient="p")
        for c in (0.1, 0.4, 0.7)
        for accepted in (True, False)
    ]
    (kept,) = one_a_patient(said)
    assert one_a_patient(said[::-1]) == [kept]
    assert not kept.accepted  # of two on one row a rejection counts
    flipped = [Opinion(confidence=o.confidence, accepted=True, patient="p") for o in said]
    assert one_a_patient(flipped)[0].confidence == kept.confidence  # what is said picks nothing


def test_opinions_on_one_patient_are_one_verdict() -> None:
    said = [Opinion(confidence=c, accepted=True, patient="p") for c in np.linspace(0, 1, 500)]
    found = one(certify(said, {"": WHOLE}, 0.9, 0.9))
    assert found.verdicts == 1
    assert not found.granted


def test_candidates_are_quantiles_from_strict_to_loose() -> None:
    thresholds, shares = candidates(WHOLE, 200, 45)
    assert (np.diff(thresholds) < 0).all()
    assert 1 < len(thresholds) <= CANDIDATES
    assert shares[0] == pytest.approx(ROOM * 45 / 200, abs=2e-3)
    assert shares[-1] == 1
    assert shares == pytest.approx([np.mean(t <= WHOLE) for t in thresholds])


def test_two_candidates_are_granted_as_by_summing_over_all_outcomes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error of both together where both are false, exactly, and the critical value by hand."""
    monkeypatch.setattr(certificate, "APART", 1)
    certificate._tests.cache_clear()
    verdicts, share, q, alpha = 120, 0.5, 0.1, 0.1
    found: list[tuple[float, float, float]] = []  # p-values and probability of each outcome
    for n in range(verdicts + 1):
        k, more = np.meshgrid(np.arange(n + 1), np.arange(verdicts - n + 1), indexing="ij")
        mass = binom.pmf(n, verdicts, share) * binom.pmf(k, n, q)
        mass = mass * binom.pmf(more, verdicts - n, q)
        strict, loose = p_value(k, n, 0.9), p_value(k + more, verdicts, 0.9)
        found += zip(strict.ravel(), loose.ravel(), mass.ravel())
    p, mass = np.array(found)[:, :2], np.array(found)[:, 2]
    assert mass.sum() == pytest.approx(1)

    statistic = np.where(p <= alpha, p / np.array([1, TILT]), np.inf).min(axis=1)
    order = np.argsort(statistic)
    critical = statistic[order][np.searchsorted(mass[order].cumsum(), alpha)]
    by_hand = (p <= alpha) & (statistic < critical)[:, None]
    passed = granted(p, verdicts, [share, 1.0], 0.9, 0.9)
    certificate._tests.cache_clear()

    assert mass[passed.any(axis=1)].sum() <= alpha + 0.006  # of 20,000 draws, three deviations
    assert mass[(passed != by_hand).any(axis=1)].sum() < 0.02  # outcomes at the critical value
    assert mass[(p <= alpha).any(axis=1)].sum() > 0.11  # else there is nothing to correct
    assert mass[(p <= alpha).all(axis=1)].sum() < 0.04  # nor is it one after the other


def test_sets_that_are_tested_alike_stand_for_all_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed testing over each subset of six candidates, and over what their tests look at."""
    monkeypatch.setattr(certificate, "APART", 2)
    certificate._tests.cache_clear()
    shares = np.geomspace(0.3, 1, 6)
    tests, _ = certificate._tests(150, tuple(shares.tolist()), 0.9, 0.9)
    levels = {tuple(np.flatnonzero(row).tolist()): row for row in tests}

    def looked_at(members: tuple[int, ...]) -> tuple[int, ...]:
        found = [members[0]]
        for member in members:
            if member - found[-1] >= 2:
                found.append(member)
        return tuple(found)

    subsets = [s for n in range(1, 7) for s in combinations(range(6), n)]
    assert {looked_at(s) for s in subsets} == set(levels)
    rng = np.random.default_rng(3)
    several = 0
    for p in 10 ** rng.uniform(-3, 0, size=(300, 6)):
        rejected = {s: bool((p < levels[looked_at(s)]).any()) for s in subsets}
        by_hand = [all(rejected[s] for s in subsets if c in s) for c in range(6)]
        assert granted(p, 150, shares, 0.9, 0.9).tolist() == by_hand
        several += 0 < sum(by_hand) < 6
    certificate._tests.cache_clear()
    assert several > 50


def broken(correct: bool, runs: int = 4000) -> float:
    """Share of broken promises where each candidate keeps rows just below the target."""
    rng = np.random.default_rng(5)
    _, shares = candidates(WHOLE, 200, least_verdicts(0.9, 0.9))
    counts = rng.multinomial(200, np.diff([0, *shares]), size=runs)
    wrong = rng.binomial(counts, 0.1001).cumsum(axis=1)
    p = p_value(wrong, counts.cumsum(axis=1), 0.9)
    passed = granted(p, 200, shares, 0.9, 0.9) if correct else p <= 0.1
    return float(passed.any(axis=1).mean())


def test_a_false_promise_is_rare_where_all_candidates_are_false() -> None:
    assert broken(correct=True) <= 0.1 + 3 * math.sqrt(0.09 / 4000)


def test_without_the_correction_the_promise_would_break() -> None:
    assert broken(correct=False) > 0.15


def test_what_is_granted_also_passes_the_plain_test_of_its_own_threshold() -> None:
    rng = np.random.default_rng(6)
    granted_ones = 0
    for _ in range(40):
        confidences = rng.random(150)
        said = opinions(confidences, rng.random(150) < 0.3 * (1 - confidences))
        found = one(certify(said, {"": WHOLE}, 0.9, 0.9))
        if found.granted:
            granted_ones += 1
            assert binom.cdf(found.rejected, found.kept_verdicts, 0.1) <= 0.1
    assert granted_ones


def test_a_group_with_verdicts_enough_stands_for_itself_and_the_others_together() -> None:
    said = [*faultless(90, "MR"), *faultless(30, "CT"), *faultless(20, "US")]
    found = certify(said, {"CT": WHOLE, "MR": WHOLE, "US": WHOLE}, 0.95, 0.9, by_group=True)
    assert [c.groups for c in found] == [("MR",), ("CT", "US")]
    assert [c.pooled for c in found] == [False, True]
    assert [c.verdicts for c in found] == [90, 50]
    assert all(c.granted for c in found)
    assert "(CT, US together)" in found[1].in_words(2)
    assert threshold_of(found, "US") == found[1].threshold == WHOLE.min()


def test_what_is_said_does_not_decide_who_is_pooled() -> None:
    bad = opinions(np.linspace(0, 1, 90), np.ones(90), "MR")
    said = [*bad, *faultless(50, "CT")]
    found = certify(said, {"CT": WHOLE, "MR": WHOLE}, 0.95, 0.9, by_group=True)
    assert [(c.groups, c.granted) for c in found] == [(("MR",), False), (("CT",), True)]
    assert threshold_of(found, "MR") is None


def test_without_groups_all_are_pooled() -> None:
    said = [*faultless(30, "MR"), *faultless(30, "CT")]
    found = one(certify(said, {"CT": WHOLE, "MR": WHOLE}, 0.95, 0.9))
    assert found.groups == ("CT", "MR")
    assert found.granted


def test_a_round_without_chosen_rows_promises_nothing() -> None:
    assert certify([], {}, 0.9, 0.9) == ()
    found = one(certify([], {"": []}, 0.9, 0.9))
    assert not found.granted
    assert found.missing == 22


def test_the_promise_in_words() -> None:
    said = opinions(np.linspace(0, 1, 212), np.zeros(212), readers=("a", "b", "c"))
    found = one(certify(said, {"": WHOLE}, 0.95, 0.9))
    assert found.in_words(2) == (
        "at most 5 % wrong, 90 % confidence, from 212 random verdicts of 3 readers, "
        "for rows chosen as in round 2"
    )
