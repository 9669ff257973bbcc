"""Pairs from gold answers and from the judge: how they differ, which patients they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import build
from engine.records import Triplet
from reward_model.experts import open_expert
from reward_model.experts.expert import EXPERT, Pairs
from reward_model.patient_sets import is_frozen
from reward_model.refinement import Judged, new_pairs
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


def test_an_answer_is_wrong_that_another_image_gave_to_the_question(pairs: Pairs) -> None:
    rows, preferences = pairs
    known = {row.id: row for row in rows}
    answers = {
        (known[p.chosen_id].answer, known[p.rejected_id].answer)
        for p in preferences
        if p.criterion == "factuality"
    }
    assert answers == {pair for _, said in ASKED.values() for pair in (said, said[::-1])}
    for row in rows:
        assert row.generator_id == EXPERT or row.derived_from  # no new row of the dataset


def judged_part(kept: Callable[[Triplet], bool]) -> tuple[Judged, set[str]]:
    """Two samples that say yes and one that says no on each of twelve images, and their ids."""
    images = [make_image(n, f"g{n}") for n in range(12)]
    rows, opinions = [], {}
    for shown in images:
        for sample, (answer, overall) in enumerate((("yes", 5.0), ("yes", 4.0), ("no", -5.0))):
            row = replace(make_triplet(shown, "g", sample, 1), answer=answer, options=("yes", "no"))
            rows.append(row)
            judgement = make_judgement(row, make_model("judge", "judge", None, 0, 1))
            opinions[row.id] = replace(judgement, overall=overall)
    frozen = {i.id for i in images if is_frozen(i.group)}
    ids = {row.id for row in rows if kept(row)}
    return Judged(triplets=rows, judgements=opinions, kept=ids, frozen=frozen), frozen


def test_the_judges_own_pairs_keep_off_frozen_patients_and_rows_that_were_not_kept() -> None:
    config = build({}, ["reward.expert_pairs=0"], "x")
    part, frozen = judged_part(lambda row: row.sample == 1)
    every = {row.image_id for row in part.triplets}
    assert frozen
    own, _ = new_pairs(config, [part], None, 1)
    assert {pair.image_id for pair in own} == every - frozen
    assert {pair.chosen_id for pair in own} <= part.kept
    assert new_pairs(config, [part], None, 1, trusted=False)[0] == []
    for nothing in (lambda row: False, lambda row: row.answer == "no"):  # kept against the judge
        assert new_pairs(config, [judged_part(nothing)[0]], None, 1)[0] == []
