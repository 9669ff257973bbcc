"""Rows that teach safety, written by stage compose, and what the record does with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.hub.export import export
from engine.lineage.opening import writing
from engine.lineage.trace import trace
from engine.lineage.verify import verify
from engine.pixels import Pixels, pixels_id
from engine.prompts import CANNOT_BE_TOLD
from engine.records import Decision, Found, Image, Picture, Prompt, Task, Tombstone, Triplet
from engine.workspace import Workspace
from generators.phantoms import draw, to_display
from generators.phantoms.again import mask_of
from generators.phantoms.dicom import phantom_seed
from generators.phantoms.oracle import answer_of, is_true, truth_of
from generators.safety.rows import SAFETY, has_text
from pipelines.commands.reproduce import reproduce
from pipelines.commands.withdraw import withdraw
from pipelines.compose import compose
from pipelines.record import fresh_triplets, kept_triplets, shown, twins_of
from pipelines.safety import BEFORE, KEPT
from pipelines.training.sft import turns_of
from pipelines.weighing import _kept_before
from reward_model.process import Reply, reasonings
from tests.drawn_workspace import answered, context_of, drawn
from tests.lineage_workspace import TASK, commit, make_decision, make_model

WRITER = make_model("m", "generator", None, 0, 1)
CONFIG: dict[str, Any] = {"name": "made"}
ALL = ("safety.instruction=8", "safety.organ=12", "safety.unanswerable=12")
ASKED = {
    "CT": {
        "On which side is the lesion?": ("left", "right"),
        "Is there an infarct?": ("yes", "no"),
    },
    "X-ray": {
        "On which side is the lesion?": ("left", "right"),
        "Is there an effusion?": ("yes", "no"),
    },
}
FINDINGS = {"CT": ("infarct", "hemorrhage"), "X-ray": ("effusion", "nodule")}


@cache
def pictures(number: int = 12) -> tuple[Image, ...]:
    """As many of either kind, the findings by turns."""
    return tuple(
        drawn(kind, n, FINDINGS[kind][n % 2]) for kind in ASKED for n in range(number)
    )  # fmt: skip


def told(image: Image) -> list[Triplet]:
    """A true row a question."""
    truth = truth_of(image)
    assert truth is not None
    asked = ASKED["X-ray" if image.modality == "X-ray" else "CT"]
    return [
        answered(image, question, str(answer_of(truth, question)), options, writer=WRITER.id,
                 sample=n, round=1, rationale="As the image shows.")
        for n, (question, options) in enumerate(asked.items())
    ]  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with writing(tmp_path / "w", "made", CONFIG) as opened:
        yield opened


def filled(workspace: Workspace, images: Sequence[Image]) -> list[Triplet]:
    """Images with true rows that were kept in round 1, and one of the test's."""
    commit(workspace, "ingest", 0, [*images, drawn("CT", 90, split="test"), WRITER, TASK])
    rows = [row for image in images for row in told(image)]
    commit(workspace, "generate", 1, [*rows])
    commit(workspace, "select", 1, [replace(make_decision(t, True, 1), score=0.7) for t in rows])
    return rows


def run(
    workspace: Workspace, *overrides: str, round: int = 1
) -> tuple[list[Triplet], dict[str, Any]]:
    """The rows that the stage writes, committed, and its figures."""
    stage = workspace.begin("compose", round, f"compose{round}{overrides}")
    compose(context_of(workspace, *overrides), stage)
    workspace.commit(stage)
    return workspace.read(Triplet, "compose", round), stage.metrics


def teaches(row: Triplet) -> str:
    return str(json.loads(row.program or "")["teaches"])


def test_as_many_rows_as_are_wanted_in_whole_groups_and_true(workspace: Workspace) -> None:
    filled(workspace, pictures())
    rows, figures = run(workspace, *ALL)
    figures = figures[SAFETY]
    assert len(rows) == 32 == figures["rows"]
    assert figures["precision"] == 1.0
    assert figures["refused"] == {}
    images = {image.id: image for image in workspace.read(Image)}
    assert all(is_true(images[row.image_id], row) for row in rows)
    offered = [row for row in rows if CANNOT_BE_TOLD in row.options]
    assert len(offered) == 24
    assert sum(row.answer == CANNOT_BE_TOLD for row in offered) == 24 / 3
    assert {images[row.image_id].split for row in rows} == {"train"}
    assert {row.task_id for row in rows} <= {task.id for task in workspace.read(Task)}
    assert {row.id for row in rows} == {f.triplet_id for f in workspace.read(Found, "compose")}


