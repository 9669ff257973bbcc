"""Pairs from gold answers: the worse row differs in what its criterion asks about."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.config import build
from generators.expert import EXPERT
from pipelines.context import Context
from pipelines.expertise import GoldExpert, Pairs
from tests.lineage_workspace import make_image

ASKED = {
    "PRES": ("Is there a cyst in the left kidney?", ("no", "yes")),
    "PLANE": ("In which plane is this slice?", ("axial", "sagittal")),
    "MODALITY": ("With which modality was it taken?", ("CT", "MRI")),
}


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    """Sixty pairs of four images with a closed and two open questions each."""
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
    values: dict[str, Any] = {"expert": {"kind": "vqa-rad"}}
    config = build(values, [f"source.path={tmp_path}", "source.public=true"], "x")
    context = cast(Context, SimpleNamespace(config=config, images=lambda: images))
    expert = GoldExpert(context)
    return expert.pairs([row for i in images for row, _ in expert.rows(i, 9)], 60, 0)


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
