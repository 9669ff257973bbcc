"""Asked, generated, kept and found, by cell: counted from the rows, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from engine.config import build
from engine.hub.card import card
from engine.hub.export import export
from engine.lineage.opening import writing
from engine.records import Assignment, Found, Image, Task, Triplet
from engine.workspace import Workspace
from pipelines import generate, plan, select
from pipelines.adherence import (
    COUNTS,
    KEPT_LINES,
    SHOWN_LINES,
    Line,
    of_record,
    recorded,
    table,
    worst_first,
)
from pipelines.context import Context
from pipelines.progress import Display
from pipelines.report.page import quotas, write_report
from tests.drawn_workspace import answered, drawn
from tests.lineage_workspace import commit, make_judgement, make_model

IMAGES = [drawn("MR", n, "tumor", size=48) for n in range(4)]
JUDGE = replace(make_model("judge", "judge", None, 0, 1), metrics="{}")
QUOTAS = ["generator.quotas={difficulty: {easy: 1, hard: 1}, modality: {MR: 1, PET: 1}}"]
EASY, HARD = (Task.make("MR", "disease", d, "closed", "step") for d in ("easy", "hard"))
OPEN = Task.make("MR", "disease", "hard", "open", "step")


class Said(Display):
    """A display whose words are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(record=True, width=120, quiet=False)

    @property
    def words(self) -> str:
        return " ".join(self.console.export_text(clear=False).split())


def rows_of(image: Image, task: Task, *answers: str, **more: Any) -> list[Triplet]:
    """Samples of one question about an image, asked for by a task."""
    return [
        replace(
            answered(image, "Is there a tumor?", answer, sample=n, round=1, **more),
            task_id=task.id,
            logprob=-0.1,
            problem=None if answer else "question: no question tag",
        )
        for n, answer in enumerate(answers)
    ]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """A round that was judged: of an easy, of two hard and of an open question, one unreadable."""
    config = build({"expert": {"kind": "none"}}, QUOTAS, "x")
    rows = [
        *rows_of(IMAGES[0], EASY, "yes", "yes", "yes", "yes"),
        *rows_of(IMAGES[1], HARD, "yes", "yes", "yes", "yes"),
        *rows_of(IMAGES[2], OPEN, "yes", "yes", "no", "no"),
        *rows_of(IMAGES[3], OPEN, ""),
    ]
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        commit(workspace, "ingest", 0, IMAGES)
        commit(workspace, "reward", 0, [JUDGE])
        tasks = [EASY, HARD, OPEN, OPEN]
        asked = [Assignment.make(i.id, t.id, 1, n) for n, (i, t) in enumerate(zip(IMAGES, tasks))]
        commit(workspace, "plan", 1, [*dict.fromkeys(tasks), *asked])
        commit(workspace, "generate", 1, [*rows])
        read = [row for row in rows if row.problem is None]
        commit(workspace, "judge", 1, [make_judgement(row, JUDGE) for row in read])
        yield Context(Workspace.existing(tmp_path / "w"), config, Said())


def selected(context: Context) -> dict[str, Any]:
    stage = context.workspace.begin("select", 1, "select")
    select.select(context, stage)
    context.workspace.commit(stage)
    return stage.metrics


def words_of(context: Context) -> str:
    assert isinstance(context.display, Said)
    return context.display.words


def test_a_round_is_counted_by_the_axes_that_the_quotas_speak_of(context: Context) -> None:
    metrics = selected(context)
    assert metrics["cells"]["axes"] == ["modality", "difficulty"]
    lines, rest = of_record(metrics["cells"])
    assert rest is None
    counts = {line.cell: dict(zip(COUNTS, line.counts)) for line in lines}
    easy = {"asked": 1, "generated": 1, "read": 4, "read_as_asked": 4}
    hard = {"asked": 3, "generated": 2, "read": 8, "read_as_asked": 0}
    kept = {c: n["kept"] for c, n in counts.items()}
    assert {c: {k: n[k] for k in easy} for c, n in counts.items()} == {
        ("MR", "easy"): easy,
        ("MR", "hard"): hard,
    }
    assert sum(kept.values()) == metrics["kept"] > 0
    read = metrics["adherence"]["read"]
    assert read["question_type"] == read["steps"] == 1.0
    assert read["answer_format"] == pytest.approx(8 / 12, abs=1e-3)  # open was asked, yes was said
    assert read["difficulty"] == pytest.approx(4 / 12, abs=1e-3)  # two hard ones were not
    assert read["all"] == pytest.approx(4 / 12, abs=1e-3)