def test_rows_say_what_they_are_and_each_has_a_reason_and_the_policy(workspace: Workspace) -> None:
    filled(workspace, pictures())
    rows, _ = run(workspace, *ALL)
    decided = {d.triplet_id: d for d in workspace.read(Decision, "compose")}
    (policy,) = workspace.read(Prompt)
    clauses = {c["number"]: c["says"] for c in json.loads(policy.text)["clauses"]}
    for row in rows:
        rule = json.loads(row.program or "")
        assert row.generator_id == SAFETY
        assert row.prompt_hash == rule["policy"] == policy.id
        assert clauses[rule["clause"]] in row.rationale
        decision = decided[row.id]
        assert decision.keep
        assert decision.reason == f"{KEPT}: {rule['teaches']}, clause {rule['clause']}"
        assert decision.score == pytest.approx(1.0 if row.answer == CANNOT_BE_TOLD else 0.7)
    assert {teaches(row) for row in rows} > {"instruction", "organ"}


def test_no_rule_takes_a_quoted_text_for_a_contradiction(workspace: Workspace) -> None:
    filled(workspace, pictures())
    rows, _ = run(workspace, "safety.instruction=24")
    assert len(rows) == 24
    replies = [Reply(b"", r.question, r.options, r.rationale, r.answer) for r in rows]
    assert [one.score for one in reasonings(replies, None)] == [1.0] * len(rows)


def test_a_picture_with_a_text_is_of_its_original_s_patient_and_asked_nothing_more(
    workspace: Workspace,
) -> None:
    before = filled(workspace, pictures())
    rows, _ = run(workspace, "safety.instruction=8")
    images = {image.id: image for image in workspace.read(Image)}
    written = [image for image in images.values() if has_text(image)]
    assert {row.image_id for row in rows} == {image.id for image in written}
    assert len(written) == 8
    pngs = Pixels(workspace.root)
    for image in written:
        original = images[image.twin_of]
        assert (image.group, image.patient, image.split) == (
            original.group, original.patient, original.split,
        )  # fmt: skip
        assert pngs[image.id] != pngs[original.id]  # which compares it with its id
    context = context_of(workspace, *ALL)
    assert not {i for i, *_ in shown(context, "train")} & {image.id for image in written}
    assert twins_of(context) == []
    again, _ = run(workspace, "compose.questions=4", "compose.facts=[truth]", round=2)
    assert again
    assert not {row.image_id for row in again} & {image.id for image in written}
    taken = {row.id: row.image_id for row in before}
    for row in rows:  # its words are from a row about the original, or from the original
        assert {taken.get(i, i) for i in row.derived_from} == {images[row.image_id].twin_of}


def test_sft_and_grpo_learn_from_them_and_nobody_is_taught_to_ask_them(
    workspace: Workspace,
) -> None:
    before = {row.id for row in filled(workspace, pictures())}
    rows, _ = run(workspace, *ALL)
    context = context_of(workspace, "grpo.share=0.5")
    kept = kept_triplets(context, 1)
    assert {row.id for row in kept} == before | {row.id for row in rows}
    left = fresh_triplets(context, kept)
    assert 0 < sum(row.generator_id == SAFETY for row in left) < len(rows)
    tasks = {task.id: task for task in workspace.read(Task)}
    turns = list(turns_of(rows, tasks, "compact", "direct", 1.0, 0))
    assert len(turns) == 2 * len(rows)  # with its reasoning, and directly
    assert all("<answer>" in turn["completion"] for turn in turns)


def test_selection_and_its_promise_are_of_other_rows(workspace: Workspace) -> None:
    before = {row.id for row in filled(workspace, pictures())}
    run(workspace, *ALL)
    stage = workspace.begin("select", 2, "select2")
    path = _kept_before(context_of(workspace), stage)
    assert path is not None
    assert set(pq.read_table(path)["id"].to_pylist()) == before


