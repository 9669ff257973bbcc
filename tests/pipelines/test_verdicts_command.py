"""`triptych verdicts`: what experts said through files, as a person at a terminal does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.lineage.opening import maintaining
from engine.workspace import Workspace
from pipelines.cli import app
from pipelines.commands.withdraw import withdraw, withdraw_reader
from reward_model.exchange.opinions import key_of
from reward_model.journal import FOLDER, Journal
from tests.read_workspace import read_workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return read_workspace(tmp_path_factory.mktemp("read") / "w").root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "w")
    return tmp_path / "w"


def verdicts(*words: object) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, ["verdicts", *map(str, words)])


def keys(root: Path) -> list[str]:
    return sorted(map(key_of, Journal(root).answers()))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_an_export_and_its_import_are_the_identity(root: Path, tmp_path: Path, name: str) -> None:
    before = keys(root)
    written = verdicts("export", tmp_path / name, "-w", root)
    assert "5 verdicts and 1 preferences of 4 readers" in written.output
    again = verdicts("import", tmp_path / name, "-w", root)
    assert "0 taken, 6 known already, 0 refused" in again.output
    assert keys(root) == before
    shutil.rmtree(root / FOLDER)  # R3's answer was in the journal alone
    found = verdicts("import", tmp_path / name, "-w", root)
    assert "1 taken, 5 known already, 0 refused" in found.output
    assert found.exit_code == 0
    assert [a.reader for a in Journal(root).answers()] == ["R3"]
    assert set(keys(root)) < set(before)


def test_good_rows_are_taken_beside_bad_ones_and_the_exit_code_says_so(
    root: Path, tmp_path: Path
) -> None:
    item = Journal(root).answers()[0].item_id
    lines = [f"{item},R5,accept", f"{item},R6,acept", f"{item},Anna Smith,accept"]
    (tmp_path / "a.csv").write_text("\n".join(["item_id,reader,verdict,ward", *lines]))
    found = verdicts("import", tmp_path / "a.csv", "-w", root)
    assert found.exit_code == 1
    assert "1 taken, 0 known already, 2 refused" in found.output
    assert "line 3, column verdict: 'acept' is none of accept, reject, cannot tell" in found.output
    assert "line 4, column reader: 'Anna Smith' is no pseudonym" in found.output
    assert "columns that are not read: 'ward'" in found.output
    assert Journal(root).answers()[-1].reader == "R5"
    mended = ["item_id,reader,verdict", lines[0], f"{item},R6,accept", lines[2]]
    (tmp_path / "a.csv").write_text("\n".join(mended))
    found = verdicts("import", tmp_path / "a.csv", "-w", root, "--reader", "Anna Smith=R7")
    assert "2 taken, 1 known already, 0 refused" in found.output
    assert found.exit_code == 0


def test_a_beginning_of_an_id_or_words_will_do(root: Path, tmp_path: Path) -> None:
    answer = Journal(root).answers()[0]
    ledger = Workspace.existing(root).ledger()
    row = ledger.find("triplets", "id", [answer.triplet_id])[0]
    rows = [
        {"item_id": answer.item_id[:10]},
        {"triplet_id": row["id"][:10]},
        {"image_id": row["image_id"][:10], "question": row["question"], "answer": row["answer"]},
    ]
    said = {"verdict": "accept", "at": "2026-11-27T08:00:00Z"}
    lines = [json.dumps(row | said | {"reader": f"N{n}"}) for n, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = verdicts("import", tmp_path / "a.jsonl", "-w", root)
    assert "3 taken, 0 known already, 0 refused" in found.output
    added = [a for a in Journal(root).answers() if a.reader.startswith("N")]
    assert [a.triplet_id for a in added] == [row["id"]] * 3
    assert [bool(a.item_id) for a in added] == [True, False, False]
    assert "2 name no item: they count as given" in found.output


def test_what_was_withdrawn_comes_back_by_no_file(root: Path, tmp_path: Path) -> None:
    verdicts("export", tmp_path / "a.csv", "-w", root)
    with maintaining(root) as workspace:
        withdraw(workspace, "p0")
        withdraw_reader(workspace, "R2")
    found = verdicts("import", tmp_path / "a.csv", "-w", root)
    assert found.exit_code == 1
    assert "0 taken, 3 known already, 3 refused" in found.output
    assert found.output.count("was withdrawn: nothing is taken about it") == 1
    assert found.output.count("R2 was withdrawn on") == 2


def test_a_workspace_whose_expert_does_not_listen_says_so(root: Path, tmp_path: Path) -> None:
    described = json.loads((root / "workspace.json").read_text())
    described["latest"] = described["config"] | {"expert": {"kind": "simulated"}}
    (root / "workspace.json").write_text(json.dumps(described))
    row = {"item_id": Journal(root).answers()[0].item_id, "reader": "R4", "verdict": "accept"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    found = verdicts("import", tmp_path / "a.jsonl", "-w", root)
    assert "does not look into the journal" in found.output


def test_what_cannot_be_written_is_said_in_one_line(root: Path, tmp_path: Path) -> None:
    def problem(*words: object) -> str:
        return str(verdicts("export", *words, "-w", root).exception)

    (tmp_path / "a.csv").write_text("mine")
    assert "is there already" in problem(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "mine"
    assert "there is no folder" in problem(tmp_path / "b" / "a.csv")
    assert "which format? Give --format" in problem(tmp_path / "a.json")
    assert "no workspace at" in str(
        verdicts("export", tmp_path / "b.csv", "-w", tmp_path / "x").exception
    )


def test_what_is_still_asked_goes_to_label_studio_and_comes_back(
    root: Path, tmp_path: Path
) -> None:
    nothing = verdicts("export", tmp_path / "t.json", "-w", root, "--format", "label-studio")
    assert "each item has its answers" in str(nothing.exception)
    shutil.rmtree(root / FOLDER)
    with maintaining(root) as workspace:
        for reader in ("R1", "R2", "R4"):
            withdraw_reader(workspace, reader)
    written = verdicts("export", tmp_path / "t.json", "-w", root, "--format", "label-studio")
    assert written.exit_code == 0, written.exception
    names = {p.name for p in tmp_path.glob("t*")}
    assert names == {"t.json", "t.xml", "t-preferences.json", "t-preferences.xml"}
    tasks = json.loads((tmp_path / "t.json").read_text())
    assert len(tasks) == 4
    for number, task in enumerate(tasks):
        result = {"from_name": "verdict", "type": "choices", "value": {"choices": ["accept"]}}
        task |= {"id": number, "annotations": [
            {"id": number, "completed_by": 3, "lead_time": 2.5, "was_cancelled": False,
             "created_at": "2026-11-27T10:00:00.1234Z", "result": [result]}
        ]}  # fmt: skip
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    found = verdicts("import", tmp_path / "back.json", "-w", root, "--reader", "label-studio-3=R8")
    assert "4 taken, 0 known already, 0 refused" in found.output
    assert {a.reader for a in Journal(root).answers()} == {"R8"}
    assert all(a.item_id for a in Journal(root).answers())


def test_trl_has_what_was_better_and_datasets_reads_it(root: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    answers = Journal(root).answers()
    pair = next(a for a in answers if a.preferences)
    row = {
        "item_id": pair.item_id, "reader": "R5", "factuality": "second", "reasoning": "tie",
        "relevance": "cannot tell",
    }  # fmt: skip
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    verdicts("import", tmp_path / "a.jsonl", "-w", root)
    written = verdicts("export", tmp_path / "p.parquet", "-w", root, "--format", "trl")
    assert "2 preferences in" in written.output
    assert "2 without a better one are left out" in written.output
    rows = load_dataset(
        "parquet", data_files=str(tmp_path / "p.parquet"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    assert {row["expert"]: row["chosen_id"] for row in rows} == {
        "R2": pair.triplet_id,
        "R5": pair.other_id,
    }
    one = rows[0]
    assert one["images"][0].size == (16, 16)
    assert one["prompt"][0]["role"] == "user"
    assert one["prompt"][0]["content"].startswith("Is there a lesion?")
    assert {one[side][0]["content"] for side in ("chosen", "rejected")} == {
        "<answer>yes</answer>",
        "<answer>no</answer>",
    }


def test_agreement_is_told_as_tables_and_as_values(root: Path, tmp_path: Path) -> None:
    table = verdicts("agreement", "-w", root)
    assert "all, Krippendorff's alpha" in table.output
    assert "R2 and R3" in table.output
    found = json.loads(verdicts("agreement", "-w", root, "--json").output)
    assert [one["of"] for one in found] == ["verdict"]
    assert found[0]["pairs"][0]["kappa"]["units"] == 1
    shutil.rmtree(root / FOLDER)
    assert "no two readers answered the same" in verdicts("agreement", "-w", root).output
