"""The dataset folder and its card."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from engine.errors import TriptychError
from engine.hub import publish as publishing
from engine.hub.card import SYNTHETIC_NOTE, card
from engine.hub.export import export
from engine.lineage.files import hashes_of
from engine.lineage.opening import maintaining, writing
from engine.records import (
    Dataset,
    Decision,
    Membership,
    Task,
    Triplet,
    content_id,
)
from engine.workspace import Workspace
from pipelines.commands.withdraw import withdraw
from tests.lineage_workspace import made
from tests.round_workspace import commit, decide, ingest, make_image, make_images, make_triplet


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_load_dataset_opens_the_folder_without_our_code(
    full: Workspace, exported: Path, tmp_path: Path
) -> None:
    """Also where one of the same name was loaded before: the cache of `datasets` knows no paths."""
    shutil.copytree(full.root, tmp_path / "w")
    gone = pq.read_table(exported / "data" / "train-00000-of-00001.parquet")["image_id"][0].as_py()
    with maintaining(tmp_path / "w") as workspace:
        withdraw(workspace, gone, "consent withdrawn", "the office")
        export(workspace, tmp_path / exported.name, "demo")
    program = (
        "import sys, json; from datasets import load_dataset;"
        "before = load_dataset(sys.argv[2]); d = load_dataset(sys.argv[1]);"
        "assert len(before['train']) < len(d['train']);"
        "r = d['train'][0]; print(json.dumps([{k: len(v) for k, v in d.items()},"
        "r['image'].size, r['options'], 'engine' in sys.modules]))"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "USE_TORCH": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported), str(tmp_path / exported.name)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    counts, size, options, ours = json.loads(done.stdout.splitlines()[-1])
    assert set(counts) == {"train", "validation", "test"}
    assert size == [64, 64]
    assert isinstance(options, list)
    assert not ours


def test_every_kept_row_and_every_seed_is_exported_once(full: Workspace, exported: Path) -> None:
    kept = {d.triplet_id for d in full.read(Decision) if d.keep}
    seeds = {t.id for t in full.read(Triplet) if t.generator_id == "expert"}
    tables = [pq.read_table(p) for p in sorted((exported / "data").glob("*.parquet"))]
    ids = [i for table in tables for i in table.column("id").to_pylist()]
    assert sorted(ids) == sorted(kept | seeds)
    for table in tables:
        order = [(row["image_id"], row["id"]) for row in table.to_pylist()]
        assert order == sorted(order)  # so that a picture is written once for its rows
    rejects = pq.read_table(exported / "rejects.parquet").to_pylist()
    assert {r["id"] for r in rejects} == {d.triplet_id for d in full.read(Decision) if not d.keep}
    assert {r["reason"] for r in rejects} == {"below threshold", "near duplicate"}


def test_equal_workspaces_export_equal_bytes(
    full: Workspace, exported: Path, tmp_path: Path
) -> None:
    export(full, tmp_path / "again", "demo")
    export(full, tmp_path / "again", "demo")  # over an export that is there
    assert files_of(tmp_path / "again") == files_of(exported)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]


def test_the_members_recorded_are_the_rows_that_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the files are written nobody can change the ledger before their members are known."""
    workspace = made(tmp_path / "w")

    def changed(folder: Path) -> dict[str, str]:
        with pytest.raises(duckdb.Error, match="already attached"):
            duckdb.connect(str(workspace.ledger().path))
        return hashes_of(folder)

    monkeypatch.setattr(publishing, "hashes_of", changed)
    with maintaining(workspace.root) as writer:
        publishing.publish(writer)
    tables = [pq.read_table(p) for p in (workspace.root / "dataset/data").glob("*.parquet")]
    written = sorted(i for table in tables for i in table.column("id").to_pylist())
    assert sorted(m.triplet_id for m in workspace.read(Membership)) == written
    assert [dataset.rows for dataset in workspace.read(Dataset)] == [len(written)]


