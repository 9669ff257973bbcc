"""How long the parts of a row may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import Config
from engine.config.filters import Filters
from engine.config.generator import Generator
from engine.records import Task, Triplet
from generators import filters, proposer
from generators.filters import length
from tests.generators.filters.rows import ROW, row
from tests.generators.test_proposer import Scripted

SHORT = Filters(question_words=5, options=3, answer_words=4, reasoning_words=6)


@pytest.mark.parametrize(
    ("long", "fault"),
    [
        (row("Is it " + "so " * 4), "question: more than 5 words"),
        (row(answer="a b c d e"), "answer: more than 4 words"),
        (row("Which?", "a", "a", "b c d e f"), "options: more than 4 words"),
        (row("Which?", "a", "a", "b", "c", "d"), "options: more than 3"),
        (
            replace(ROW, rationale="one two three four five six seven"),
            "reasoning: more than 6 words",
        ),
    ],
)
def test_what_is_longer_than_configured_is_out(long: Triplet, fault: str) -> None:
    assert length.reason(long, SHORT) == fault
    assert filters.reason(long, SHORT) == fault
    assert length.reason(long, Filters()) is None


def test_what_is_as_long_as_configured_passes() -> None:
    most = replace(
        row("a b c d e", "a", "a", "b c d e", "f"), rationale="one two three four five six"
    )
    assert length.reason(most, SHORT) is None


def test_an_option_that_stands_out_by_its_length_is_out() -> None:
    long = "a large mass in the left lower lobe of the lung"
    assert length.reason(row("Which?", long, long, "cyst", "tumor"), Filters()) == (
        "options: one is far longer"
    )
    alike = (long, "a small nodule in the right upper lobe", "a pleural effusion on both sides")
    assert length.reason(row("Which?", long, *alike), Filters()) is None
    short = row("Which?", "reassurance and continuous monitoring", "diltiazem", "labetalol")
    assert length.reason(short, Filters()) is None


def test_a_generator_holds_its_rows_to_what_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task.make("MR", "disease", "easy", "open", "direct")
    rows = [{"image_id": "i", "task": task.to_dict()}]
    monkeypatch.setattr(proposer, "Pixels", lambda _: {"i": b""})
    plan = proposer.ProposerSettings("g", "compact", 1, 1.0, 1.0, 9, 0, 1)
    said = Config(generator={"filters": {"question_words": 3}}).generator.filters
    problems = {}
    for held_to in (Filters(), said):
        vlm = Scripted(
            ["<question>Which finding is shown?</question>"], [["<answer>cyst</answer>"]]
        )
        monkeypatch.setattr(proposer, "open_vlm", lambda *_, vlm=vlm, **__: vlm)
        job = proposer.Proposing(tmp_path, "m", Generator(), plan, 1, 784, held_to)
        made = proposer.make_proposer(job)("00000", rows)[Triplet]
        problems[held_to.question_words] = [one.problem for one in made]
    assert problems == {250: [None], 3: ["question: more than 3 words"]}
