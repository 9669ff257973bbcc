"""Several reasonings of a kept answer, through the stages: a question counts once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.lineage.opening import writing
from engine.lineage.questions import why_not
from engine.reasons import FURTHER
from engine.records import Image, Triplet
from engine.workspace import Workspace
from pipelines.context import Context
from pipelines.grpo import questions_for_grpo
from pipelines.record import each_kept, further_ids, kept_triplets
from tests.drawn_workspace import answered, context_of, drawn
from tests.lineage_workspace import make_model
from tests.pipelines.test_across import a_round, selected

TOLD = (
    "A bright round area lies in the middle.",
    "Compared with its mirror image, one half holds something more.",
    "Sharp edges and even grey inside: no artefact looks like this.",
)
THREE = "select.rationales=3"


def asked(image: Image, question: str, answer: str, *told: str, round: int = 1) -> list[Triplet]:
    """Samples of one answer with these reasonings, the likeliest first."""
    return [
        answered(image, question, answer, rationale=r, sample=n, round=round, logprob=-0.1 - n / 50)
        for n, r in enumerate(told)
    ]


@pytest.fixture
def images() -> list[Image]:
    return [drawn("MR", n, "tumor") for n in (1, 2)]


@pytest.fixture
def rows(images: list[Image]) -> list[Triplet]:
    """One question of three reasonings, rightly answered, and one of one, wrongly."""
    one, other = images
    return [
        *asked(one, "Is there a tumor?", "yes", *TOLD),
        answered(other, "Is there a tumor?", "no", rationale=TOLD[0], round=1, logprob=-0.9),
    ]


def test_a_question_is_counted_once_however_many_reasonings_are_kept(
    tmp_path: Path, images: list[Image], rows: list[Triplet]
) -> None:
    a_round(tmp_path, images, rows)
    decisions, metrics = selected(tmp_path, 1, THREE)
    assert [decisions[row.id].reason == FURTHER for row in rows] == [False, True, True, False]
    assert all(decisions[row.id].keep for row in rows)
    assert (metrics["kept"], metrics["further"], metrics["questions"]) == (4, 2, 2)
    assert metrics["kept_fraction"] == 1.0
    assert metrics["precision_after"] == 0.5  # of two questions, not three of four rows
    assert metrics["waterfall"][-1]["left"] == 4
    story = why_not(Workspace.existing(tmp_path).ledger(), rows[1].id)["story"]
    assert story["winner"] == rows[0].id
    assert story["decided"][0]["reason"] == FURTHER


def test_one_reasoning_is_kept_as_before(
    tmp_path: Path, images: list[Image], rows: list[Triplet]
) -> None:
    a_round(tmp_path, images, rows)
    decisions, metrics = selected(tmp_path, 1)
    assert [decisions[row.id].keep for row in rows] == [True, False, False, True]
    assert "further" not in metrics


def test_further_rows_go_with_a_question_that_is_a_near_duplicate(
    tmp_path: Path, images: list[Image]
) -> None:
    surer = answered(images[0], "Is there a tumor?", "yes", round=1, logprob=-0.01)
    again = asked(images[0], "Can you see a tumor in this image?", "yes", *TOLD)
    a_round(tmp_path, images, [surer, *again])
    decisions, metrics = selected(tmp_path, 1, THREE)
    assert [decisions[row.id].keep for row in [surer, *again]] == [True, False, False, False]
    assert decisions[again[1].id].reason == "same answer as the chosen row"
    assert metrics["further"] == 0


def test_balance_counts_the_questions_of_earlier_rounds_and_not_their_reasonings(
    tmp_path: Path,
) -> None:
    """12 "yes" and 6 "no" of a round before leave room for "yes"; 36 and 6 would not."""
    yes, no, after = ([drawn("MR", n, "tumor", size=32) for n in range(*some)]
                      for some in ((12,), (12, 18), (18, 20)))  # fmt: skip
    first = [row for image in yes for row in asked(image, "Is there a tumor?", "yes", *TOLD)]
    first += [answered(i, "Is there a tumor?", "no", round=1, logprob=-2.0) for i in no]
    second = [answered(i, "Is there a tumor?", "yes", round=2) for i in after]
    a_round(tmp_path, [*yes, *no, *after], first, second)
    kept, _ = selected(tmp_path, 1, THREE)
    assert sum(d.keep for d in kept.values()) == 42
    decisions, _ = selected(tmp_path, 2, THREE)
    assert all(d.keep for d in decisions.values())


def trained(root: Path, body: Any) -> Any:
    with writing(root, "demo", {}) as workspace:
        return body(workspace, context_of(workspace, THREE, "grpo.batch=8", "grpo.group=4"))


def test_grpo_asks_a_question_once_and_sft_learns_from_each_reasoning(
    tmp_path: Path, images: list[Image], rows: list[Triplet]
) -> None:
    a_round(tmp_path, images, rows)
    selected(tmp_path, 1, THREE)

    def body(workspace: Workspace, context: Context) -> None:
        assert kept_triplets(context, 1) == rows
        assert list(each_kept(context, 1, further=False)) == [rows[0], rows[3]]
        assert further_ids(context, 1) == {rows[1].id, rows[2].id}
        stage = workspace.begin("grpo", 1, "made")
        (stage.folder / "asked").mkdir()
        (stage.folder / "asked" / "mixed.json").write_text(json.dumps([]))
        chosen = questions_for_grpo(context, stage, make_model("m", "policy", None, 1, 1))
        assert sorted(row.id for row in chosen) == sorted(row.id for row in (rows[0], rows[3]))

    trained(tmp_path, body)
