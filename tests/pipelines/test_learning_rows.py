"""Which rows teach whom, in which words, and what is counted of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.answers.matching import is_correct
from engine.answers.parsing import parse_completion
from engine.config import build
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.prompts import answer_prompt, ask_prompt
from engine.records import Decision, Evaluation, Image, Task, Triplet
from engine.statistics import cluster_bootstrap
from engine.vlm.protocol import Sampling
from engine.workspace import Stage, Workspace
from generators.phantoms.oracle import share_true
from pipelines.context import Context
from pipelines.evaluation.metrics import arm_metrics
from pipelines.examine import ask_arms
from pipelines.grpo import questions_for_grpo
from pipelines.record import fresh_triplets, kept_triplets
from pipelines.seed import check_disjoint
from pipelines.training.sft import turns_of
from reward_model.experts.expert import EXPERT
from tests.drawn_workspace import answered, context_of, drawn
from tests.lineage_workspace import (
    commit,
    make_decision,
    make_evaluation,
    make_image,
    make_model,
    make_triplet,
)

MODEL = make_model("m", "policy", None, 1, 1)


def configured(**values: Any) -> Context:
    """As much of a context as what shares rows reads."""
    return cast(Context, SimpleNamespace(config=build(values, [], "the test")))


def by_id(images: list[Image]) -> dict[str, Image]:
    return {image.id: image for image in images}


def groups(images: list[Image]) -> dict[str, str]:
    return {image.id: image.group for image in images}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with writing(tmp_path / "w", "made", {"name": "made"}) as opened:
        yield opened


# What SFT is taught


def task_of(style: str) -> Task:
    return Task.make("MR", "disease", "easy", "closed", style)


def row_for(task: Task, rationale: str = "") -> Triplet:
    return replace(
        make_triplet(make_image(1, "g"), "m", 1, 1), task_id=task.id, rationale=rationale
    )


def taught(row: Triplet, task: Task, style: str | None, share: float = 0.0) -> list[dict[str, str]]:
    return list(turns_of([row], {task.id: task}, "compact", style, share, 0))


def words(row: Triplet, style: str) -> str:
    return answer_prompt("compact", row.question, row.options, style)


def test_a_row_is_answered_in_its_own_style_with_its_reasoning() -> None:
    task = task_of("step")
    row = row_for(task, "MR head: none.")
    assert taught(row, task, None) == [
        {
            "image_id": row.image_id,
            "prompt": words(row, "step"),
            "completion": "<think>MR head: none.</think><answer>yes</answer>",
        }
    ]


def test_a_row_that_reasons_teaches_the_tested_style_without_its_reasoning() -> None:
    task = task_of("meta")
    row = row_for(task, "MR head: none.")
    own, tested = taught(row, task, "direct")
    assert own["prompt"] == words(row, "meta")
    assert "<think>" in own["completion"]
    assert tested["prompt"] == words(row, "direct")
    assert tested["completion"] == "<answer>yes</answer>"


def test_a_style_that_reasons_is_not_taught_by_a_row_without_reasoning() -> None:
    assert taught(row_for(task_of("step")), task_of("step"), None) == []
    direct = taught(row_for(task_of("direct"), ""), task_of("direct"), "step")
    assert [t["completion"] for t in direct] == ["<answer>yes</answer>"]


def test_one_turn_is_taught_where_both_styles_are_the_same() -> None:
    assert len(taught(row_for(task_of("direct")), task_of("direct"), "direct")) == 1


def test_a_share_of_rows_also_teaches_asking_for_its_task() -> None:
    task = task_of("direct")
    row = row_for(task)
    asked = taught(row, task, None, share=1.0)[-1]
    assert asked == {
        "image_id": row.image_id,
        "prompt": ask_prompt("compact", task.to_dict()),
        "completion": "<question>Is there a lesion?</question><options>yes | no</options>",
    }
    many = list(turns_of([row] * 1000, {task.id: task}, "compact", None, 0.3, 0))
    assert 250 < sum(t["completion"].startswith("<question>") for t in many) < 350
    assert many == list(turns_of([row] * 1000, {task.id: task}, "compact", None, 0.3, 0))


def test_a_further_row_teaches_its_reasoning_and_not_its_question_or_answer_again() -> None:
    task = task_of("meta")
    rows = [row_for(task, "MR head: none."), replace(row_for(task, "Dark, even."), id="further")]
    turns = list(turns_of(rows, {task.id: task}, "compact", "direct", 1.0, 0, {"further"}))
    assert [turn["completion"] for turn in turns] == [
        "<think>MR head: none.</think><answer>yes</answer>",
        "<answer>yes</answer>",
        "<question>Is there a lesion?</question><options>yes | no</options>",
        "<think>Dark, even.</think><answer>yes</answer>",
    ]


# What SFT leaves to GRPO


def kept_rows() -> list[Triplet]:
    """Two answers to each of 400 questions, one a round."""
    images = [make_image(n, f"g{n}") for n in range(400)]
    return [make_triplet(i, "m", 1, r) for i in images for r in (1, 2)]


def test_a_share_of_the_questions_is_left_to_grpo_in_every_round() -> None:
    rows = kept_rows()
    left = fresh_triplets(configured(grpo={"share": 0.25}), rows)
    assert left == [r for r in rows if r in left]  # in order
    assert len({r.question_key for r in left}) == pytest.approx(100, abs=30)
    for r in (1, 2):
        mine = [row for row in rows if row.round == r]
        assert {t.question_key for t in left} == {
            t.question_key for t in fresh_triplets(configured(grpo={"share": 0.25}), mine)
        }


def test_a_larger_share_leaves_the_same_questions_and_more() -> None:
    rows = kept_rows()
    some, more = (fresh_triplets(configured(grpo={"share": s}), rows) for s in (0.25, 0.5))
    assert {r.id for r in some} < {r.id for r in more}


@pytest.mark.parametrize("grpo", [{"share": 0.0}, {"share": 0.25, "steps": 0}])
def test_without_grpo_nothing_is_left_to_it(grpo: dict[str, Any]) -> None:
    assert fresh_triplets(configured(grpo=grpo), kept_rows()) == []


# What GRPO trains on


def kept_in(workspace: Workspace, rows: list[Triplet], seeds: list[Triplet]) -> None:
    """Commit rows that were all kept but for the last, and the expert's own."""
    decisions: list[Decision] = [make_decision(t, t is not rows[-1], 1) for t in rows]
    commit(workspace, "seed", 0, list(seeds))
    commit(workspace, "generate", 1, list(rows))
    commit(workspace, "select", 1, list(decisions))


