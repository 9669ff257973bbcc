"""`lineage why-not`: one row's whole story, whatever became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.lineage.questions import why_not
from engine.lineage.story import lines
from engine.records import Dataset, Decision, Image, Membership, Task, Triplet, content_id
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw
from tests.commands import command
from tests.drawn_workspace import answered
from tests.lineage_workspace import make_image, make_judgement, make_model
from tests.pictures import pictures_of
from tests.round_workspace import consume, decide

TASK = Task.make("MR", "grading", "hard", "choice", "direct")


def rows_of(image: Image) -> list[Triplet]:
    """A kept row, its two rivals, a near-duplicate of it, and one that did not parse."""

    def row(question: str, answer: str, sample: int, **more: object) -> Triplet:
        made = answered(image, question, answer, sample=sample, round=1, **more)
        return replace(made, task_id=TASK.id)

    return [
        row("Is there a tumor?", "yes", 0, rationale="A bright spot."),
        row("Is there a tumor?", "yes", 1),
        row("Is there a tumor?", "no", 2),
        row("Is a tumor visible?", "yes", 3),
        row("Is there?", "", 4, problem="question: about nothing"),
    ]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    image = make_image(1, "g1")
    rows = rows_of(image)
    near = f"near-duplicate: asks what row {rows[0].id} asks of the same image"
    reasons = [
        "kept", "same answer as the chosen row", "another answer was judged better", near,
        "form: question: about nothing",
    ]  # fmt: skip
    decided: list[Decision] = [
        replace(decide(row, n == 0, 0.9, 1), reason=reason, threshold=0.5)
        for n, (row, reason) in enumerate(zip(rows, reasons))
    ]
    judge = make_model("judge", "judge", None, 0, 5)
    sft = make_model("sft", "policy", None, 1, 10)
    dataset = Dataset(id=content_id("d"), name="demo", path="dataset", url=None, files="{}", rows=1)
    member = Membership(
        id=content_id("m"), dataset_id=dataset.id, triplet_id=rows[0].id, split="train"
    )
    with writing(tmp_path, "demo", {}) as made:
        for name, number, *tables in (
            ("ingest", 0, [image], pictures_of([image])),
            ("generate", 1, [TASK], rows),
            ("judge", 1, [make_judgement(row, judge) for row in rows[:4]]),
            ("select", 1, decided),
            ("sft", 1, [sft], consume(sft, rows[:1])),
            ("export", 0, [dataset], [member]),
        ):
            stage = made.begin(name, number, name)
            for table in tables:
                stage.write(type(table[0]), table)
            made.commit(stage)
        yield made


def asked(workspace: Workspace, *words: str) -> str:
    return command("lineage", "why-not", *words, "-w", workspace.root).stdout


def said(workspace: Workspace, row: str) -> str:
    return "\n".join(f"{k} {v}" for k, v in lines(why_not(workspace.ledger(), row)["story"]))


def test_a_kept_rows_story_ends_where_it_went(workspace: Workspace) -> None:
    rows = workspace.read(Triplet)
    told = why_not(workspace.ledger(), rows[0].id)
    assert told["in_data"]
    story = told["story"]
    assert story["asked"]["question_type"] == "grading"
    assert story["written"]["answer"] == "yes"
    assert {rival["id"] for rival in story["rivals"]} == {rows[1].id, rows[2].id}
    assert story["winner"] == rows[0].id
    assert [model["role"] for model in story["went"]["models"]] == ["policy"]
    text = said(workspace, rows[0].id)
    for part in ("Is there a tumor? [yes | no] → yes", "because: A bright spot.",
                 "1 × no: another answer was judged better", "keep in round 1: kept",
                 "split train", "acceptable with probability"):  # fmt: skip
        assert part in text


def test_a_near_duplicates_story_shows_the_other_row(workspace: Workspace) -> None:
    rows = workspace.read(Triplet)
    story = why_not(workspace.ledger(), rows[3].id)["story"]
    assert (story["other_row"]["id"], story["other_row"]["reason"]) == (rows[0].id, "kept")
    assert f"row {rows[0].id}, round 1: Is there a tumor?" in said(workspace, rows[3].id)


def test_a_beaten_row_names_who_won_and_one_that_did_not_parse_its_problem(
    workspace: Workspace,
) -> None:
    rows = workspace.read(Triplet)
    assert f"chosen of its question: {rows[0].id}" in said(workspace, rows[2].id)
    text = said(workspace, rows[4].id)
    assert "problem question: about nothing" in text
    assert "rivals" not in text


def test_the_story_is_json_too_and_a_bad_id_is_one_line(workspace: Workspace) -> None:
    rows = workspace.read(Triplet)
    told = json.loads(asked(workspace, rows[3].id[:16], "--json"))
    assert told["story"]["decided"][0]["reason"].startswith("near-duplicate: ")
    assert "→ yes" in asked(workspace, rows[3].id)
    with pytest.raises(TriptychError, match=r"no triplet, image, .* starts with 'nobody'"):
        why_not(workspace.ledger(), "nobody")
    with pytest.raises(TriptychError, match=r"is ambiguous .*: give more characters"):
        why_not(workspace.ledger(), "")


def test_of_a_withdrawn_row_it_is_told_when_it_went_and_where_it_had_been(
    workspace: Workspace,
) -> None:
    rows = workspace.read(Triplet)
    withdraw(workspace, rows[0].image_id, "asked for it", "the patient")
    told = why_not(workspace.ledger(), rows[0].id)
    assert told["why"].startswith("withdrawn on ")
    assert told["why"].endswith("asked for it")
    assert told["was"] == "triplet"
    assert [model["role"] for model in told["went"]["models"]] == ["policy"]
