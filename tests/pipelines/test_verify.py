"""Stage `verify`: what it asks of whom, that it resumes, and what select then refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.lineage.trace import trace
from engine.lineage.verify import verify as verify_record
from engine.records import Decision, Image, Model, Prompt, Triplet, Verification
from engine.vlm import tiny
from engine.vlm.protocol import Request
from engine.workspace import Workspace
from pipelines import loop, verify
from pipelines.commands.withdraw import withdraw
from pipelines.context import Context
from pipelines.parts import parts_of
from tests.drawn_workspace import answered, context_of
from tests.generators.verification.replies import SIDES, Answers
from tests.lineage_workspace import CONFIG, TASK, commit, make_image, make_judgement, make_model
from tests.pictures import PNG

IMAGES = [make_image(n, f"g{n // 2}") for n in range(6)]  # two a patient
BASE = make_model("base", "base", None, 0, None)
WRITER = make_model("writer", "generator", BASE.id, 0, 5)
JUDGE = replace(make_model("judge", "judge", None, 0, 1), metrics='{"auc": 0.9, "auc_low": 0.8}')
RUBRIC = f"verify.rubric={{model: {tiny.FOLDER}}}"
BLIND, PASS_RATE = "verify.blind={}", "verify.pass_rate=true"


def rows_about(image: Image) -> list[Triplet]:
    """Three samples of a question, of which two say left."""
    asked = f"On which side of image {IMAGES.index(image)} is it?"
    more: dict[str, Any] = {"writer": WRITER.id, "round": 1, "rationale": "It is there."}
    said = ("left", "left", "right")
    return [answered(image, asked, a, SIDES, sample=n, **more) for n, a in enumerate(said)]


ROWS = {image.id: rows_about(image) for image in IMAGES}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A round that was generated, in three shards of two images, and judged."""
    with writing(tmp_path / "w", CONFIG["name"], CONFIG) as workspace:
        commit(workspace, "ingest", 0, [*IMAGES, TASK, BASE, WRITER, JUDGE])
        stage = workspace.begin("generate", 1, "generated")
        for number, two in enumerate((IMAGES[:2], IMAGES[2:4], IMAGES[4:])):
            rows = [row for image in two for row in ROWS[image.id]]
            stage.write(Triplet, rows, f"{number:05d}")
        workspace.commit(stage)
        rows = [row for image in IMAGES for row in ROWS[image.id]]
        commit(workspace, "judge", 1, [make_judgement(row, JUDGE) for row in rows])
        yield workspace