def chosen_for_grpo(
    workspace: Workspace, teach: list[Triplet], questions: int = 4, share: float = 0.25
) -> tuple[list[Triplet], Stage]:
    """The rows of a training of so many questions a step, `teach` of which divide its model."""
    stage = workspace.begin("grpo", 1, "made")
    (stage.folder / "asked").mkdir()
    (stage.folder / "asked" / "mixed.json").write_text(json.dumps([t.id for t in teach]))
    batch = [f"grpo.batch={4 * questions}", "grpo.group=4"]
    context = context_of(workspace, f"grpo.share={share}", *batch)
    return questions_for_grpo(context, stage, MODEL), stage


def forty(workspace: Workspace) -> tuple[list[Triplet], list[Triplet], list[Triplet]]:
    """(kept rows, those that SFT left, the expert's): committed."""
    images = [make_image(n, f"g{n}") for n in range(41)]
    rows = [make_triplet(i, "m", 1, 1) for i in images]
    seeds = [make_triplet(i, EXPERT, 0, 0) for i in images[:6]]
    kept_in(workspace, rows, seeds)
    return rows[:-1], fresh_triplets(context_of(workspace), rows[:-1]), seeds


def test_a_rejected_row_is_not_kept_and_a_later_round_is_not_yet(workspace: Workspace) -> None:
    kept, _, _ = forty(workspace)
    later = [make_triplet(make_image(n, "h"), "m", 3, 2) for n in range(50, 53)]
    commit(workspace, "generate", 2, list(later))
    commit(workspace, "select", 2, [make_decision(t, True, 2) for t in later])
    assert kept_triplets(context_of(workspace), 1) == kept
    assert kept_triplets(context_of(workspace), 2) == kept + later


