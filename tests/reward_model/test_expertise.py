"""Pairs from gold answers and from the judge: how they differ, which images they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import build
from reward_model.experts import open_expert
from reward_model.experts.expert import EXPERT, Pairs
from reward_model.preferences import in_holdout
from reward_model.refinement import new_pairs
from tests.lineage_workspace import make_image, make_judgement, make_model, make_triplet

ASKED = {
    "PRES": ("Is there a cyst in the left kidney?", ("no", "yes")),
    "PLANE": ("In which plane is this slice?", ("axial", "sagittal")),
    "MODALITY": ("With which modality was it taken?", ("CT", "MRI")),
}


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[int, int], Pairs]:
    """Pairs of four images with a closed and two open questions each: a number of them, a seed."""
    images = [replace(make_image(n, f"g{n}"), source=f"images/{n}.png") for n in range(4)]
    rows = [
        {
            "image_name": f"{n}.png",
            "image_case_url": f"case/{n}",
            "image_organ": "ABD",
            "question": question,
            "question_type": kind,
            "answer": answers[n % 2],
        }
        for n in range(4)
        for kind, (question, answers) in ASKED.items()
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    values: dict[str, Any] = {"expert": {"kind": "benchmark"}}
    config = build(values, [f"source.path={tmp_path}", "source.public=true"], "x")
    expert = open_expert(config, images)
    gold = [row for i in images for row, _ in expert.rows(i, 9)]
    return lambda number, seed: expert.pairs(gold, number, seed)


@pytest.fixture
def pairs(draw: Callable[[int, int], Pairs]) -> Pairs:
    """Sixty pairs."""
    return draw(60, 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_row_that_another_was_made_from_is_written_too(
    draw: Callable[[int, int], Pairs], seed: int
) -> None:
    rows, preferences = draw(6, seed)
    there = {row.id for row in rows}
    images = {make_image(n, f"g{n}").id for n in range(4)}
    named = {source for row in rows for source in row.derived_from}
    assert named
    assert named <= there | images
    assert {p.chosen_id for p in preferences} | {p.rejected_id for p in preferences} <= there


def test_reasoning_is_judged_by_its_order_and_not_by_being_there(pairs: Pairs) -> None:
    rows, preferences = pairs
    known = {row.id: row for row in rows}
    judged = [p for p in preferences if p.criterion == "reasoning"]
    assert judged
    for pair in judged:
        good, bad = known[pair.chosen_id], known[pair.rejected_id]
        assert good.rationale != bad.rationale
        assert sorted(good.rationale.split()) == sorted(bad.rationale.split()) != []
        assert good.answer == bad.answer
        assert good.generator_id != EXPERT  # not the expert's words: no row of the dataset


def test_a_perturbed_answer_is_one_to_a_question_of_the_same_type(pairs: Pairs) -> None:
    rows, preferences = pairs
    known = {row.id: row for row in rows}
    answers = {
        (known[p.chosen_id].answer, known[p.rejected_id].answer)
        for p in preferences
        if p.criterion == "factuality"
    }
    assert answers == {pair for _, said in ASKED.values() for pair in (said, said[::-1])}


def test_the_judges_own_pairs_keep_off_frozen_images() -> None:
    images = [make_image(n, f"g{n}") for n in range(12)]
    rows, opinions = [], []
    for shown in images:
        for sample, (answer, overall) in enumerate((("yes", 5.0), ("yes", 4.0), ("no", -5.0))):
            row = replace(make_triplet(shown, "g", sample, 1), answer=answer, options=("yes", "no"))
            rows.append(row)
            judgement = make_judgement(row, make_model("judge", "judge", None, 0, 1))
            opinions.append(replace(judgement, overall=overall))
    judged = {j.triplet_id: j for j in opinions}
    config = build({}, ["reward.expert_pairs=0"], "x")
    taught = {pair.image_id for pair in new_pairs(config, [(rows, judged)], None, 1)[0]}
    frozen = {i.id for i in images if in_holdout(i.id, config.expert.holdout)}
    assert frozen
    assert taught == {i.id for i in images} - frozen
    assert new_pairs(config, [(rows, judged)], None, 1, trusted=False)[0] == []
