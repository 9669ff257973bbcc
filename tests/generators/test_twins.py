"""Twins: one thing changed, the rest pixel for pixel as it was, and questions that tell them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from generators.phantoms import KINDS, draw, to_display
from generators.phantoms.__main__ import TWINS, twins
from generators.phantoms.asked import Asked, CannotDraw
from generators.phantoms.base import MIN_CNR, Truth, count_components
from generators.phantoms.oracle import answer_of
from generators.phantoms.twins import (
    LESION,
    Change,
    Recipe,
    Twin,
    changes,
    looked,
    paired,
    twin_of,
    value_of,
)

SIZE = 128  # below, small lesions are enlarged to a pixel, and spots fall between pixels
SEEDS = (3, 11, 12, 15, 16, 19)


@cache
def twins_of(kind: str) -> tuple[list[Twin], list[str]]:
    """One twin of each thing that can change in each finding, and the reasons of refusals."""
    found: list[Twin] = []
    refused: list[str] = []
    findings = ("none", *KINDS[kind].findings)
    for finding, seed in zip([*findings, findings[1]], SEEDS):
        recipe = Recipe(kind, seed, SIZE, 0.3, finding)
        done: set[str] = set()
        for change in changes(recipe.draw().truth):
            if change.what in done:
                continue
            try:
                found.append(twin_of(recipe, change))
                done.add(change.what)
            except CannotDraw as error:
                refused.append(str(error))
    return found, refused


def difference(twin: Twin) -> np.ndarray:
    """(H, W) largest difference of the displayed pixels' channels."""
    one, two = (to_display(p).astype(int) for p in (twin.original, twin.phantom))
    return np.abs(one - two).reshape(*twin.region.shape, -1).max(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_outside_the_region_is_the_same(kind: str) -> None:
    spill = KINDS[kind].spill
    twins, _ = twins_of(kind)
    assert len(twins) >= 5
    for twin in twins:
        outside = ~twin.region
        if outside.any():
            assert difference(twin)[outside].max() <= spill.levels, (twin.change, twin.original)
        if spill.levels == 0:
            assert (twin.original.pixels[outside] == twin.phantom.pixels[outside]).all()


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "histology"])
def test_a_region_is_a_part_of_the_image(kind: str) -> None:
    """A region that is everything would make the test above say nothing."""
    twins, _ = twins_of(kind)
    shares = [twin.region.mean() for twin in twins]
    assert min(shares) < 0.75 if kind == "OCT" else np.median(shares) < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_the_change_can_be_seen_where_it_was_made(kind: str) -> None:
    for twin in twins_of(kind)[0]:
        shown = twin.original.mask | twin.phantom.mask
        assert difference(twin)[shown].mean() > 2, (twin.change, twin.original.truth)
        for phantom in (twin.original, twin.phantom):
            assert phantom.truth.finding == "none" or phantom.truth.cnr >= MIN_CNR


@pytest.mark.parametrize("kind", KINDS)
def test_one_thing_is_changed_and_the_rest_told_alike(kind: str) -> None:
    seen = set()
    for twin in twins_of(kind)[0]:
        before, after = twin.original.truth, twin.phantom.truth
        assert value_of(after, twin.change.what) == twin.change.to
        assert value_of(before, twin.change.what) != twin.change.to
        seen.add(twin.change.what)
        if twin.change.what == "finding":
            continue
        told = KINDS[kind].findings[before.finding]
        others = {*LESION, "finding"} - {twin.change.what}
        for what in others & {*told, "finding"}:
            assert getattr(after, what) == getattr(before, what), twin.change
    changeable = {w for told in KINDS[kind].findings.values() for w in told}
    assert seen >= {"finding", *changeable}


@pytest.mark.parametrize("kind", ["MR", "X-ray", "CT-chest", "ultrasound", "OCT"])
def test_a_twin_s_truth_is_recounted_from_its_mask(kind: str) -> None:
    for twin in twins_of(kind)[0]:
        truth, mask = twin.phantom.truth, twin.phantom.mask
        assert truth.count == count_components(mask)
        if truth.side:
            left = np.nonzero(mask)[1].mean() < (SIZE - 1) / 2
            image_side = "left" if left else "right"
            patient = {"left": "right", "right": "left"}[image_side]
            assert truth.side == (image_side if kind == "ultrasound" else patient)


