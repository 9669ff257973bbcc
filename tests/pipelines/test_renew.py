"""Stage `renew`: which of two generators writes the next round."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from engine.config import build
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.records import Image, Judgement, Model, Triplet
from engine.vlm.protocol import Request
from engine.workspace import Workspace
from generators import proposer
from pipelines import judging, loop, renew
from pipelines.context import Context
from pipelines.record import generator_of
from pipelines.report.page import write_report
from tests.drawn_workspace import context_of, drawn
from tests.generators.verification.replies import Answers
from tests.lineage_workspace import CONFIG, commit, make_image, make_judgement, make_model

IMAGES = [drawn("MR", n, "tumor", split="val") for n in range(6)]
REAL = [replace(make_image(n, f"r{n}", "val"), is_synthetic=False) for n in range(6)]
BASE = make_model("base", "base", None, 0, None)
FIRST = make_model("first", "generator", BASE.id, 0, 5)
JUDGE = replace(
    make_model("judge", "judge", None, 0, 1), metrics='{"gate": {"auc": 0.9, "auc_low": 0.8}}'
)
QUOTAS = (
    "generator.quotas={question_type: {disease: 1}, answer_format: {closed: 1}, "
    "difficulty: {easy: 1}}"
)
SETTINGS = ("generator.refine={tasks: 12}", "generator.samples=3", "generator.tasks=20", QUOTAS)


def policy(name: str, round: int) -> Model:
    return replace(make_model(name, "sft", BASE.id, round, 9), stage="sft")


class Writers:
    """In place of `open_vlm`: models by name, of which some are right and some ask as asked."""

    def __init__(self) -> None:
        self.says: dict[str, tuple[str, str]] = {}  # question and answer by the model's name
        self.asked: list[tuple[str, Request]] = []

    def __call__(self, backend: object, model: str, threads: int, max_pixels: int) -> Answers:
        name = Path(model).name

        def reply(request: Request, number: int) -> str:
            self.asked.append((name, request))
            question, answer = self.says[name]
            if request.text.startswith("Ask:"):
                return f"<question>{question}</question><options>yes | no</options>"
            return f"<answer>{answer}</answer>"

        return Answers(reply)


DISEASE, WRONG_TYPE = "Is there a tumor?", "How large is it?"


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> Writers:
    found = Writers()
    found.says = {"right": (DISEASE, "yes"), "wrong": (DISEASE, "no"), "first": (DISEASE, "yes"),
                  "strays": ("Is it larger than small?", "yes")}  # fmt: skip
    monkeypatch.setattr(proposer, "open_vlm", found)
    monkeypatch.setattr(Context, "path_of", lambda self, model: model.path)
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with writing(tmp_path / "w", CONFIG["name"], CONFIG) as workspace:
        yield workspace


def a_round(
    workspace: Workspace, new: Model | None, images: list[Image], round: int = 1, *models: Model
) -> None:
    if round == 1:
        commit(workspace, "ingest", 0, [*images, BASE, FIRST, JUDGE, *models])
    commit(workspace, "sft", round, [new] if new else [])


def run(workspace: Workspace, round: int = 1, *overrides: str) -> dict[str, Any]:
    context = context_of(workspace, *SETTINGS, *overrides)
    stage = workspace.begin("renew", round, f"renew-{round}")
    renew.renew(context, stage)
    return dict(workspace.commit(stage)["metrics"])


def writer(workspace: Workspace) -> str:
    return Path(generator_of(context_of(workspace, *SETTINGS)).path).name


def test_a_policy_that_is_no_worse_writes_the_next_round(
    workspace: Workspace, writers: Writers
) -> None:
    a_round(workspace, policy("right", 1), IMAGES)
    assert writer(workspace) == "first"  # until the stage has compared them
    metrics = run(workspace)
    assert metrics["accepted"]
    assert metrics["precision"]["verdict"] == metrics["adherence"]["verdict"] == "not worse"
    assert metrics["precision"]["now"] == metrics["precision"]["new"] == 1.0
    assert "policy generates from now on: precision 100.0 % → 100.0 %" in metrics["words"]
    assert writer(workspace) == "right"
    page = write_report(workspace, workspace.root / "report").read_text()
    assert f"Round 1: {metrics['words']}." in unescape(page)


def test_both_are_asked_the_same_with_the_same_seeds(
    workspace: Workspace, writers: Writers
) -> None:
    a_round(workspace, policy("right", 1), IMAGES)
    metrics = run(workspace)
    by_model = {name: [r for who, r in writers.asked if who == name] for name in ("first", "right")}
    assert by_model["first"] == by_model["right"]
    shown = {request.png for request in by_model["first"]}
    assert 1 < len(shown) <= len(IMAGES)
    assert metrics["precision"]["tasks"] == len(
        [r for r in by_model["first"] if r.text.startswith("Ask:")]
    )
    assert list(workspace.read(Triplet)) == []  # of held-out images no row is kept


def test_a_policy_that_is_less_often_right_does_not(workspace: Workspace, writers: Writers) -> None:
    a_round(workspace, policy("wrong", 1), IMAGES)
    metrics = run(workspace)
    assert (metrics["accepted"], metrics["precision"]["verdict"]) == (False, "worse")
    assert metrics["adherence"]["verdict"] == "not worse"
    assert metrics["words"].startswith("the generator stays: precision 100.0 % → 0.0 %")
    assert writer(workspace) == "first"


def test_a_policy_that_is_right_and_asks_something_else_does_not(
    workspace: Workspace, writers: Writers
) -> None:
    writers.says["first"] = (DISEASE, "no")
    a_round(workspace, policy("strays", 1), IMAGES)
    metrics = run(workspace)
    assert metrics["adherence"]["verdict"] == "worse"
    assert metrics["axes"]["question_type"] == {"now": 1.0, "new": 0.0}
    assert not metrics["accepted"]
    assert writer(workspace) == "first"


def test_a_later_policy_is_compared_with_who_took_over(
    workspace: Workspace, writers: Writers
) -> None:
    a_round(workspace, policy("right", 1), IMAGES)
    run(workspace)
    a_round(workspace, policy("wrong", 2), IMAGES, 2)
    assert not run(workspace, 2)["accepted"]
    assert {name for name, _ in writers.asked[-10:]} == {"wrong"}
    assert writer(workspace) == "right"


def test_without_a_policy_of_the_round_the_generator_stays(
    workspace: Workspace, writers: Writers
) -> None:
    a_round(workspace, policy("right", 1), IMAGES)
    run(workspace)
    a_round(workspace, None, IMAGES, 2)
    metrics = run(workspace, 2)
    assert "no policy was trained in this round" in metrics["words"]
    assert writer(workspace) == "right"


def test_without_validation_images_the_generator_stays(
    workspace: Workspace, writers: Writers
) -> None:
    a_round(workspace, policy("right", 1), [replace(i, split="train") for i in IMAGES])
    assert "no task can be asked of the validation images" in run(workspace)["words"]
    assert writer(workspace) == "first"


class Convinced:
    """In place of `Judge`: what one model wrote it believes, and it is told no log-probability."""

    believes = ""

    def __init__(self, model: str, judge_id: str, threads: int | None = None) -> None:
        pass

    def judge(self, rows: list[Triplet], pngs: object) -> list[Judgement]:
        assert all(row.logprob is None for row in rows)
        return [
            replace(
                make_judgement(row, JUDGE),
                probability=0.9 if row.generator_id == self.believes else 0.2,
            )
            for row in rows
        ]


@pytest.mark.parametrize("believes", ["first", "right"])
def test_of_real_images_the_judge_says_what_is_right(
    workspace: Workspace, writers: Writers, monkeypatch: pytest.MonkeyPatch, believes: str
) -> None:
    new = policy("right", 1)
    monkeypatch.setattr(Convinced, "believes", {"first": FIRST, "right": new}[believes].id)
    monkeypatch.setattr(judging, "Judge", Convinced)
    a_round(workspace, new, REAL)
    metrics = run(workspace, 1, "expert=people")
    assert metrics["accepted"] is (believes == "right")
    assert {metrics["precision"][name] for name in ("now", "new")} == {0.2, 0.9}
    assert writer(workspace) == believes


def test_where_nothing_says_what_is_right_the_generator_stays(
    workspace: Workspace, writers: Writers
) -> None:
    unsure = replace(JUDGE, id="unsure", metrics=json.dumps({"gate": {"auc_low": 0.4}}))
    a_round(workspace, policy("right", 1), REAL, 1, unsure)
    metrics = run(workspace, 1, "expert=people")
    assert (metrics["accepted"], metrics["precision"]["verdict"]) == (False, "unknown")
    assert "precision is not known" in metrics["words"]


def test_what_was_written_is_not_written_again(workspace: Workspace, writers: Writers) -> None:
    a_round(workspace, policy("right", 1), IMAGES)
    context = context_of(workspace, *SETTINGS)
    stage = workspace.begin("renew", 1, "renew-1")
    held = renew.held_of(context, 12, 1)
    renew.shares_of(context, stage, FIRST, renew.NOW, held)
    before = len(writers.asked)
    run(workspace)
    assert {name for name, _ in writers.asked[before:]} == {"right"}


def test_it_is_no_stage_of_the_loop_unless_asked_for(workspace: Workspace) -> None:
    off, on = context_of(workspace).config, context_of(workspace, *SETTINGS).config
    assert "renew" not in loop.stages_of(off)
    assert list(loop.stages_of(on))[-1] == "renew"
    assert ("renew", 1) in loop.ROUND["plan"].needs(2)  # who writes decides the next round's rows
    stage = workspace.begin("renew", 1, "renew-1")
    with pytest.raises(TriptychError, match=r"set generator\.refine\.tasks"):
        renew.renew(context_of(workspace), stage)


@pytest.mark.parametrize("other", [{"refresh": False}, {"model": "some/model"}])
def test_it_is_refused_where_no_policy_may_write(other: dict[str, Any]) -> None:
    with pytest.raises(TriptychError, match="refine decides whether the round's policy generates"):
        build({"generator": {"refine": {"tasks": 3}} | other}, [], "the test")
