"""Phantoms with exact truth, the questions about them, and what a round asks for."""

from __future__ import annotations

import itertools
import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.matching import is_correct, is_valid
from engine.records import Evaluation, Image, Task, Triplet
from generators.phantoms import KINDS, bank, composer, draw, oracle, reporter, to_display
from generators.phantoms.base import MIN_CNR, SIZES, Phantom, Truth, count_components
from generators.phantoms.oracle import is_true, reasons_truly
from generators.plan import FLOOR, next_mix
from generators.quotas import wanted_of
from generators.tasks import Mix, Shown, draw_tasks, uniform_mix
from reward_model.experts.simulated import write_rows

SEEDS = range(6)
SIZE = 128
DRAWN = [
    (kind, finding, seed)
    for kind in bank.RADIOLOGY
    for finding in ("none", *bank.FINDINGS[kind])
    for seed in SEEDS
]


@cache
def phantom_of(modality: str, finding: str | None, seed: int) -> Phantom:
    return draw(modality, seed, SIZE, 0.3, finding)


def test_every_kind_of_the_question_bank_can_be_drawn() -> None:
    assert set(KINDS) == set(bank.FINDINGS)
    assert {draw(kind, 0, 64).truth.modality for kind in KINDS} == set(bank.MODALITIES)


# Phantoms


@pytest.mark.parametrize("modality", bank.RADIOLOGY)
def test_the_same_seed_gives_the_same_pixels_and_truth(modality: str) -> None:
    one, two = draw(modality, 5, SIZE), draw(modality, 5, SIZE)
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.mask, two.mask)
    assert one.truth == two.truth
    assert not np.array_equal(one.pixels, draw(modality, 6, SIZE).pixels)


@pytest.mark.parametrize("modality", bank.RADIOLOGY)
def test_a_finding_is_drawn_at_random_where_none_is_named(modality: str) -> None:
    found = {draw(modality, seed, 64).truth.finding for seed in range(24)}
    assert found == {"none", *bank.FINDINGS[modality]}


@pytest.mark.parametrize(("modality", "finding", "seed"), DRAWN)
def test_the_truth_is_what_the_mask_shows(modality: str, finding: str, seed: int) -> None:
    phantom = phantom_of(modality, finding, seed)
    truth, mask = phantom.truth, phantom.mask
    assert (truth.modality, truth.finding) == (modality, finding)
    assert truth.count == count_components(mask)
    if finding == "none":
        assert not mask.any()
        assert (truth.side, truth.size, truth.size_mm) == (None, None, None)
    else:
        assert truth.size in SIZES
        assert truth.size_mm is not None
        assert truth.size_mm > 0


@pytest.mark.parametrize(("modality", "finding", "seed"), DRAWN)
def test_a_side_is_the_patients_and_the_images_in_ultrasound(
    modality: str, finding: str, seed: int
) -> None:
    phantom = phantom_of(modality, finding, seed)
    if finding == "none":
        return
    in_left_half = np.nonzero(phantom.mask)[1].mean() < (SIZE - 1) / 2
    of_image = "left" if in_left_half else "right"
    of_patient = "right" if in_left_half else "left"
    assert phantom.truth.side == (of_image if modality == "ultrasound" else of_patient)


@pytest.mark.parametrize(("modality", "finding", "seed"), DRAWN)
def test_a_finding_can_be_seen(modality: str, finding: str, seed: int) -> None:
    if finding != "none":
        assert phantom_of(modality, finding, seed).truth.cnr >= MIN_CNR


@pytest.mark.parametrize("modality", bank.RADIOLOGY)
def test_the_hardest_findings_can_be_seen_too(modality: str) -> None:
    for finding, seed in itertools.product(bank.FINDINGS[modality], range(3)):
        assert draw(modality, seed, 96, 1.0, finding).truth.cnr >= MIN_CNR


@pytest.mark.parametrize("modality", bank.RADIOLOGY)
def test_an_image_for_display_uses_its_grey_levels(modality: str) -> None:
    shown = to_display(phantom_of(modality, bank.FINDINGS[modality][0], 0))
    assert shown.dtype == np.uint8
    assert shown.shape == (SIZE, SIZE)
    assert len(np.unique(shown)) > 30
    assert np.mean((shown == 0) | (shown == 255)) < 0.9


