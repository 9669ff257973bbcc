"""The stage compose: from committed rows to composed ones, and what the record does with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.hub.export import export
from engine.lineage.opening import writing
from engine.lineage.trace import trace
from engine.lineage.verify import verify
from engine.records import Decision, Image, Task, Tombstone, Triplet, Verdict
from engine.workspace import Workspace
from generators.compose.program import Program
from generators.phantoms.oracle import answer_of, is_true, truth_of
from pipelines.commands.reproduce import reproduce
from pipelines.commands.withdraw import withdraw, withdraw_reader
from pipelines.compose import KEPT, compose
from pipelines.record import fresh_triplets, kept_triplets, precision
from pipelines.training.sft import turns_of
from reward_model.experts.expert import EXPERT
from reward_model.preferences import derived
from tests.drawn_workspace import answered, context_of, drawn
from tests.lineage_workspace import TASK, commit, make_decision, make_model

WRITER = make_model("m", "generator", None, 0, 1)
ASKED = {
    "How many lesions are there?": ("1", "2", "3", "4"),
    "On which side is the lesion?": ("left", "right"),
    "How large is the lesion?": ("small", "medium", "large"),
    "Is there a hemorrhage?": ("yes", "no"),
    "Is there an infarct?": ("yes", "no"),
}
CONFIG = {"name": "made"}


def pictures(number: int = 16) -> list[Image]:
    findings = ("infarct", "hemorrhage")
    return [drawn("CT", n, findings[n % 2]) for n in range(number)]


def told(image: Image, writer: str = WRITER.id, round: int = 1) -> list[Triplet]:
    """A true row a question."""
    truth = truth_of(image)
    assert truth is not None
    rows = []
    for sample, (asked, options) in enumerate(ASKED.items()):
        answer = answer_of(truth, asked)
        assert answer is not None
        rows.append(answered(image, asked, answer, options, writer=writer, sample=sample,
                             round=round))  # fmt: skip
    return rows


def scored(row: Triplet, score: float = 0.6, keep: bool = True, round: int = 1) -> Decision:
    return replace(make_decision(row, keep, round), score=score)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with writing(tmp_path / "w", "made", CONFIG) as opened:
        yield opened


def filled(workspace: Workspace, images: list[Image]) -> list[Triplet]:
    """Images with true rows that were kept in round 1, each more surely than the one before."""
    commit(workspace, "ingest", 0, [*images, WRITER, TASK])
    rows = [row for image in images for row in told(image)]
    commit(workspace, "generate", 1, [*rows])
    commit(
        workspace, "select", 1, [scored(t, 0.5 + 0.4 * n / len(rows)) for n, t in enumerate(rows)]
    )
    return rows


def run(
    workspace: Workspace, *overrides: str, round: int = 1
) -> tuple[list[Triplet], dict[str, Any]]:
    """The rows that the stage composes, committed, and its figures."""
    stage = workspace.begin("compose", round, f"compose{round}{overrides}")
    compose(context_of(workspace, "compose.questions=20", *overrides), stage)
    workspace.commit(stage)
    return workspace.read(Triplet, "compose", round), stage.metrics


def test_true_rows_are_composed_into_true_questions_that_name_them(workspace: Workspace) -> None:
    kept = {row.id: row for row in filled(workspace, pictures())}
    rows, figures = run(workspace)
    assert len(rows) == 20 == figures["composed"]
    assert figures["precision"] == 1.0
    images = {image.id: image for image in workspace.read(Image)}
    tasks = {task.id for task in workspace.read(Task)}
    for row in rows:
        assert row.program is not None
        assert row.derived_from == tuple(
            sorted(f.source for f in Program.from_json(row.program).facts)
        )
        assert {kept[source].image_id for source in row.derived_from} == {row.image_id}
        assert is_true(images[row.image_id], row)
        assert row.task_id in tasks
        assert row.round == 1


def test_a_composed_row_is_kept_with_the_least_confidence_of_its_facts(
    workspace: Workspace,
) -> None:
    filled(workspace, pictures())
    scores = {d.triplet_id: d.score for d in workspace.read(Decision)}
    rows, _ = run(workspace)
    decided = {d.triplet_id: d for d in workspace.read(Decision) if d.reason == KEPT}
    assert decided.keys() == {row.id for row in rows}
    for row in rows:
        assert decided[row.id].keep
        assert decided[row.id].score == pytest.approx(
            min(scores[s] for s in row.derived_from), abs=1e-6
        )


def test_sft_and_grpo_learn_from_composed_rows_and_nobody_is_taught_to_ask_them(
    workspace: Workspace,
) -> None:
    before = {row.id for row in filled(workspace, pictures())}
    rows, _ = run(workspace)
    context = context_of(workspace, "grpo.share=0.5")
    kept = kept_triplets(context, 1)
    assert {row.id for row in kept} == before | {row.id for row in rows}
    left = fresh_triplets(context, kept)
    assert 0 < sum(row.program is not None for row in left) < len(rows)
    assert precision(context, rows) == 1.0
    tasks = {task.id: task for task in workspace.read(Task)}
    turns = list(turns_of(rows, tasks, "compact", "direct", 1.0, 0))
    assert len(turns) == 2 * len(rows)  # with its steps, and directly
    assert all("<answer>" in turn["completion"] for turn in turns)
    with_steps = [turn for turn in turns if "<think>" in turn["completion"]]
    assert [r.rationale in t["completion"] for r, t in zip(rows, with_steps)] == [True] * len(rows)


def test_where_none_are_wanted_nothing_is_composed(workspace: Workspace) -> None:
    filled(workspace, pictures(2))
    rows, figures = run(workspace, "compose.questions=0")
    assert rows == []
    assert figures == {"skipped": "compose.questions is 0"}


def test_rejected_and_wrong_rows_are_no_facts_or_contradict(workspace: Workspace) -> None:
    images = pictures(4)
    commit(workspace, "ingest", 0, [*images, WRITER, TASK])
    rows = [row for image in images for row in told(image)]
    first = rows[1]
    other = "left" if first.answer == "right" else "right"
    lie = replace(
        answered(images[0], first.question, other, first.options, writer=WRITER.id), sample=9
    )
    commit(workspace, "generate", 1, [*rows, lie])
    of_last = {row.id for row in told(images[-1])}
    decisions = [scored(row, keep=row.id not in of_last) for row in rows]
    commit(workspace, "select", 1, [*decisions, scored(lie)])
    made, figures = run(workspace)
    assert {row.image_id for row in made} == {image.id for image in images[1:3]}
    assert figures["refused"]["facts contradict each other"] == 1


def test_what_an_expert_corrected_stands_for_the_row(workspace: Workspace) -> None:
    images = pictures(6)
    commit(workspace, "ingest", 0, [*images, WRITER, TASK])
    rows = [row for image in images for row in told(image)]
    wrong, gold = [], []
    for row in rows:
        if row.question.startswith("On which side"):
            other = "left" if row.answer == "right" else "right"
            lie = answered_again(row, other)
            wrong.append(lie)
            gold.append(derived(lie, EXPERT, answer=row.answer, rationale=""))
    others = [row for row in rows if not row.question.startswith("On which side")]
    commit(workspace, "generate", 1, [*others, *wrong])
    commit(workspace, "collect", 1, [*gold])
    commit(workspace, "select", 1, [scored(row) for row in (*others, *wrong)])
    made, figures = run(workspace)
    assert made
    assert figures["precision"] == 1.0
    assert figures["refused"].get("facts contradict each other") is None
    assert figures["facts"]["corrected"] > 0
    corrected = {row.id for row in gold}
    assert any(corrected & set(row.derived_from) for row in made)
    assert not any({row.id for row in wrong} & set(row.derived_from) for row in made)


def answered_again(row: Triplet, answer: str) -> Triplet:
    return replace(row, id=f"{row.id[:-1]}{'0' if row.id[-1] != '0' else '1'}", answer=answer)


def test_truth_is_taken_only_where_it_is_named(workspace: Workspace) -> None:
    commit(workspace, "ingest", 0, [*pictures(6), drawn("CT", 90, split="test")])
    rows, figures = run(workspace)
    assert rows == []
    assert figures["images"] == 0
    rows, figures = run(workspace, "compose.facts=[truth]", round=2)
    assert rows
    assert set(figures["facts"]) == {"truth"}
    assert all(row.derived_from == (row.image_id,) for row in rows)
    splits = {image.id: image.split for image in workspace.read(Image)}
    assert {splits[row.image_id] for row in rows} == {"train"}  # none on the test's pictures


def test_another_round_asks_other_questions_of_other_images_first(workspace: Workspace) -> None:
    filled(workspace, pictures())
    first, _ = run(workspace, "compose.questions=8")
    second, _ = run(workspace, "compose.questions=8", round=2)
    assert first
    assert second
    assert [r.image_id for r in first] != [r.image_id for r in second]
    asked = {(row.image_id, row.question) for row in first}
    assert not asked & {(row.image_id, row.question) for row in second}


def test_the_same_seed_composes_the_same_rows(workspace: Workspace, tmp_path: Path) -> None:
    filled(workspace, pictures(8))
    first, _ = run(workspace)
    with writing(tmp_path / "again", "made", CONFIG) as other:
        filled(other, pictures(8))
        assert run(other)[0] == first


def test_too_few_facts_are_told_with_their_number(workspace: Workspace) -> None:
    (image,) = pictures(1)
    (row, *_) = told(image)
    commit(workspace, "ingest", 0, [image, WRITER, TASK])
    commit(workspace, "generate", 1, [row])
    commit(workspace, "select", 1, [scored(row)])
    rows, figures = run(workspace)
    assert rows == []
    assert figures["refused"] == {"too few facts": 1}


# The record


def test_the_record_holds_together_and_tells_the_program(workspace: Workspace) -> None:
    filled(workspace, pictures(6))
    rows, _ = run(workspace)
    assert verify(workspace).problems == []
    told_ = trace(workspace.ledger(), rows[0].id)
    assert told_["program"] == json.loads(rows[0].program or "")
    assert told_["generator"] == {"id": "composed"}
    assert told_["decisions"][0]["reason"] == KEPT
    made_again = reproduce(workspace, rows[0].id)
    assert made_again["equal"], made_again


def test_the_export_names_where_composed_rows_are_from(
    workspace: Workspace, tmp_path: Path
) -> None:
    filled(workspace, pictures(6))
    rows, _ = run(workspace)
    export(workspace, tmp_path / "out", "made")
    found = [
        r for p in (tmp_path / "out/data").glob("*.parquet") for r in pq.read_table(p).to_pylist()
    ]
    composed = {r["id"]: r for r in found if r["origin"] == "composed"}
    assert composed.keys() == {row.id for row in rows}
    assert all(Program.from_json(r["program"]).answer == r["answer"] for r in composed.values())
    assert {r["program"] for r in found if r["origin"] == "generated"} == {None}
    steps = {r["asked_steps"] for r in composed.values()}
    assert steps > {2}
    assert all(r["found_steps"] == r["asked_steps"] for r in composed.values())
    assert "composed" in (tmp_path / "out/README.md").read_text()


def test_a_withdrawn_image_takes_its_composed_rows_along(workspace: Workspace) -> None:
    images = pictures(6)
    filled(workspace, images)
    rows, _ = run(workspace)
    gone = {row.id for row in rows if row.image_id == images[0].id}
    assert gone
    withdraw(workspace, images[0].id)
    assert {row.id for row in workspace.read(Triplet, "compose")} == {r.id for r in rows} - gone
    assert gone <= {t.row_id for t in workspace.read(Tombstone)}
    assert not gone & {d.triplet_id for d in workspace.read(Decision)}


def test_a_reader_who_takes_back_a_correction_takes_what_was_composed_of_it(
    workspace: Workspace,
) -> None:
    images = pictures(4)
    rows = filled(workspace, images)
    asked = [row for row in rows if row.question.startswith("How many")]
    gold = [derived(row, EXPERT) for row in asked]
    said = [
        Verdict(id=f"v{n}", item_id="", triplet_id=row.id, image_id=row.image_id, verdict="accept",
                reasons=(), correction="", comment="", expert="reader-1",
                at="2026-01-01T00:00:00.000Z", seconds=None, stream="given", round=1, repeat=False)
        for n, row in enumerate(asked)
    ]  # fmt: skip
    commit(workspace, "collect", 1, [*gold, *said])
    made, _ = run(workspace)
    theirs = {row.id for row in made if {g.id for g in gold} & set(row.derived_from)}
    assert theirs
    assert theirs != {row.id for row in made}
    withdraw_reader(workspace, "reader-1")
    left = {row.id for row in workspace.read(Triplet, "compose")}
    assert left == {row.id for row in made} - theirs