def test_nothing_is_taught_unless_it_is_asked_for(workspace: Workspace) -> None:
    filled(workspace, pictures(2))
    rows, figures = run(workspace)
    assert rows == []
    assert figures == {"skipped": "compose.questions is 0"}


def test_beside_composed_questions_both_are_written(workspace: Workspace) -> None:
    filled(workspace, pictures())
    rows, figures = run(workspace, *ALL, "compose.questions=5", "compose.facts=[truth]")
    assert len(rows) == 37
    assert (figures["composed"], figures[SAFETY]["rows"]) == (5, 32)


def test_truth_answers_only_where_it_is_named(workspace: Workspace) -> None:
    commit(workspace, "ingest", 0, [*pictures(6)])
    rows, figures = run(workspace, *ALL)
    assert rows == []
    assert figures[SAFETY]["rows"] == 0
    rows, figures = run(workspace, *ALL, "safety.answers=[truth]", round=2)
    assert len(rows) > 20
    assert figures[SAFETY]["precision"] == 1.0


def test_a_real_picture_is_given_a_strip_and_nobody_knows_the_truth(workspace: Workspace) -> None:
    real = [replace(image, is_synthetic=False, truth=None) for image in pictures()]
    rows = [row for image in pictures() for row in told(image)]
    commit(workspace, "ingest", 0, [*real, WRITER, TASK])
    commit(workspace, "generate", 1, [*rows])
    commit(workspace, "select", 1, [make_decision(t, True, 1) for t in rows])
    made, figures = run(workspace, *ALL)
    assert len(made) == 32
    assert figures[SAFETY]["precision"] is None
    written = [image for image in workspace.read(Image, "compose") if has_text(image)]
    places = {json.loads(image.drawn or "")["inscription"]["place"] for image in written}
    assert places <= {"above", "below"}
    assert not any(image.is_synthetic or image.truth for image in written)


def test_a_rejected_row_answers_nothing(workspace: Workspace) -> None:
    images = pictures(4)
    commit(workspace, "ingest", 0, [*images, WRITER, TASK])
    rows = [row for image in images for row in told(image)]
    commit(workspace, "generate", 1, [*rows])
    commit(workspace, "select", 1, [make_decision(t, False, 1) for t in rows])
    assert run(workspace, *ALL)[0] == []


def test_the_same_seed_writes_the_same_rows_and_another_round_others(
    workspace: Workspace, tmp_path: Path
) -> None:
    filled(workspace, pictures())
    first, _ = run(workspace, *ALL)
    second, figures = run(workspace, *ALL, round=2)
    assert not {row.id for row in first} & {row.id for row in second}
    assert set(figures[SAFETY]["refused"]) <= {BEFORE}
    with writing(tmp_path / "again", "made", CONFIG) as other:
        filled(other, pictures())
        assert run(other, *ALL)[0] == first


def test_a_user_s_policy_is_cited_and_recorded(workspace: Workspace, tmp_path: Path) -> None:
    from engine.config.policy import shipped_text

    path = tmp_path / "rules.yaml"
    path.write_text(shipped_text().replace("Give no advice on treatment.", "We treat nobody here."))
    filled(workspace, pictures())
    rows, figures = run(workspace, "safety.unanswerable=36", f"safety.policy={path}")
    (policy,) = workspace.read(Prompt)
    assert policy.id == figures[SAFETY]["policy"]
    assert any("Clause 5 of the policy: We treat nobody here." in row.rationale for row in rows)


def test_the_mask_of_a_cohorts_phantom_is_drawn_again() -> None:
    phantom = draw("CT", phantom_seed(0, "CT", 7), 96, 0.3)
    image = replace(drawn("CT", 1), id=pixels_id(to_display(phantom)), source="CT/0007.dcm")
    found = mask_of(image, 96, 0, 0.3)
    assert found is not None
    assert (found == phantom.mask).all()
    assert mask_of(image, 96, 1, 0.3) is None  # another cohort's
    assert mask_of(replace(image, is_synthetic=False), 96, 0, 0.3) is None
    assert mask_of(replace(image, source="scan.png"), 96, 0, 0.3) is None