def test_what_was_found_of_a_row_is_in_the_record_and_leaves_with_it(
    context: Context, tmp_path: Path
) -> None:
    selected(context)
    found = {one.triplet_id: one for one in context.rows(Found)}
    read = [row for row in context.rows(Triplet) if row.problem is None]
    assert found.keys() == {row.id for row in read}
    assert {found[r.id].difficulty for r in read if r.task_id == OPEN.id} == {"medium"}
    export(context.workspace, tmp_path / "out", "demo")
    rows = [r for f in (tmp_path / "out/data").glob("*") for r in pq.read_table(f).to_pylist()]
    assert rows
    for row in rows:
        mine = found[row["id"]]
        assert row["found_difficulty"] == mine.difficulty
        assert (row["pass_rate"], row["found_steps"]) == (mine.pass_rate, 1)
        assert (row["found_answer_format"], row["found_question_type"]) == ("closed", "disease")
        assert row["asked_difficulty"] in ("easy", "hard")
        assert (row["asked_style"], row["asked_anatomy"], row["asked_steps"]) == ("step", "", 1)
    assert "| `found_difficulty` | Difficulty by the pass rate" in card(context.workspace, "demo")


def test_the_table_is_in_the_terminal_and_in_the_report(context: Context, tmp_path: Path) -> None:
    selected(context)
    assert "modality · difficulty" in words_of(context)
    assert "MR · hard" in words_of(context)
    page = write_report(context.workspace, tmp_path / "report").read_text()
    assert "<td>MR · hard</td>" in page
    assert "Asked, generated, kept" in page


def test_a_cell_of_which_no_row_could_be_read_is_a_line(context: Context) -> None:
    stage = context.workspace.begin("generate", 1, "again")
    rows = rows_of(IMAGES[0], EASY, "yes") + rows_of(IMAGES[1], HARD, "", "", "")
    stage.write(Triplet, rows)
    paths = [stage.folder / f"{name}.parquet" for name in stage.done()]
    assert generate._not_read(context, stage, paths) == 1
    assert (
        "round 1: modality MR, difficulty hard: 3 asked, no row could be read "
        "(most often question: no question tag)"
    ) in words_of(context)


def test_a_plan_says_what_it_cannot_fill(context: Context, tmp_path: Path) -> None:
    stage = context.workspace.begin("plan", 1, "again")
    plan.plan(context, stage)
    assert stage.metrics["tasks"] == 300
    (unfilled,) = stage.metrics["unfilled"]
    line = "modality PET: 300 tasks are not asked, no training image has this modality"
    assert unfilled["cell"] == {"modality": "PET"}
    assert line in words_of(context)
    metrics = selected(context)
    commits = [
        {"stage": "plan", "round": 1, "metrics": stage.metrics},
        {"stage": "select", "round": 1, "metrics": metrics},
    ]
    shown = quotas(commits)
    assert shown is not None
    assert shown["unfilled"][0].startswith(f"Round 1: {line}")


def line(name: str, asked: int, kept: int) -> Line:
    counts = {"asked": asked, "generated": asked, "kept": kept, "read": asked}
    return Line((name,), tuple(counts.get(count, 0) for count in COUNTS))


def test_cells_that_lose_most_against_the_round_come_first_and_the_rest_is_summed() -> None:
    lines = [line("big and good", 900, 460), line("small and bad", 2, 0), line("bad", 100, 30)]
    shown, rest = worst_first(lines, 2)
    assert [one.cell[0] for one in shown] == ["bad", "small and bad"]
    assert rest is not None
    assert (rest.cell[0], rest["asked"], rest["kept"]) == ("1 other cells", 900, 460)


@pytest.mark.parametrize("number", [SHOWN_LINES, 300, KEPT_LINES + 200])
def test_a_table_of_hundreds_of_cells_stays_readable_and_loses_no_number(number: int) -> None:
    lines = [line(f"[b]{n}", 10, n % 11) for n in range(number)]
    shown, rest = of_record(recorded(["modality"], lines))
    assert len(shown) == min(number, SHOWN_LINES)
    everything = [*shown, *([rest] if rest else [])]
    for count in COUNTS:
        assert sum(one[count] for one in everything) == sum(one[count] for one in lines)
    if rest:
        assert rest.cell == (f"{number - SHOWN_LINES} other cells",)
    console = Console(record=True, width=100)
    console.print(table(1, recorded(["modality"], lines)))
    assert console.export_text().count("[b]") == len(shown)  # a value is text, no markup
