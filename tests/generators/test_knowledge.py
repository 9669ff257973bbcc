"""What is known of an image: told to who writes rows about it, and found nowhere behind them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.config.backend import Transformers
from engine.hub.export import export
from engine.knowledge import NOTHING, Known, knowing, known_of
from engine.lineage import prov
from engine.lineage.opening import writing
from engine.prompts import answer_prompt, ask_prompt
from engine.records import Image, Prompt, Task, Triplet, canonical
from engine.vlm.protocol import Request, Sample, Sampling
from engine.workspace import Workspace
from generators import proposer
from generators.proposer import ProposerSettings, Proposing, make_proposer
from pipelines.proposals import write_tasks
from pipelines.training.grpo import questions_of
from pipelines.training.sft import turns_of
from tests.drawn_workspace import context_of, drawn
from tests.lineage_workspace import commit, make_image, make_model
from tests.round_workspace import decide
from tests.test_imports import ROOMS, ROOT

CANARY = "hippocampal"  # in whatever is private
REPORT = f"The {CANARY} heart is large and there is a small effusion on the right side as well."
FACTS = {"ViewPosition": "PA", "PixelSpacing": [0.25, 0.25], "KVP": [120.0]}
IMAGES = [
    replace(
        make_image(n, f"g{n}"),
        report=REPORT if n < 2 else None,
        labels=canonical({"Pleural_Effusion": CANARY, "empty": ""}) if n != 1 else None,
        rendering=canonical({"window": [40, 400], "facts": FACTS}),
    )
    for n in range(3)
]
TASK = Task.make("X-ray", "disease", "medium", "open", "step")
QUESTION = "<question>What is seen?</question>"
ANSWER = "<think>The base on the right is dense.</think><answer>effusion</answer>"
KINDS = ("report", "labels", "ViewPosition")
SETTINGS = ProposerSettings("g", "full", 1, 0.6, 0.9, 40, 0, 1, KINDS)


class Writer:
    """A VLM that writes one question and one answer, and remembers what it was told."""

    def __init__(self, answer: str = ANSWER) -> None:
        self.answer = answer
        self.told: list[str] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        self.told += [request.text for request in requests]
        asks = "write one question" in " ".join(self.told[-1].split()) if requests else False
        return [[Sample(QUESTION if asks else self.answer, -1.0, 5)] for _ in requests]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with writing(tmp_path / "w", "demo", {}) as made:
        commit(made, "ingest", 0, [*IMAGES, make_model("g", "generator", None, 0, None)])
        yield made


def written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, writer: Writer, plan: ProposerSettings
) -> list[Triplet]:
    """What a generator's worker makes of the images."""
    monkeypatch.setattr(proposer, "open_vlm", lambda *_, **__: writer)
    work = make_proposer(Proposing(workspace.root, "m", Transformers(), plan, 1, 784))
    rows = work("00000", [{"image_id": i.id, "task": TASK.to_dict()} for i in IMAGES])
    return list(rows[Triplet])


# What is known


def test_each_kind_is_told_and_nothing_that_was_not_asked_for() -> None:
    assert known_of(IMAGES[0], ["report"]) == Known(REPORT)
    both = known_of(IMAGES[0], ["labels", "ViewPosition", "PixelSpacing", "Rows"])
    assert both.facts == (
        ("labels", "Pleural_Effusion", CANARY),
        ("ViewPosition", "ViewPosition", "PA"),
        ("PixelSpacing", "PixelSpacing", "0.25, 0.25"),
    )
    assert both.kinds == ("labels", "PixelSpacing", "ViewPosition")
    assert both.told().splitlines() == [
        f"Labels: Pleural_Effusion: {CANARY}",
        "DICOM: PixelSpacing: 0.25, 0.25",
        "DICOM: ViewPosition: PA",
    ]
    assert known_of(IMAGES[0], []) == NOTHING
    assert (NOTHING.kinds, NOTHING.told()) == ((), "")


def test_of_a_phantom_the_truth_is_told_as_it_is() -> None:
    image = drawn("ultrasound", 3, "cyst")
    truth = json.loads(str(image.truth))
    told = {name: value for _, name, value in known_of(image, ["truth"]).facts}
    assert told["finding"] == "cyst"
    assert told["size"] == truth["size"]
    assert float(told["size_mm"]) == pytest.approx(truth["size_mm"])
    assert set(truth["attributes"]) <= told.keys()
    assert not told.keys() & {"cnr", "attributes", "modality"}
    assert known_of(IMAGES[0], ["truth"]) == NOTHING