def test_on_a_cohort_the_text_stays_off_the_finding(workspace: Workspace) -> None:
    images = []
    for number in range(3):
        phantom = draw("CT-abdomen", phantom_seed(0, "CT-abdomen", number), 256, 0.3)
        like = drawn("CT-abdomen", number)
        made = {"truth": json.dumps(phantom.truth.to_dict()), "height": 256, "width": 256}
        images.append(replace(like, id=_shown(to_display(phantom)), **made))
    commit(workspace, "ingest", 0, images)
    run(workspace, "safety.instruction=2", "safety.answers=[truth]", "source.size=256")
    written = [image for image in workspace.read(Image, "compose") if has_text(image)]
    assert len(written) == 2
    places = {json.loads(image.drawn or "")["inscription"]["place"] for image in written}
    assert places == {"inside"}  # there is air around a patient
    originals = {image.id: image for image in images}
    for image in written:
        left, top, right, bottom = json.loads(image.drawn or "")["inscription"]["box"]
        mask = mask_of(originals[image.twin_of], 256, 0, 0.3)
        assert mask is not None
        assert not mask[top:bottom, left:right].any()


def _shown(pixels: np.ndarray) -> str:
    from tests.pictures import shown as picture

    return picture(pixels)


# The record


def test_the_record_holds_together_and_makes_rows_and_pictures_again(tmp_path: Path) -> None:
    wanted = {"instruction": 8, "organ": 12, "unanswerable": 12}
    with writing(tmp_path / "w", "made", CONFIG | {"safety": wanted}) as workspace:
        filled(workspace, pictures())
        rows, _ = run(workspace, *ALL)
        assert verify(workspace).problems == []
        row = next(row for row in rows if teaches(row) == "instruction")
        found = trace(workspace.ledger(), row.id)
        assert found["program"]["teaches"] == "instruction"
        assert found["generator"] == {"id": SAFETY}
        for made in (rows[0].id, rows[-1].id, row.image_id):
            again = reproduce(workspace, made)
            assert again["equal"], again


def test_the_export_names_where_they_are_from(workspace: Workspace, tmp_path: Path) -> None:
    filled(workspace, pictures())
    rows, _ = run(workspace, *ALL)
    export(workspace, tmp_path / "out", "made")
    found = [
        r for p in (tmp_path / "out/data").glob("*.parquet") for r in pq.read_table(p).to_pylist()
    ]
    assert {r["id"] for r in found if r["origin"] == "safety"} == {row.id for row in rows}
    assert {r["generator_id"] for r in found if r["origin"] == "safety"} == {SAFETY}


def test_a_withdrawn_image_takes_its_pictures_with_texts_and_all_rows_along(
    workspace: Workspace,
) -> None:
    filled(workspace, pictures())
    rows, _ = run(workspace, *ALL)
    written = next(image for image in workspace.read(Image, "compose") if has_text(image))
    source = written.twin_of
    own = {row.id for row in workspace.read(Triplet) if row.image_id == source}
    gone = {
        row.id for row in rows
        if row.image_id in (source, written.id) or {source, *own} & set(row.derived_from)
    }  # fmt: skip
    withdraw(workspace, source)
    assert {row.id for row in workspace.read(Triplet, "compose")} == {r.id for r in rows} - gone
    assert written.id not in {image.id for image in workspace.read(Image)}
    assert written.id not in {picture.id for picture in workspace.read(Picture)}
    assert {written.id, *gone} <= {t.row_id for t in workspace.read(Tombstone)}
    assert not gone & {d.triplet_id for d in workspace.read(Decision)}
    assert verify(workspace).problems == []


def test_a_question_put_to_another_image_goes_with_the_row_it_was_taken_from(
    workspace: Workspace,
) -> None:
    before = {row.id: row for row in filled(workspace, pictures())}
    rows, _ = run(workspace, "safety.organ=12")
    refused = next(row for row in rows if row.answer == CANNOT_BE_TOLD)
    (taken,) = [before[i] for i in refused.derived_from if i in before]
    assert taken.image_id != refused.image_id
    withdraw(workspace, taken.image_id)
    assert refused.id not in {row.id for row in workspace.read(Triplet)}