# Questions


OF_KIND = {kind: draw(kind, 0, 64).truth for kind in KINDS}


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    kind = draw(st.sampled_from(sorted(KINDS)))
    finding = draw(st.sampled_from(["none", *bank.FINDINGS[kind]]))
    told = bank.SUBJECTS[kind].get(finding, ())
    return Truth(
        OF_KIND[kind].modality,
        OF_KIND[kind].anatomy,
        finding,
        draw(st.sampled_from(["left", "right"])) if "side" in told else None,
        draw(st.integers(1, 4)) if finding != "none" else 0,
        draw(st.sampled_from(SIZES)) if "size" in told else None,
        attributes={
            name: draw(st.sampled_from(allowed))
            for name in bank.SHOWN.get(kind, ())
            if (allowed := bank.ATTRIBUTES[name].allowed(finding))
        },
    )


rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
findings = sorted({f for found in bank.FINDINGS.values() for f in found})


@pytest.mark.parametrize("kind", bank.TEMPLATES)
def test_a_question_of_the_bank_is_recognised_again(kind: str) -> None:
    for template in bank.TEMPLATES[kind][1]:
        for finding in findings if "{f}" in template else [None]:
            assert bank.kind_of(bank.fill(template, finding or "")) == (kind, finding)


@given(truths(), rngs)
def test_whatever_is_askable_can_be_composed(truth: Truth, rng: np.random.Generator) -> None:
    for question_type in bank.QUESTION_TYPES:
        composed = composer.compose(truth, question_type, rng)
        assert (composed is not None) == bool(composer.askable(truth, question_type))


@given(st.text())
def test_another_text_is_no_question_of_the_bank(text: str) -> None:
    assert bank.kind_of(f"Please: {text}") is None


@given(truths())
def test_a_false_premise_has_no_answer(truth: Truth) -> None:
    told = bank.SUBJECTS[bank.shown_kind(truth)].get(truth.finding, ())
    for kind, need in (("size", "size"), ("larger", "size"), ("side", "side")):
        for template, finding in itertools.product(bank.TEMPLATES[kind][1], findings):
            answer = oracle.answer_of(truth, bank.fill(template, finding))
            named = finding == truth.finding or "{f}" not in template
            assert (answer is not None) == (named and need in told)
    for kind in ("count", "several"):
        for template in bank.TEMPLATES[kind][1]:
            assert (oracle.answer_of(truth, template) is not None) == ("count" in told)
    for kind, attribute in bank.ATTRIBUTES.items():
        for template in attribute.templates:
            assert oracle.answer_of(truth, template) == truth.attributes.get(kind)


@given(truths())
def test_exactly_the_finding_that_is_there_is_present(truth: Truth) -> None:
    said = {
        f for f in findings if oracle.answer_of(truth, bank.fill("Is there {a} {f}?", f)) == "yes"
    }
    assert said == {truth.finding} - {"none"}


composed = st.tuples(
    truths(),
    st.sampled_from(bank.QUESTION_TYPES),
    rngs,
    st.sampled_from(bank.DIFFICULTIES),
    st.sampled_from([None, *bank.ANSWER_FORMATS]),
)


@given(composed)
def test_a_composed_answer_is_among_the_options_and_right(case: tuple) -> None:
    truth, question_type, *_ = case
    qa = composer.compose(*case)
    if qa is None:
        assert not composer.askable(truth, question_type)
        return
    assert qa.question_type == question_type
    assert qa.answer == oracle.answer_of(truth, qa.question)
    assert not qa.options or qa.answer in qa.options
    assert is_correct(qa.answer, qa.answer, qa.options)
    assert len(set(qa.options)) == len(qa.options) != 1


ALSO_TRUE = ({"head", "brain"}, {"eye", "head"}, {"eye", "brain"}, {"colon", "abdomen"})


