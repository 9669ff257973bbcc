"""What readers said, in a withdrawal: a patient's, and a reader's own. Rows, journal and export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.errors import TriptychError
from engine.lineage import chain, redaction
from engine.lineage.opening import maintaining
from engine.lineage.opinions import certified, first_heard, withdrawn_readers
from engine.lineage.reach import reach_reader
from engine.lineage.verify import verify
from engine.records import (
    Evaluation,
    Item,
    Preference,
    Row,
    Tombstone,
    Triplet,
    Verdict,
    Withdrawal,
)
from engine.workspace import Workspace
from pipelines.commands.withdraw import reached_by_reader, withdraw_reader
from reward_model.journal import Journal
from tests.lineage_workspace import (
    cli,
)
from tests.read_workspace import read_workspace


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return read_workspace(tmp_path_factory.mktemp("answered") / "w")


@pytest.fixture
def read(answered: Workspace, tmp_path: Path) -> Workspace:
    """A copy of `answered` to write to."""
    shutil.copytree(answered.root, tmp_path / "w")
    return Workspace.existing(tmp_path / "w")


def held(root: Path, words: str) -> list[str]:
    """Files of the workspace that hold some words, inside compressed Parquet too."""
    found = []
    for path in root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".parquet":
                names = [n for n in pq.read_schema(path).names if n != "png"]
                rows = pq.read_table(path, columns=names).to_pylist()
                data += json.dumps(rows, default=str).encode()
            if words.encode() in data:
                found.append(str(path.relative_to(root)))
    return found


def experts(workspace: Workspace, row_type: type[Row]) -> list[str]:
    return sorted({row.expert for row in workspace.read(row_type)})


def test_a_patients_items_verdicts_preferences_and_answers_go(read: Workspace) -> None:
    assert held(read.root, "Mrs Miller's")
    told = json.loads(cli("withdraw", "p0", "-w", read.root, "--json"))
    counted = {table: told["rows"][table] for table in ("items", "verdicts", "preferences")}
    assert counted == {"items": 2, "verdicts": 1, "preferences": 1}
    assert told["rows"]["answers"] == 2
    assert held(read.root, "Mrs Miller's") == held(read.root, "both name the patient") == []
    gone = {t.row_table for t in read.read(Tombstone)}
    assert {"items", "verdicts", "preferences", "triplets", "images"} <= gone
    assert read.read(Preference) == []
    assert len(read.read(Item)) == 3
    assert [a.reader for a in Journal(read.root).answers()] == ["R2", "R1", "R4", "R3"]
    assert verify(read).problems == []
    assert chain.check(read) == []


def test_a_patients_verdict_reaches_the_judge_that_learned_from_it(read: Workspace) -> None:
    told = json.loads(cli("withdraw", "p0", "-w", read.root, "--json", "--dry-run"))
    assert [m["role"] for m in told["derived_models"]] == ["sft"]
    assert [m["role"] for m in told["influenced_models"]] == ["judge"]
    assert told["influenced_rows"]["decisions"] == 4


def test_a_reader_takes_back_what_they_said_and_what_came_of_it(read: Workspace) -> None:
    asked = ("--reason", "left the study", "--by", "R1")
    told = json.loads(cli("withdraw", "--reader", "R1", "-w", read.root, "--json", *asked))
    assert told["kind"] == "reader"
    counted = {k: v for k, v in told["rows"].items() if v}
    assert counted == {"triplets": 2, "verdicts": 2, "evaluations": 1, "answers": 2}
    assert [m["role"] for m in told["derived_models"]] == ["sft"]  # it saw the corrected row
    assert [m["role"] for m in told["influenced_models"]] == ["judge"]
    assert told["influenced_rows"]["decisions"] == 4
    assert len(told["datasets"]) == len(told["influenced_datasets"]) == 1
    assert (experts(read, Verdict), experts(read, Preference)) == (["R2", "R4"], ["R2"])
    gold = [t for t in read.read(Triplet) if t.generator_id == "expert"]
    assert [t.answer for t in gold] == ["no"]  # the one that R2 accepted
    assert read.read(Evaluation) == []
    assert len(read.read(Item)) == 5  # what was asked stays: others may answer it
    assert {a.reader for a in Journal(read.root).answers()} == {"R2", "R3", "R4"}
    assert held(read.root, "Mrs Miller's") == []
    done = read.read(Withdrawal)[0]
    assert (done.subject_kind, done.subject_id, done.images) == ("reader", "R1", 0)
    assert verify(read).problems == []
    assert chain.check(read) == []
    exported = pq.read_table(read.root / "dataset" / "data").column("id").to_pylist()
    assert {t.id for t in gold} <= set(exported)
    assert withdrawn_readers(read.ledger()) == {"R1": done.at}
    with pytest.raises(TriptychError, match="no reader is called 'R1': it was withdrawn on"):
        reached_by_reader(read, read.ledger(), "R1")


def test_a_random_verdict_reaches_the_decisions_of_its_round(read: Workspace) -> None:
    ledger = read.ledger()
    rows = [v.id for v in read.read(Verdict) if v.stream == "random"]
    select = next(c["sequence"] for c in read.commits() if c["stage"] == "select")
    assert certified(ledger, rows) == {(select, "decisions")}
    assert first_heard(ledger, rows) == select - 1
    others = [v.id for v in read.read(Verdict) if v.stream != "random"]
    assert certified(ledger, others) == set()
    told = reach_reader(ledger, "R4")
    assert told.rows["verdicts"] == 1
    assert (told.derived_models, told.datasets) == ([], [])
    assert [m["role"] for m in told.influenced_models] == ["sft"]  # the judge is older
    assert told.influenced_rows == {"decisions": 4, "evaluations": 1}
    assert len(told.influenced_datasets) == 1
    tests = [v.id for v in read.read(Verdict) if v.stream == "test"]
    assert first_heard(ledger, tests) is None


def test_a_reader_who_is_in_the_journal_alone_can_be_withdrawn(read: Workspace) -> None:
    text = cli("withdraw", "--reader", "R3", "-w", read.root, "--dry-run")
    assert "withdraw reader R3" in text
    assert "1 answers" in text
    assert len(Journal(read.root).answers()) == 6
    cli("withdraw", "--reader", "R3", "-w", read.root)
    assert {a.reader for a in Journal(read.root).answers()} == {"R1", "R2", "R4"}
    assert verify(read).problems == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "withdraw what?"),
        (["p0", "--reader", "R1"], "withdraw what?"),
        (["--reader", "R1", "--group"], "withdraw what?"),
        (["--reader", "R9"], "no reader is called 'R9'; there are R1, R2, R4"),
        (["--reader", "R"], "no reader is called 'R'"),  # no beginning: R1 is not R10
    ],
)
def test_what_cannot_be_withdrawn_is_said(read: Workspace, words: list[str], told: str) -> None:
    from typer.testing import CliRunner

    from pipelines.cli import app

    result = CliRunner().invoke(app, ["lineage", "withdraw", *words, "-w", str(read.root)])
    assert told in str(result.exception)


@pytest.mark.parametrize("point", ["before the commit", "after the commit"])
def test_answers_go_where_a_withdrawal_was_cut_short_and_finished(
    read: Workspace, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def power_cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if point == "before the commit":
            patch.setattr(Workspace, "commit", power_cut)
        else:
            patch.setattr(redaction, "without", power_cut)
        with pytest.raises(KeyboardInterrupt), maintaining(read.root) as workspace:
            withdraw_reader(workspace, "R1")
    assert len(Journal(read.root).answers()) == 6
    with maintaining(read.root):
        pass
    assert verify(read).problems == []
    readers = {a.reader for a in Journal(read.root).answers()}
    assert ("R1" in readers) == (point == "before the commit")