def test_a_folder_that_is_no_export_is_left_alone(full: Workspace, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("precious")
    with pytest.raises(TriptychError, match="no export"):
        export(full, tmp_path / "thesis", "demo")
    assert files_of(tmp_path) == {"thesis/chapter1.txt": b"precious"}


def test_the_latest_decision_counts(tmp_path: Path) -> None:
    with writing(tmp_path / "w", "late", {}) as workspace:
        images = make_images()[:10]
        ingest(workspace, images)
        task = Task.make("CT", "disease", "easy", "choice", "step")
        rows = [make_triplet(image, "g", task, 0, 1) for image in images]
        commit(workspace, "generate", 1, {}, rows)
        commit(workspace, "select", 1, {}, [decide(t, True, 1.0, 1) for t in rows])
        commit(workspace, "select", 2, {}, [decide(rows[0], False, -1.0, 2)])
        counts = export(workspace, tmp_path / "out", "late")
    assert sum(counts.values()) - counts["rejects"] == 9
    assert counts["rejects"] == 1


@pytest.mark.parametrize("what", ["group", "image"])
def test_a_group_or_image_in_two_splits_is_refused(tmp_path: Path, what: str) -> None:
    second = (1, "g0") if what == "group" else (0, "g1")
    images = [make_image(0, "g0", "train"), make_image(*second, "test")]
    with writing(tmp_path / "w", "leak", {}) as workspace:
        ingest(workspace, images)
        with pytest.raises(TriptychError, match=f"{what}.*more than one split"):
            export(workspace, tmp_path / "out", "leak")
    assert not (tmp_path / "out").exists()


def test_file_names_of_real_images_stay_at_home(tmp_path: Path) -> None:
    image = make_image(0, "g0", "train", synthetic=False)
    task = Task.make("CT", "disease", "easy", "choice", "step")
    with writing(tmp_path / "w", "real", {}) as workspace:
        ingest(workspace, [image])
        commit(workspace, "expert", 0, {}, [make_triplet(image, "expert", task, 0, 0)])
        export(workspace, tmp_path / "out", "real")
    row = pq.read_table(tmp_path / "out" / "data").to_pylist()[0]
    assert row["source"] is None
    assert (row["origin"], row["reward"]) == ("expert", None)
    assert SYNTHETIC_NOTE not in (tmp_path / "out" / "README.md").read_text()


def test_the_card_says_how_far_readers_agree_in_the_end(tmp_path: Path) -> None:
    said = {"of": "verdict", "readers": 2, "asked": 40, "patients": 30, "equal": 0.9}
    image = make_image(0, "g0", "train")
    task = Task.make("CT", "disease", "easy", "choice", "step")
    with writing(tmp_path / "w", "real", {}) as workspace:
        ingest(workspace, [image])
        commit(workspace, "expert", 0, {}, [make_triplet(image, "expert", task, 0, 0)])
        for round, alpha in ((0, 0.2), (1, 0.713), (2, None)):
            told = said | {"alpha": alpha, "low": 0.6, "high": 0.8}
            commit(workspace, "collect", round, {"agreement": [told]} if alpha else {}, [])
        export(workspace, tmp_path / "out", "real")
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.count("Krippendorff") == 1
    assert (
        "- Readers, verdict: Krippendorff's alpha 0.71 [0.60, 0.80]; 90% of pairs of answers are "
        "equal, of 2 readers on 40 questions about 30 patients, up to round 1."
    ) in text


def test_the_card_counts_what_was_exported(full: Workspace, exported: Path) -> None:
    text = (exported / "README.md").read_text()
    rows = pq.read_metadata(exported / "data" / "test-00000-of-00001.parquet").num_rows
    assert text == card(full, "demo")
    assert f"| test | {rows} |" in text
    assert "below threshold" in text
    assert content_id("judge") in text
    assert "triptych-strict" in text
    assert SYNTHETIC_NOTE in text
    assert "license: cc-by-4.0" in text