class Opened:
    """In place of `open_vlm`: who was opened, and a VLM that sees the images of even number."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.asked: list[Request] = []
        self.dies_after: int | None = None

    def __call__(self, backend: object, model: str, threads: int, max_pixels: int) -> Answers:
        self.models.append(model)
        return Answers(self.reply)

    def reply(self, request: Request, number: int) -> str:
        self.asked.append(request)
        if self.dies_after is not None and len(self.asked) > self.dies_after:
            raise RuntimeError("killed")
        if "yes or no" in request.text:
            negative = "understood in more" in request.text or "no image of this" in request.text
            return "no" if negative or "Do the words" in request.text else "yes"
        own = [n for n, image in enumerate(IMAGES) if f"image {n} " in request.text]
        sees = request.png == PNG[IMAGES[own[0]].id]
        return "left" if sees or own[0] % 2 else "right"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    vlm = Opened()
    monkeypatch.setattr(verify, "open_vlm", vlm)
    monkeypatch.setattr(Context, "path_of", lambda self, model: model.path)
    return vlm


def run(workspace: Workspace, *overrides: str, name: str = "verify") -> dict[str, Any]:
    """A stage of round 1 without what else comes before it."""
    context = context_of(workspace, *overrides)
    stage = workspace.begin(name, 1, f"{name}-1")
    loop.ROUND[name].body(context, stage)
    return workspace.commit(stage)


def found(workspace: Workspace) -> list[Verification]:
    return list(workspace.read(Verification))


def test_each_question_has_one_row_in_the_shard_of_its_triplets(
    workspace: Workspace, opened: Opened
) -> None:
    done = run(workspace, BLIND, RUBRIC)
    assert done["rows"]["verifications"] == len(IMAGES)
    for one in found(workspace):
        assert one.question_id == ROWS[one.image_id][0].question_key
        assert (one.answer, one.samples, one.agreeing) == ("left", 3, 2)
        assert (one.blind_id, one.round) == (WRITER.id, 1)
    parts = parts_of(context_of(workspace), 1, 1)
    for part in parts:
        asked = {row.question_key for row in part.rows()[0]}
        assert part.verified().keys() == asked
    # four replies a question of the writer, then ten and two items of the verifier, one model
    # after the other
    assert opened.models == [WRITER.path, str(tiny.FOLDER)]
    assert len(opened.asked) == len(IMAGES) * (4 + 10)


def test_what_was_measured_is_in_the_metrics(workspace: Workspace, opened: Opened) -> None:
    metrics = run(workspace, BLIND, RUBRIC)["metrics"]
    assert metrics["questions"] == 6
    assert metrics["pass_rate"] == pytest.approx(2 / 3, abs=1e-4)
    assert metrics["answered_blind"] == 0.5  # of odd number
    assert metrics["margin"] == 0.5
    assert (metrics["margins"][10], metrics["margins"][20], sum(metrics["margins"])) == (3, 3, 6)
    assert (metrics["essentials_passed"], metrics["score"], metrics["unreadable"]) == (1, 1, 0)


def test_votes_need_no_model(workspace: Workspace, opened: Opened) -> None:
    metrics = run(workspace, PASS_RATE)["metrics"]
    assert opened.models == []
    assert metrics == {"questions": 6, "pass_rate": pytest.approx(2 / 3, abs=1e-4)}
    run(workspace, "select.verified.self_consistency=0.5", PASS_RATE, name="select")
    reasons = {d.triplet_id: d.reason for d in workspace.read(Decision)}
    few = "self-consistency: too few samples agree"
    assert [reasons[ROWS[i.id][2].id] for i in IMAGES] == [few] * 6


def test_another_image_is_of_another_patient_and_of_the_same_modality_and_split(
    workspace: Workspace, opened: Opened
) -> None:
    run(workspace, BLIND)
    by_id = {image.id: image for image in IMAGES}
    for one in found(workspace):
        assert by_id[one.other_id].group != by_id[one.image_id].group
    first = {one.image_id: one.other_id for one in found(workspace)}
    alien = replace(make_image(8, "g0"), modality="CT")
    held_out = replace(make_image(9, "g9"), split="test")
    commit(workspace, "review", 1, [alien, held_out])
    shards = context_of(workspace).shards(Image)
    again = verify.others_of(shards, [*first, alien.id, held_out.id])
    assert again == first  # neither is anybody's other, and neither has one


@pytest.mark.parametrize("after", [9, 60])
def test_a_stage_that_was_killed_between_shards_ends_with_the_same_rows(
    workspace: Workspace, opened: Opened, after: int
) -> None:
    opened.dies_after = after
    with pytest.raises(RuntimeError, match="killed"):
        run(workspace, BLIND, RUBRIC)
    asked = len(opened.asked)
    opened.dies_after = None
    run(workspace, BLIND, RUBRIC)
    rows = {one.id: one for one in found(workspace)}
    assert len(opened.asked) - asked <= len(IMAGES) * 14 - after // 28 * 8
    whole = context_of(workspace, BLIND, RUBRIC)
    stage = workspace.begin("verify", 1, "undisturbed")
    verify.verify(whole, stage)
    workspace.commit(stage)
    assert {one.id: one for one in found(workspace)} == rows
    assert len(found(workspace)) == 2 * len(rows)


def test_select_refuses_with_the_filters_reason(workspace: Workspace, opened: Opened) -> None:
    run(workspace, BLIND)
    done = run(workspace, "select.keep=1", BLIND, name="select")
    reasons = {d.triplet_id: (d.keep, d.reason) for d in workspace.read(Decision)}
    for number, image in enumerate(IMAGES):
        kept = [row.id for row in ROWS[image.id] if reasons[row.id][0]]
        if number % 2:
            blind = (False, "blind: answered as well without the image")
            assert [reasons[row.id] for row in ROWS[image.id][:2]] == [blind] * 2
            assert kept == []
        else:
            assert len(kept) == 1
    assert done["metrics"]["refused"] == {"self-consistency": 0, "blind": 9, "rubric": 0}
    assert done["metrics"]["kept"] == 3


def test_select_without_verifications_says_nothing_of_them(workspace: Workspace) -> None:
    metrics = run(workspace, name="select")["metrics"]
    assert "refused" not in metrics


@pytest.mark.parametrize("model", ["writer", "base"])
def test_a_verifier_that_wrote_the_rows_is_refused(
    workspace: Workspace, opened: Opened, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    own = {"writer": WRITER, "base": BASE}[model]
    monkeypatch.setattr(Context, "outside", lambda self, role, named: replace(own, role=role))
    with pytest.raises(TriptychError, match="is the generator's own, or what it was tuned from"):
        run(workspace, RUBRIC)
    assert opened.models == []


def test_without_anything_to_measure_it_is_no_stage_of_the_loop(workspace: Workspace) -> None:
    off, on = context_of(workspace).config, context_of(workspace, PASS_RATE).config
    assert "verify" not in loop.stages_of(off)
    assert "verify" in loop.stages_of(on)
    with pytest.raises(TriptychError, match=r"verify\.blind, verify\.rubric or verify\.pass_rate"):
        run(workspace)


def test_the_verifier_and_the_rubric_are_in_the_record(
    workspace: Workspace, opened: Opened
) -> None:
    run(workspace, RUBRIC)
    (one, *_) = found(workspace)
    models = {m.id: m for m in workspace.read(Model)}
    assert models[one.verifier_id].role == "verifier"
    prompts = {p.id: p for p in workspace.read(Prompt)}
    assert "self_contained" in json.loads(prompts[one.rubric_id].text)["items"]


def test_a_trace_tells_what_was_measured_and_the_record_is_whole(
    workspace: Workspace, opened: Opened
) -> None:
    run(workspace, BLIND, RUBRIC)
    (told,) = trace(workspace.ledger(), ROWS[IMAGES[0].id][2].id)[
        "verifications"
    ]  # not the verified row
    assert told["margin"] == 1.0
    assert told["blind"]["none"]["answers"] == {"right": 1}
    assert told["verifier_model"]["role"] == "verifier"
    assert {p["what"] for p in verify_record(workspace).problems if "verif" in p["what"]} == set()


def test_a_withdrawn_image_takes_the_rows_that_speak_of_it_along(
    workspace: Workspace, opened: Opened
) -> None:
    run(workspace, BLIND)
    gone = found(workspace)[0].other_id
    speak = {v.id for v in found(workspace) if gone in (v.image_id, v.other_id)}
    assert len(speak) > 1  # its own, and those to which it was shown as another patient's
    left = {v.id for v in found(workspace)} - speak
    withdraw(workspace, gone)
    assert {v.id for v in found(Workspace.existing(workspace.root))} == left
