"""The simulated expert errs as often as it says in every kind of pair; whence a difficulty is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from engine.config import build
from engine.records import Image, Task, Triplet
from generators import phantoms
from generators.phantoms import bank, composer
from generators.phantoms.oracle import is_true, reasons_truly, truth_of
from pipelines.training.sft import turns_of
from reward_model.experts.expert import NOT_STATED
from reward_model.experts.simulated import SimulatedExpert, write_rows
from tests.generators.test_generators import image_of

RATE = 0.2
Kind = tuple[str, str, str]  # who, criterion, tier


@pytest.fixture(scope="module")
def images() -> list[Image]:
    return [
        replace(image_of(phantoms.draw(kind, n, 64).truth), id=f"{i:08x}{n:024x}")
        for i, kind in enumerate(("MR", "ultrasound"))
        for n in range(20)
    ]  # fmt: skip


def expert_of(images: list[Image], rate: float, seed: int) -> SimulatedExpert:
    config = build({}, [f"expert.error_rate={rate}", f"seed={seed}"], "x")
    return SimulatedExpert(config.expert, list(config.generator.styles), config.seed, images)


def samples(images: list[Image], seed: int) -> list[Triplet]:
    """Questions with right and wrong answers, right ones only, wrong ones only, false premises."""
    rng = np.random.default_rng(seed)
    rows = []
    for image in images:
        truth = truth_of(image)
        assert truth is not None
        for n, (row, _) in enumerate(write_rows(image, 8, ["step", "direct"], seed, False)):
            kind = bank.kind_of(row.question)
            assert kind is not None
            qa = bank.QA(kind[0], row.question, row.options, row.answer)
            wrong = replace(row, id=row.id + "w", answer=composer.wrong_answer(truth, qa, rng))
            rows += [[row, wrong], [row], [wrong]][n % 3]
        if truth.finding != "none":
            asked = "How large is the glaucoma?"
            premise = replace(row, id=row.id + "p", question=asked, options=(), answer="large")
            rows.append(premise)
    return rows


def is_right(image: Image, chosen: Triplet, rejected: Triplet, criterion: str) -> bool:
    """Whether truth is with the verdict."""
    if criterion == "factuality":
        return bool(is_true(image, chosen)) and not is_true(image, rejected)
    if criterion == "reasoning":
        return reasons_truly(image, chosen) and not reasons_truly(image, rejected)
    return bool(is_true(image, chosen)) and chosen.generator_id != "irrelevant"


def verdicts(images: list[Image], rate: float) -> dict[Kind, list[bool]]:
    found: dict[Kind, list[bool]] = defaultdict(list)
    shown = {i.id: i for i in images}
    tier_of = {6.0: "perturbed", 0.0: "incoherent", -6.0: "irrelevant"}
    for seed in range(8):
        expert = expert_of(images, rate, seed)
        rows = samples(images, seed)
        seeds = [row for i in images for row, _ in expert.rows(i, 4, True)]
        for made, pairs in (expert.pairs(rows, 10**6, seed), expert.implied(seeds)):
            known = {r.id: r for r in [*rows, *made]}
            for p in pairs:
                both = known[p.chosen_id], known[p.rejected_id]
                right = is_right(shown[p.image_id], *both, p.criterion)
                found[p.expert, p.criterion, tier_of[p.tier_rejected]].append(right)
    return found


def test_the_stated_error_rate_holds_for_every_kind_of_pair(images: list[Image]) -> None:
    found = verdicts(images, RATE)
    assert set(found) == {
        ("simulated", "factuality", "perturbed"),
        ("simulated", "reasoning", "incoherent"),
        ("simulated", "relevance", "irrelevant"),
        ("simulated", "relevance", "perturbed"),
        ("expert row", "factuality", "perturbed"),
    }
    for kind, right in found.items():
        wrong = len(right) - sum(right)
        low, high = binomtest(wrong, len(right)).proportion_ci(0.999)
        assert low <= RATE <= high, (kind, wrong, len(right))
        assert high - low < 0.2, (kind, len(right))  # enough pairs to tell


def test_an_expert_without_errors_is_always_right(images: list[Image]) -> None:
    assert all(all(right) for right in verdicts(images[::6], 0.0).values())


def test_an_expert_row_has_the_difficulty_that_was_asked_for(images: list[Image]) -> None:
    tasks = [t for i in images for _, t in write_rows(i, 4, ["direct"], 0, True)]
    counts = {d: sum(t.difficulty == d for t in tasks) for d in bank.DIFFICULTIES}
    assert sum(counts.values()) == len(tasks)
    assert min(counts.values()) > len(tasks) / 6


def test_a_question_that_nobody_asked_for_has_the_difficulty_that_its_options_tell(
    images: list[Image],
) -> None:
    rows = [pair for i in images for pair in write_rows(i, 4, ["direct"], 0, False)]
    by_options = {2: "easy", 3: "medium", 4: "hard"}
    for row, task in rows:
        choice = task.answer_format == "choice"
        assert task.difficulty == (by_options[len(row.options)] if choice else NOT_STATED)
    assert {t.difficulty for _, t in rows} == {*bank.DIFFICULTIES, NOT_STATED}


def test_a_difficulty_that_is_not_stated_is_never_asked_for(images: list[Image]) -> None:
    """A gold question teaches asking for any difficulty, since it tells none."""
    row, _ = write_rows(images[0], 1, ["direct"], 0, False)[0]
    task = Task.make("MR", "disease", NOT_STATED, "closed", "direct")
    rows = [replace(row, task_id=task.id)] * 60
    turns = list(turns_of(rows, {task.id: task}, "compact", None, 1.0, 0))
    asked = {t["prompt"].split(" | ")[2] for t in turns if t["prompt"].startswith("Ask:")}
    assert asked == set(bank.DIFFICULTIES)