def test_grpo_trains_on_the_left_questions_that_divide_its_model(workspace: Workspace) -> None:
    kept, left, _ = forty(workspace)
    assert 6 <= len(left) < len(kept)
    rows, stage = chosen_for_grpo(workspace, left[1:6])
    assert rows == left[1:6]
    assert stage.metrics == {"fresh": len(left), "mixed": 5}


def test_a_step_is_filled_with_other_left_questions_then_with_seen_ones(
    workspace: Workspace,
) -> None:
    _, left, _ = forty(workspace)
    rows, _ = chosen_for_grpo(workspace, left[2:3])
    assert rows == [left[2], *left[:2], left[3]]


def test_what_sft_saw_fills_a_step_last_and_the_experts_rows_after_it(workspace: Workspace) -> None:
    kept, left, seeds = forty(workspace)
    rows, _ = chosen_for_grpo(workspace, [], questions=44)
    seen = [t for t in kept if t not in left]
    assert rows == [*left, *seen, *seeds][:44]
    assert rows[-1] in seeds


def test_where_sft_left_nothing_grpo_takes_what_it_saw(workspace: Workspace) -> None:
    kept, _, _ = forty(workspace)
    rows, stage = chosen_for_grpo(workspace, kept[5:11], share=0)
    assert rows == kept[5:11]
    assert stage.metrics["fresh"] == len(kept)