@given(truths(), rngs)
def test_no_body_part_is_offered_that_is_true_too(truth: Truth, rng: np.random.Generator) -> None:
    offered = set(composer.options_for(truth, "anatomy", truth.anatomy, rng, "hard"))
    assert not any(truth.anatomy in pair and pair <= offered for pair in ALSO_TRUE)


@given(truths(), rngs)
def test_radiology_is_set_against_radiology_only(truth: Truth, rng: np.random.Generator) -> None:
    offered = set(composer.options_for(truth, "modality", truth.modality, rng, "hard"))
    assert offered <= set(
        bank.RADIOLOGY if bank.shown_kind(truth) in bank.RADIOLOGY else bank.MODALITIES
    )


@given(composed)
def test_a_wrong_answer_is_valid_and_wrong(case: tuple) -> None:
    truth, _, rng, *_ = case
    qa = composer.compose(*case)
    if qa is not None:
        wrong = composer.wrong_answer(truth, qa, rng)
        assert is_valid(wrong, qa.options)
        assert not is_correct(wrong, qa.answer, qa.options)


@given(composed)
def test_harder_questions_have_more_options(case: tuple) -> None:
    truth, _, rng, _, _ = case
    options = {
        difficulty: composer.options_for(truth, "modality", truth.modality, rng, difficulty)
        for difficulty in bank.DIFFICULTIES
    }
    assert [len(options[d]) for d in bank.DIFFICULTIES] == [2, 3, 4]


@given(truths(), rngs)
def test_a_corrupted_truth_is_another_and_still_possible(
    truth: Truth, rng: np.random.Generator
) -> None:
    other = reporter.corrupt(truth, rng)
    assert reporter.describe(other) != reporter.describe(truth)
    assert (other.modality, other.anatomy) == (truth.modality, truth.anatomy)
    assert other.finding in ("none", *bank.FINDINGS[bank.shown_kind(truth)])
    told = bank.SUBJECTS[bank.shown_kind(truth)].get(other.finding, ())
    assert [other.side is None, other.count == 0, other.size is None] == [
        name not in told for name in ("side", "count", "size")
    ]
    for name in bank.SHOWN.get(bank.shown_kind(truth), ()):
        allowed = bank.ATTRIBUTES[name].allowed(other.finding)
        assert other.attributes[name] in allowed if allowed else name not in other.attributes


@given(truths(), st.sampled_from(bank.PROMPT_STYLES), rngs)
def test_a_rationale_describes_the_image_in_every_style_but_direct(
    truth: Truth, style: str, rng: np.random.Generator
) -> None:
    words = reporter.rationale(truth, style, rng)
    assert words.startswith("" if style == "direct" else reporter.describe(truth))
    assert (words == "") == (style == "direct")


# The expert


def image_of(truth: Truth, number: int = 1) -> Image:
    return Image(
        id=f"{number:032x}",
        width=1,
        height=1,
        modality=truth.modality,
        anatomy=truth.anatomy,
        group="g",
        split="train",
        source="phantom",
        rendering="{}",
        deidentification="none needed",
        is_synthetic=True,
        truth=json.dumps(truth.to_dict()),
    )


@given(truths(), st.integers(1, 6), st.integers(0, 99))
def test_the_experts_rows_are_true_and_ask_different_questions(
    truth: Truth, number: int, seed: int
) -> None:
    image = image_of(truth)
    rows = [row for row, _ in write_rows(image, number, ["direct", "step", "meta"], seed, True)]
    assert rows == [r for r, _ in write_rows(image, number, ["direct", "step", "meta"], seed, True)]
    assert len({row.question for row in rows}) == len(rows) <= number
    assert all(is_true(image, row) and reasons_truly(image, row) for row in rows)


def test_nobody_knows_the_truth_of_an_image_that_is_no_phantom() -> None:
    truth = Truth("MR", "brain", "none")
    row: Triplet = write_rows(image_of(truth), 1, ["direct"], 0, True)[0][0]
    image = Image(**(image_of(truth).to_dict() | {"truth": None}))
    assert is_true(image, row) is None


# The planner and the tasks