def test_it_is_read_from_the_workspace_for_the_images_that_are_asked_about(
    workspace: Workspace,
) -> None:
    known = knowing(workspace.root, KINDS)([IMAGES[0].id, IMAGES[2].id, "gone"])
    assert known == {i.id: known_of(i, KINDS) for i in (IMAGES[0], IMAGES[2])}
    assert knowing(workspace.root, ())([IMAGES[0].id]) == {}


# Who is told


def test_the_writer_is_told_and_its_rows_say_of_which_kinds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer()
    rows = written(workspace, monkeypatch, writer, SETTINGS)
    asks, answers = writer.told[:3], writer.told[3:]
    for told in (asks, answers):
        assert [REPORT in text for text in told] == [True, True, False]
        assert [f"Pleural_Effusion: {CANARY}" in text for text in told] == [True, False, True]
    assert [row.known for row in rows] == [
        ("report", "labels", "ViewPosition"),
        ("report", "ViewPosition"),
        ("labels", "ViewPosition"),
    ]
    assert [row.problem for row in rows] == [None] * 3


def test_by_default_nothing_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    rows = written(workspace, monkeypatch, writer, replace(SETTINGS, knowledge=()))
    fields = TASK.to_dict()
    assert set(writer.told[:3]) == {ask_prompt("full", fields)}
    assert set(writer.told[3:]) == {answer_prompt("full", "What is seen?", (), "step")}
    assert {row.known for row in rows} == {()}


def test_a_row_that_quotes_what_was_told_is_one_with_that_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    leak = ANSWER.replace("The base", f"{REPORT} The base")
    rows = written(workspace, monkeypatch, Writer(leak), SETTINGS)
    said = "reasoning: 8 words of the report in their order"
    assert [row.problem for row in rows] == [said, said, None]


def test_no_prompt_of_policy_training_or_examination_goes_through_knowledge() -> None:
    """Only who writes rows about an image, or verifies them, may name what it is told with."""
    named = re.compile(r"\bwith_knowledge\b|\bknown_of\b|\bknowing\b")
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if named.search(path.read_text(encoding="utf-8"))
    }
    writers = {"generators/proposer.py", "generators/debate.py"}
    assert writers <= found
    own = {"engine/knowledge.py", "engine/prompts/__init__.py"}
    allowed = writers | own | {p for p in found if "verif" in p}
    assert found == allowed


def test_what_was_told_is_in_no_training_prompt_no_prompts_row_and_no_export(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context = context_of(
        workspace, "generator.prompts=full", f"generator.knowledge=[{', '.join(KINDS)}]"
    )
    section = context.config.generator
    quoted = ANSWER.replace("The base", f"According to the report the {CANARY} base")
    rows = written(workspace, monkeypatch, Writer(), SETTINGS)
    leaks = written(workspace, monkeypatch, Writer(quoted), SETTINGS)
    assert all(CANARY in row.raw for row in leaks)
    stage = workspace.begin("plan", 1, "plan")
    write_tasks(stage, section, [TASK])
    workspace.commit(stage)
    commit(workspace, "generate", 1, [*rows, *leaks])
    decisions = [decide(r, True, 1.0, 1) for r in rows] + [decide(r, False, 0.0, 1) for r in leaks]
    commit(workspace, "select", 1, decisions)

    turns = list(turns_of(rows, {TASK.id: TASK}, section.prompts, "direct", 1.0, 0))
    asked = list(questions_of(rows, section.prompts, "step"))
    assert len(turns) > 3
    assert CANARY not in json.dumps([turns, asked])

    (prompt,) = workspace.read(Prompt)
    assert {row.prompt_hash for row in rows} == {prompt.id}
    assert "[private: report, labels, ViewPosition]" in prompt.text
    assert CANARY not in prompt.text

    export(workspace, tmp_path / "out", "demo")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    tables = [pq.read_table(path) for path in files if path.suffix == ".parquet"]
    assert sum(len(table) for table in tables) == len(rows) + len(leaks)
    for table in tables:
        assert not {"report", "labels", "raw", "known", "problem"} & set(table.column_names)
        told = table.select([name for name in table.column_names if name != "image"])
        assert CANARY not in json.dumps(told.to_pydict())
    texts = [path.read_text() for path in files if path.suffix in (".md", ".json")]
    assert len(texts) == 2
    assert CANARY not in "".join(texts)
    assert CANARY not in prov.write(workspace)
    held: list[Image] = workspace.read(Image)
    assert CANARY in str(held[0].report)  # where it is, and stays