def test_the_questions_that_divide_a_model_are_found_by_asking_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The tiny model, hot enough to be mixed on some; what was found is not asked again."""
    images = [drawn("ultrasound", n, ("cyst", "none")[n % 2]) for n in range(8)]
    rows = [
        answered(i, "Is there a cyst?", "yes" if n % 2 == 0 else "no", round=1)
        for n, i in enumerate(images)
    ]
    spare = answered(images[0], "Is there a solid mass?", "no", round=1)
    commit(workspace, "ingest", 0, list(images))
    kept_in(workspace, [*rows, spare], [])
    context = context_of(
        workspace,
        "grpo.share=0",
        "grpo.group=4",
        "grpo.batch=4",
        "grpo.temperature=1",
        "grpo.max_tokens=8",
    )
    stage = workspace.begin("grpo", 1, "asked")
    chosen = questions_for_grpo(context, stage, context.base())
    sampling = Sampling(4, 1.0, 8, context.config.seed * 1000 + 1)
    said = ask_arms(context, {"sft": (context.base(), rows)}, sampling, tmp_path)["sft"]
    verdicts = [{is_right(text, row) for text in texts} for row, texts in zip(rows, said)]
    assert [r for r, v in zip(rows, verdicts) if v == {True, False}] == chosen
    assert 0 < len(chosen) < len(rows)
    elsewhere = make_model("gone", "sft", None, 1, 1)  # whose weights are nowhere
    assert questions_for_grpo(context, stage, elsewhere) == chosen


def is_right(text: str, row: Triplet) -> bool:
    said = parse_completion(text)
    return said.problem is None and is_correct(said.answer, row.answer, row.options)


# What is counted


def test_precision_is_the_share_of_rows_that_are_right_on_their_image() -> None:
    cyst, normal = drawn("ultrasound", 0, "cyst"), drawn("ultrasound", 1, "none")
    rows = [
        answered(cyst, "Is there a cyst?", "yes"),
        answered(cyst, "Which finding is shown?", "Cyst.", ("none", "cyst")),
        answered(normal, "Is there a cyst?", "yes"),
        answered(normal, "On which side is the cyst?", "left", ("left", "right")),  # false premise
    ]
    assert share_true(by_id([cyst, normal]), rows) == 0.5
    assert share_true(by_id([cyst, normal]), rows[:2]) == 1
    assert share_true(by_id([cyst, normal]), rows[2:]) == 0
    assert share_true(by_id([cyst, normal]), rows[:3]) == 0.6667


def test_precision_counts_only_images_whose_truth_is_known() -> None:
    known, other = drawn("ultrasound", 0, "cyst"), make_image(3, "g")
    rows = [answered(known, "Is there a cyst?", "yes"), answered(other, "Is there a cyst?", "no")]
    assert share_true(by_id([known, other]), rows) == 1
    assert share_true(by_id([known, other]), rows[1:]) is None
    assert share_true(by_id([known]), []) is None


@pytest.mark.parametrize("key", ["group", "id"])
def test_a_group_or_an_image_in_two_splits_ends_the_run(workspace: Workspace, key: str) -> None:
    images = [make_image(n, f"g{n // 2}", ("train", "val", "test")[n // 2 % 3]) for n in range(12)]
    commit(workspace, "ingest", 0, list(images))
    check_disjoint(context_of(workspace))
    stray = make_image(0, "new", "test") if key == "id" else make_image(99, "g0", "test")
    first = getattr(images[0], key)
    commit(workspace, "review", 0, [stray])
    with pytest.raises(TriptychError, match=f"1 {key}s are in more than one split, first {first}"):
        check_disjoint(context_of(workspace))


def mark(image: Image, arm: str, correct: bool, valid: bool = True) -> Evaluation:
    row = make_evaluation(image, MODEL, 1)
    return replace(row, arm=arm, correct=correct, valid=valid)


def test_an_arm_is_measured_on_test_images_by_patient_with_invalid_answers_counted() -> None:
    images = [make_image(n, f"g{n // 4}", "test") for n in range(40)]
    unseen = [make_image(n, "v", "val") for n in range(50, 60)]
    right = [n // 4 in (0, 3, 4, 8) for n in range(40)]  # patients that stand or fall together
    rows = [
        mark(i, "policy", ok, valid=ok or n % 4 > 0) for n, (i, ok) in enumerate(zip(images, right))
    ]
    rows += [mark(i, "policy", True) for i in unseen]
    rows += [mark(i, "sft", False, valid=False) for i in images[:8]]
    found = arm_metrics(rows, groups([*images, *unseen]))
    low, high = cluster_bootstrap(right, [i.group for i in images], 0)
    assert found["policy"] == {
        "accuracy": 0.4,
        "low": round(low, 4),
        "high": round(high, 4),
        "n": 40,
        "invalid": 6,
    }
    assert found["sft"] == {"accuracy": 0, "low": 0, "high": 0, "n": 8, "invalid": 8}


def test_an_interval_over_patients_is_wider_than_over_answers() -> None:
    images = [make_image(n, f"g{n // 4}", "test") for n in range(40)]
    alone = [replace(i, group=i.id) for i in images]
    rows = [mark(i, "policy", n // 4 % 2 == 0) for n, i in enumerate(images)]
    by_patient, by_answer = (arm_metrics(rows, groups(c))["policy"] for c in (images, alone))
    width = by_patient["high"] - by_patient["low"]
    assert width > 1.5 * (by_answer["high"] - by_answer["low"])
    assert by_patient["low"] < 0.5 < by_patient["high"]


def test_an_arm_without_test_answers_is_left_out() -> None:
    image = make_image(1, "v", "val")
    assert arm_metrics([mark(image, "policy", True)], groups([image])) == {}