def answered(cell: str, correct: bool, number: int) -> Evaluation:
    modality, _, question_type = cell.partition("/")
    return Evaluation(
        id=f"{cell}{number}", model_id="m", image_id="i", split="val", round=1, arm="policy",
        modality=modality, question_type=question_type, question="?", options=(), gold="yes",
        answer="yes", valid=True, correct=correct,
    )  # fmt: skip


CELLS = ["MR/disease", "MR/grading", "CT/disease", "CT/attribute"]
mixes = st.fixed_dictionaries({cell: st.floats(0.01, 10) for cell in CELLS})
results = st.fixed_dictionaries(
    {cell: st.tuples(st.integers(0, 20), st.integers(0, 20)) for cell in CELLS}
)


def evaluations(counts: dict[str, tuple[int, int]]) -> list[Evaluation]:
    return [
        answered(cell, k < right, k)
        for cell, (right, wrong) in counts.items()
        for k in range(right + wrong)
    ]


@given(mixes, results)
def test_the_next_mix_keeps_the_mean_and_forgets_nothing(
    mix: dict[str, float], counts: dict[str, tuple[int, int]]
) -> None:
    after = next_mix(mix, evaluations(counts))
    assert set(after) == set(mix)
    assert sum(after.values()) == pytest.approx(sum(mix.values()), abs=1e-5)
    assert all(after[cell] >= FLOOR * mix[cell] - 1e-6 for cell in mix)


@given(results)
def test_the_next_round_asks_more_of_what_was_wrong(counts: dict[str, tuple[int, int]]) -> None:
    after = next_mix(dict.fromkeys(CELLS, 1.0), evaluations(counts))
    error = {cell: (w + 2) / (r + w + 4) for cell, (r, w) in counts.items()}
    for one, two in itertools.combinations(CELLS, 2):
        if error[one] > error[two]:
            assert after[one] >= after[two]
    if len(set(error.values())) > 1:
        assert after[max(error, key=error.__getitem__)] > after[min(error, key=error.__getitem__)]


def test_without_answers_the_mix_stays() -> None:
    mix = {"MR/disease": 1.0, "MR/anatomy": 0.2}
    assert next_mix(mix, []) == pytest.approx(mix)


MODALITIES = ["MR", "CT", "MR", "CT", "MR", "MR"]
IMAGES = [(f"{number:032x}", modality, "") for number, modality in enumerate(MODALITIES)]
STYLES = {"direct": 0.5, "meta": 0.5}


def tasks_of(
    number: int, seed: int, mix: Mix | None = None, images: list[Shown] = IMAGES
) -> list[tuple[str, Task]]:
    drawn = draw_tasks(images, mix or uniform_mix(MODALITIES), wanted_of(number, STYLES), seed)
    assert drawn.unfilled == []
    return list(drawn.pairs)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.permutations(IMAGES))
def test_the_same_seed_draws_the_same_tasks_in_any_order_of_images(
    number: int, seed: int, images: list[Shown]
) -> None:
    drawn = tasks_of(number, seed)
    assert tasks_of(number, seed, images=images) == drawn
    assert [image for image, _ in drawn] == sorted(image for image, _ in drawn)
    assert len(drawn) == number
    modality_of = {image: modality for image, modality, _ in IMAGES}
    assert all(modality_of[image] == task.modality for image, task in drawn)
    assert {task.prompt_style for _, task in drawn} <= set(STYLES)


def test_no_image_is_asked_about_twice_before_all_of_its_modality_were() -> None:
    drawn = tasks_of(200, 1)
    for modality in ("MR", "CT"):
        asked = [image for image, task in drawn if task.modality == modality]
        counts = [asked.count(image) for image, shown, _ in IMAGES if shown == modality]
        assert max(counts) - min(counts) <= 1


def test_a_cell_of_no_weight_is_not_asked() -> None:
    mix = uniform_mix(MODALITIES) | {"MR/disease": 0.0}
    drawn = tasks_of(300, 2, mix)
    assert "MR/disease" not in {f"{t.modality}/{t.question_type}" for _, t in drawn}
