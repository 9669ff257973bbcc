"""Quotas: cells and shares are met to the task, what no image allows is told, the mix moves."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import Config, build
from engine.config.quotas import MOST_STEPS, Quotas
from engine.errors import TriptychError
from engine.records import Evaluation, Task
from generators.plan import next_mix
from generators.quotas import NONE_LEFT, Unfilled, wanted_of
from generators.tasks import Drawn, Mix, draw_tasks, uniform_mix

PLACES = [("CT", "chest")] * 8 + [("CT", "head")] * 4 + [("MR", "brain")] * 12
IMAGES = [(f"{n:032x}", modality, anatomy) for n, (modality, anatomy) in enumerate(PLACES)]
STYLES = {"direct": 1.0, "step": 1.0}
MIX = uniform_mix(["CT", "MR"])
BY_ID = {image_id: (modality, anatomy) for image_id, modality, anatomy in IMAGES}


def drawn(quotas: dict[str, Any], tasks: int = 300, mix: Mix = MIX, seed: int = 1) -> Drawn:
    wanted = wanted_of(tasks, STYLES, Quotas.model_validate(quotas))
    return draw_tasks(IMAGES, mix, wanted, seed)


def tasks_of(quotas: dict[str, Any], tasks: int = 300, mix: Mix = MIX) -> list[Task]:
    found = drawn(quotas, tasks, mix)
    pairs = list(found.pairs)
    assert len(pairs) == found.number
    for image_id, task in pairs:
        assert task.modality == BY_ID[image_id][0]
        assert task.anatomy in ("", BY_ID[image_id][1])
    return [task for _, task in pairs]


def counted(tasks: list[Task], axis: str) -> Counter[Any]:
    return Counter(getattr(task, axis) for task in tasks)


def shares_of(values: list[Any]) -> st.SearchStrategy[dict[Any, float]]:
    some = st.dictionaries(st.sampled_from(values), st.floats(0, 5), max_size=4)
    return some.filter(lambda shares: not shares or sum(shares.values()) > 0.1)


QUOTAS = st.fixed_dictionaries(
    {},
    optional={
        "modality": shares_of(["CT", "MR"]),
        "question_type": shares_of(["disease", "grading", "modality"]),
        "difficulty": shares_of(["easy", "medium", "hard"]).filter(bool),
        "answer_format": shares_of(["closed", "choice", "open"]).filter(bool),
        "steps": shares_of([1, 2, MOST_STEPS]).filter(bool),
    },
)


@settings(max_examples=40)
@given(QUOTAS, st.integers(1, 400))
def test_a_share_is_met_to_the_task_along_every_axis(quotas: dict[str, Any], number: int) -> None:
    found = tasks_of(quotas, number)
    assert len(found) == number
    for axis, shares in Quotas.model_validate(quotas).shares().items():
        total = sum(shares.values())
        for value, share in shares.items():
            assert abs(counted(found, axis)[value] - number * share / total) < 1.001
        assert counted(found, axis).keys() <= {value for value, share in shares.items() if share}


def test_without_quotas_it_is_the_mix_the_styles_and_the_number() -> None:
    found = tasks_of({}, 1200)
    assert counted(found, "modality") == pytest.approx({"CT": 600, "MR": 600}, abs=5)
    kinds = counted(found, "question_type")
    assert {kind: kinds[kind] for kind in ("disease", "modality")} == pytest.approx(
        {"disease": 1200 / 3.4, "modality": 240 / 3.4}, abs=2
    )
    assert counted(found, "prompt_style") == {"direct": 600, "step": 600}
    assert counted(found, "answer_format") == {"closed": 360, "choice": 720, "open": 120}
    assert set(counted(found, "difficulty").values()) == {400}
    assert counted(found, "anatomy") == {"": 1200}  # any, as long as nobody speaks of it
    assert counted(found, "steps") == {1: 1200}


def test_a_cell_has_its_number_and_counts_towards_the_shares() -> None:
    hard = {
        "modality": "CT",
        "anatomy": "chest",
        "difficulty": "hard",
        "style": "step",
        "tasks": 80,
    }
    quotas = {"difficulty": {"easy": 1, "hard": 1}, "cells": [hard, {"steps": 2, "share": 0.1}]}
    found = tasks_of(quotas)
    mine = [t for t in found if t.anatomy == "chest"]
    assert len(mine) == 80
    assert {(t.modality, t.difficulty, t.prompt_style) for t in mine} == {("CT", "hard", "step")}
    assert counted(found, "difficulty") == {"easy": 150, "hard": 150}
    assert counted(found, "steps") == {1: 270, 2: 30}


def test_cells_that_ask_for_more_than_a_share_hold_and_the_others_share_the_rest() -> None:
    quotas = {"difficulty": {"easy": 8, "medium": 1, "hard": 1}}
    found = tasks_of(quotas | {"cells": [{"difficulty": "hard", "tasks": 120}]})
    assert counted(found, "difficulty") == {"easy": 160, "medium": 20, "hard": 120}


def test_anatomies_share_out_by_the_shares_and_their_images_are_asked_evenly() -> None:
    found = drawn({"anatomy": {"chest": 2, "brain": 1}})
    pairs = list(found.pairs)
    assert counted([t for _, t in pairs], "anatomy") == {"chest": 200, "brain": 100}
    asked = Counter(image_id for image_id, _ in pairs)
    assert {asked[i] for i, _, anatomy in IMAGES if anatomy == "chest"} == {25}
    assert [i for i, _, anatomy in IMAGES if anatomy == "head" and asked[i]] == []


def test_what_no_image_has_is_told_and_asked_of_no_other_cell() -> None:
    none = {"modality": "MR", "anatomy": "chest", "tasks": 30}
    found = drawn({"modality": {"CT": 1, "PET": 1}, "cells": [none]})
    assert [str(one) for one in found.unfilled] == [
        "modality MR, anatomy chest: 30 tasks are not asked, "
        "no training image has this modality and this anatomy",
        "modality PET: 135 tasks are not asked, "
        "no training image has this modality (there are: CT, MR)",
    ]
    assert counted([t for _, t in found.pairs], "modality") == {"CT": 135}


def test_shares_that_contradict_each_other_are_never_exceeded_and_told() -> None:
    """Half of MR, and a tenth of the only anatomy that MR shows."""
    shares = {"modality": {"CT": 1, "MR": 1}, "anatomy": {"chest": 9, "brain": 1}}
    found = drawn(shares)
    assert found.unfilled == [
        Unfilled({"modality": "MR"}, 120, NONE_LEFT),
        Unfilled({"anatomy": "chest"}, 120, NONE_LEFT),
    ]
    assert counted([t for _, t in found.pairs], "anatomy") == {"chest": 150, "brain": 30}


def test_a_cell_that_the_shares_leave_no_image_is_told() -> None:
    """CT shows no brain: of a cell that says nothing of either, no image is left."""
    shares = {"modality": {"CT": 1}, "anatomy": {"brain": 1}}
    found = drawn(shares | {"cells": [{"question_type": "grading", "tasks": 7}]})
    assert found.unfilled[0] == Unfilled({"question_type": "grading"}, 7, NONE_LEFT)
    assert found.number == 0


def test_the_plan_is_of_images_quotas_and_seed_alone() -> None:
    quotas = {"anatomy": {"chest": 1, "brain": 1}, "cells": [{"modality": "CT", "tasks": 9}]}
    first = list(drawn(quotas).pairs)
    wanted = wanted_of(300, STYLES, Quotas.model_validate(quotas))
    again = draw_tasks(reversed(IMAGES), MIX, wanted, 1)
    assert list(again.pairs) == first
    assert list(drawn(quotas, seed=2).pairs) != first
    assert [image_id for image_id, _ in first] == sorted(image_id for image_id, _ in first)


# Quotas and what the policy got wrong


def wrong(cell: str, number: int = 40) -> list[Evaluation]:
    modality, _, question_type = cell.partition("/")
    return [
        Evaluation(
            id=f"{cell}{n}", model_id="m", image_id="i", split="val", round=1, arm="policy",
            modality=modality, question_type=question_type, question="?", options=(), gold="yes",
            answer="no", valid=True, correct=False,
        )
        for n in range(number)
    ]  # fmt: skip


def cell_of(tasks: list[Task], modality: str, kind: str) -> int:
    return sum(t.modality == modality and t.question_type == kind for t in tasks)


def test_feedback_moves_what_is_free_and_leaves_the_shares_that_are_named() -> None:
    types = {"question_type": {"disease": 1, "grading": 1, "attribute": 1}}
    after = next_mix(MIX, wrong("MR/disease"))
    assert cell_of(tasks_of({}, 600, after), "MR", "disease") > 120  # of 88 before
    before, found = tasks_of(types, 600), tasks_of(types, 600, after)
    named = counted(before, "question_type")
    assert counted(found, "question_type") == named  # named, so they hold
    assert cell_of(before, "MR", "disease") == 100
    assert cell_of(found, "MR", "disease") > 110  # the modality is free, so it moves
    assert counted(found, "modality")["MR"] > counted(before, "modality")["MR"]


def test_feedback_still_leans_a_type_towards_a_modality_where_both_have_shares() -> None:
    both = {"question_type": {"disease": 1, "grading": 1}, "modality": {"CT": 1, "MR": 1}}
    found = tasks_of(both, 600, next_mix(MIX, wrong("MR/disease")))
    assert counted(found, "modality") == {"CT": 300, "MR": 300}
    assert counted(found, "question_type") == {"disease": 300, "grading": 300}
    assert cell_of(found, "MR", "disease") > 160 < cell_of(found, "CT", "grading")


def test_feedback_does_not_move_a_cell() -> None:
    cell = {"modality": "CT", "question_type": "grading", "tasks": 200}
    mix = next_mix(MIX, wrong("MR/disease"))
    assert cell_of(tasks_of({"cells": [cell]}, 300, mix), "CT", "grading") >= 200


# The configuration


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{modality: {CT: 0}}", "generator.quotas.modality: shares: one of the shares must be"),
        ("{difficulty: {}}", "generator.quotas.difficulty: shares: one of the shares must be"),
        ("{difficulty: {harder: 1}}", "generator.quotas.difficulty.harder"),
        ("{style: {step: 1}}", "unknown key generator.quotas.style"),
        ("{steps: {9: 1}}", "generator.quotas.steps.9"),
        ("{cells: [{modality: CT}]}", "a cell has tasks (a number) or share (of all)"),
        ("{cells: [{modality: CT, tasks: 1, share: 1}]}", "one of the two"),
        ("{cells: [{tasks: 4}]}", "a cell names one or more of modality, anatomy,"),
        ("{cells: [{modality: CT, tasks: 601}]}", "raise tasks to 601"),
        ("{cells: [{style: meat, tasks: 1}]}", "style meat, which is none of styles"),
    ],
)
def test_what_is_no_quota_is_one_line(value: str, problem: str) -> None:
    with pytest.raises(TriptychError) as error:
        build({}, [f"generator.quotas={value}"], "demo.yaml")
    assert problem in str(error.value)


def test_what_a_workspace_remembers_of_quotas_is_read_back() -> None:
    text = "{steps: {1: 3, 2: 1}, cells: [{steps: 2, share: 0.1}]}"
    config = build({}, [f"generator.quotas={text}"], "demo.yaml")
    assert Config.model_validate(json.loads(json.dumps(config.recorded()))) == config
    assert config.generator.quotas.spoken_of == ("steps",)
    assert Config().generator.quotas.spoken_of == ()
