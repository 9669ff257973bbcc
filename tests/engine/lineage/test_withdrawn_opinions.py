"""What readers said, in a withdrawal: a patient's, and a reader's own. Rows, journal and export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.errors import TriptychError
from engine.lineage import chain, redaction
from engine.lineage.opening import maintaining, writing
from engine.lineage.opinions import withdrawn_readers
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
from reward_model.preferences import derived
from reward_model.verdicts import FIRST, Answer, preferences_of, verdict_of
from tests.lineage_workspace import (
    CONFIG,
    PROMPT,
    TASK,
    cli,
    commit,
    consumed,
    make_decision,
    make_evaluation,
    make_image,
    make_item,
    make_judgement,
    make_model,
    make_triplet,
)

AT = "2026-11-26T10:00:00.000Z"


def verdict(item: Item, reader: str, word: str = "accept", **more: Any) -> Answer:
    return Answer(
        id=f"{reader} {item.id[:6]}", kind="verdict", reader=reader, at=AT, item_id=item.id,
        triplet_id=item.triplet_id, verdict=word, **more,
    )  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> Workspace:
    """Two readers on three patients: 0 and 1 in training, 2 for the test; a round after them."""
    images = [
        replace(make_image(n, f"g{n}", ("train", "train", "test")[n]), patient=f"p{n}")
        for n in range(3)
    ]
    base = make_model("base", "base", None, 0, None)
    rows = [make_triplet(i, base.id, n, 0) for i in images for n in (0, 1)]
    items = [
        make_item(rows[0], "informative", 0),
        make_item(rows[2], "informative", 0),
        make_item(rows[4], "test", 0),
        make_item(rows[0], "informative", 0, rows[1]),
    ]
    answers = [
        verdict(items[0], "R1", "reject", correction="yes", comment="Mrs Miller's own scan"),
        verdict(items[1], "R2"),
        verdict(items[2], "R1", "reject", correction="yes"),
        replace(
            verdict(items[3], "R2", ""), kind="preference", other_id=rows[1].id,
            preferences={"factuality": FIRST}, comment="both name the patient",
        ),
    ]  # fmt: skip
    by_id, asked = {row.id: row for row in rows}, {item.id: item for item in items}
    verdicts = [verdict_of(a, asked[a.item_id], by_id[a.triplet_id]) for a in answers[:3]]
    pairs = preferences_of(answers[3], items[3], by_id, images[0])
    gold = [derived(rows[0], "expert", answer="yes"), derived(rows[2], "expert")]
    gold.append(derived(rows[4], "expert", answer="yes"))
    judge, sft = make_model("judge", "judge", base.id, 0, 5), make_model("s", "sft", base.id, 1, 9)
    later = [make_triplet(i, base.id, n, 1) for i in images[:2] for n in (2, 3)]
    drawn = make_item(later[2], "random", 1)
    said = verdict(drawn, "R2", "cannot tell")
    with writing(tmp_path / "w", "made", CONFIG) as workspace:
        commit(workspace, "ingest", 0, [*images, base])
        commit(workspace, "compare", 0, [*rows, PROMPT, TASK])
        commit(workspace, "consult", 0, [*items])
        commit(workspace, "collect", 0, [*verdicts, *pairs, *gold])
        learned = [v for v in verdicts if v.stream == "informative"] + pairs
        commit(workspace, "reward", 0, [judge, *consumed(judge, learned)])
        commit(workspace, "generate", 1, [*later])
        commit(workspace, "judge", 1, [make_judgement(t, judge) for t in later])
        commit(workspace, "consult", 1, [drawn])
        commit(workspace, "collect", 1, [verdict_of(said, drawn, later[2])])
        commit(workspace, "select", 1, [make_decision(t, True, 1) for t in later])
        commit(workspace, "sft", 1, [sft, *consumed(sft, [gold[0], *later])])
        test = replace(make_evaluation(images[2], sft, 1), gold="yes")
        commit(workspace, "evaluate", 1, [test])
        from engine.hub.publish import publish

        publish(workspace)
    Journal(workspace.root).append([*answers, said, verdict(items[1], "R3")])
    return Workspace.existing(workspace.root)


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
    assert [a.reader for a in Journal(read.root).answers()] == ["R2", "R1", "R2", "R3"]
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
    assert experts(read, Verdict) == experts(read, Preference) == ["R2"]
    gold = [t for t in read.read(Triplet) if t.generator_id == "expert"]
    assert [t.answer for t in gold] == ["no"]  # the one that R2 accepted
    assert read.read(Evaluation) == []
    assert len(read.read(Item)) == 5  # what was asked stays: others may answer it
    assert {a.reader for a in Journal(read.root).answers()} == {"R2", "R3"}
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
    from engine.lineage.opinions import certified, first_heard

    select = next(c["sequence"] for c in read.commits() if c["stage"] == "select")
    assert certified(ledger, rows) == {(select, "decisions")}
    assert first_heard(ledger, rows) == select - 1
    others = [v.id for v in read.read(Verdict) if v.stream != "random"]
    assert certified(ledger, others) == set()
    tests = [v.id for v in read.read(Verdict) if v.stream == "test"]
    assert first_heard(ledger, tests) is None


def test_a_reader_who_is_in_the_journal_alone_can_be_withdrawn(read: Workspace) -> None:
    text = cli("withdraw", "--reader", "R3", "-w", read.root, "--dry-run")
    assert "withdraw reader R3" in text
    assert "1 answers" in text
    assert len(Journal(read.root).answers()) == 6
    cli("withdraw", "--reader", "R3", "-w", read.root)
    assert {a.reader for a in Journal(read.root).answers()} == {"R1", "R2"}
    assert verify(read).problems == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "withdraw what?"),
        (["p0", "--reader", "R1"], "withdraw what?"),
        (["--reader", "R1", "--group"], "withdraw what?"),
        (["--reader", "R9"], "no reader is called 'R9'; there are R1, R2"),
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
