"""What a judge is taught and measured by: all that was said, by the patient's set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.caveats import at_chance
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.records import Image, Preference, Triplet, Verdict
from engine.workspace import Workspace
from pipelines import judge_training
from pipelines.context import Context
from pipelines.judge_training import fit_judge, stand_ins, taught
from pipelines.reward import blind_auc
from reward_model.examples import IMPLIED
from reward_model.patient_sets import SHARES, is_frozen, set_of
from reward_model.preferences import preference
from tests.drawn_workspace import answered, context_of
from tests.judge_rows import measurement
from tests.lineage_workspace import commit, make_image, make_model
from tests.opinions import verdict

IMAGES = [make_image(n, f"g{n}") for n in range(24)]
ELSEWHERE = replace(make_image(99, "g99", "test"), id="of the test")


def sampled(image: Image) -> list[Triplet]:
    """Three answers to one question."""
    return [
        answered(image, "Is it there?", answer, sample=n)
        for n, answer in enumerate(("yes", "no", "yes"))
    ]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Verdicts of two stages on the first answer of each image, and a pair on each."""
    rows = {image.id: sampled(image) for image in [*IMAGES, ELSEWHERE]}
    said = [verdict(rows[image.id][0], "accept") for image in IMAGES]
    said.append(verdict(rows[ELSEWHERE.id][0], "accept", stream="test"))
    pairs = [
        preference(*rows[i.id][:2], "factuality", "perturbed", "a", is_frozen(i.group))
        for i in IMAGES
    ]
    with writing(tmp_path / "w", "made", {"name": "made"}) as workspace:
        commit(workspace, "ingest", 0, [*IMAGES, ELSEWHERE])
        commit(workspace, "compare", 0, [row for some in rows.values() for row in some])
        commit(workspace, "collect", 0, [*said[:12], *pairs])
        commit(workspace, "collect", 1, [replace(v, round=1) for v in said[12:]])
    return context_of(Workspace.existing(tmp_path / "w"))


def test_patients_of_the_set_train_teach_and_all_others_measure(context: Context) -> None:
    told = taught(context)
    learned = {e.first.image_id for e in told.learned}
    frozen = {e.first.image_id for e in told.frozen}
    assert learned == {i.id for i in IMAGES if set_of(i.group) == "train"}
    assert frozen == {i.id for i in IMAGES} - learned
    assert learned
    assert frozen
    assert {row.image_id for row in told.opinions} == learned
    assert {type(row) for row in told.opinions} == {Verdict, Preference}
    counts = told.counts()
    assert list(counts["by_set"]) == list(SHARES)
    assert sum(c["patients"] for c in counts["by_set"].values()) == len(IMAGES)


def test_what_is_said_of_test_images_teaches_no_judge_and_is_counted(context: Context) -> None:
    told = taught(context)
    assert ELSEWHERE.id not in {e.first.image_id for e in (*told.learned, *told.frozen)}
    assert told.left_out["of validation or test images"] == 1


def test_what_a_verdict_implies_teaches_and_measures_nothing(context: Context) -> None:
    told = taught(context)
    implied = [e for e in told.learned if e.kind == IMPLIED]
    assert {(e.first.answer, e.second.answer) for e in implied if e.second} == {("yes", "no")}
    assert len(implied) == len({e.first.image_id for e in told.learned})
    assert not any(e.kind == IMPLIED for e in told.frozen)


def test_rounds_that_are_still_to_come_do_not_count(context: Context) -> None:
    first = taught(context, rounds=0)
    assert {e.round for e in (*first.learned, *first.frozen)} == {0}
    assert {e.round for e in (*taught(context).learned, *taught(context).frozen)} == {0, 1}


def test_with_nothing_to_learn_from_that_is_one_line(tmp_path: Path) -> None:
    with writing(tmp_path / "w", "made", {"name": "made"}) as workspace:
        commit(workspace, "ingest", 0, list(IMAGES))
        stage = workspace.begin("reward", 0, "reward")
    context = context_of(Workspace.existing(tmp_path / "w"))
    model = make_model("base", "base", None, 0, None)
    with pytest.raises(TriptychError, match="no opinion of a patient of the set train") as said:
        fit_judge(context, stage, model, taught(context), 1.0)
    assert "\n" not in str(said.value)


def test_without_a_frozen_patient_training_goes_on_and_says_so(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(context.display, "warn", lines.append)
    monkeypatch.setattr(judge_training, "train_on_cluster", lambda *_: "trained")
    told = replace(taught(context), frozen=[])
    with writing(tmp_path / "other", "made", {"name": "made"}) as workspace:
        stage = workspace.begin("reward", 0, "reward")
    model = make_model("base", "base", None, 0, None)
    assert fit_judge(context, stage, model, told, 1.0) == "trained"  # type: ignore[comparison-overlap]
    assert ["cannot be measured" in line for line in lines] == [True]


def test_sets_that_stand_in_for_another_are_named() -> None:
    metrics = measurement(0.8).to_dict()
    assert stand_ins(metrics) == [
        "the set gate has too few verdicts and pairs by itself: its figures are of the patients of "
        "report"
    ]
    metrics["gate"]["sets"] = ["gate"]
    assert stand_ins(metrics) == []
    assert not at_chance(metrics)


def test_a_blind_judge_is_measured_on_the_same_frozen_rows(context: Context) -> None:
    """Here yes is always right, which words tell."""
    told = taught(context)
    assert blind_auc(told.learned, told.frozen) == 1.0
    assert blind_auc(told.learned, []) is None