def test_a_twin_of_a_twin_back_is_the_original() -> None:
    """Nothing but the change is drawn differently: undone, every pixel is what it was."""
    recipe = Recipe("MR", 5, SIZE, 0.3, "tumor")
    one = twin_of(recipe, Change("side", _other(recipe.draw().truth)))
    back = replace(recipe, asked=Asked(side=one.original.truth.side))
    assert (back.draw().pixels == one.original.pixels).all()
    sizes = one.original.truth.size_mm, one.phantom.truth.size_mm
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)  # of one shape on another grid


def _other(truth: Truth) -> str:
    return "left" if truth.side == "right" else "right"


def test_one_lesion_more_leaves_the_others_where_they_are() -> None:
    recipe = Recipe("CT", 4, SIZE, 0.3, "hemorrhage", Asked(count=2, size="small"))
    twin = twin_of(recipe, Change("count", "3"))
    assert (twin.phantom.mask & twin.original.mask).sum() == twin.original.mask.sum()
    assert (twin.original.pixels == twin.phantom.pixels)[twin.original.mask].mean() > 0.99


def test_what_cannot_change_is_refused_with_its_reason() -> None:
    recipe = Recipe("MR", 1, SIZE, 0.3, "plaque")
    with pytest.raises(CannotDraw, match=r"MR: size to large: .* large lesions are not drawn"):
        twin_of(recipe, Change("size", "large"))
    with pytest.raises(CannotDraw, match="side to up is no change that can be made"):
        twin_of(recipe, Change("side", "up"))
    with pytest.raises(CannotDraw, match="none: side to left is no change"):
        twin_of(replace(recipe, finding="none"), Change("side", "left"))
    assert all("\n" not in reason for kind in ("CT", "OCT") for reason in twins_of(kind)[1])


def test_the_picture_of_twins_can_be_drawn() -> None:
    assert set(TWINS) == set(KINDS)
    assert twins(0.2).size == (1230, 296)


# Questions to both


@pytest.mark.parametrize("kind", KINDS)
def test_paired_questions_have_two_true_answers_that_differ(kind: str) -> None:
    rng = np.random.default_rng(0)
    number = 0
    for twin in twins_of(kind)[0]:
        truths = twin.original.truth, twin.phantom.truth
        pairs = paired(*truths, rng)
        assert pairs, twin.change
        number += len(pairs)
        for pair in pairs:
            for truth, answer in zip(truths, pair.answers):
                assert answer_of(truth, pair.question) == answer
                assert answer in pair.options
            assert pair.answers[0] != pair.answers[1]
            assert len(set(pair.options)) == len(pair.options) <= 4
            assert [pair.of(n).answer for n in (0, 1)] == [*pair.answers]
    assert number >= len(twins_of(kind)[0])


def test_images_that_show_the_same_have_no_paired_question() -> None:
    truth = draw("CT", 1, 64).truth
    assert paired(truth, truth, np.random.default_rng(0)) == []


def test_the_same_answers_to_both_twins_say_that_nobody_looked() -> None:
    assert looked(["left"], ["left"], ("left", "right")) == 0
    assert looked(["left"], ["B) right"], ("left", "right")) == 1
    assert looked(["A"] * 4, ["B."] * 4, ("left", "right")) == 1
    assert looked(["Left."], ["left"]) == 0
    with pytest.raises(ValueError, match="at least one"):
        looked([], ["left"])


def test_who_guesses_has_not_looked() -> None:
    """Answers that differ by chance alone have a figure of 0 on average, whatever their spread."""
    rng = np.random.default_rng(0)
    words = np.array(["left", "right", "both"])
    figures = [looked(*rng.choice(words, (2, 4)).tolist()) for _ in range(3000)]
    assert abs(np.mean(figures)) < 0.02
    half = [looked(["left"] * 4, rng.choice(words[:2], 4).tolist()) for _ in range(3000)]
    assert abs(np.mean(half) - 0.25) < 0.02  # half the squared distance of (1, 0) and (1/2, 1/2)
