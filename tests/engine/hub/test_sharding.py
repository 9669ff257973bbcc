"""A split is cut into files and row groups by bytes, and its pictures are never all in memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.hub import sharding as cut
from engine.hub.export import export, schema
from engine.hub.publish import publish
from engine.hub.sharding import Group, by_image, row_groups, sizes, write_split
from engine.lineage.files import hashes_of
from engine.lineage.opening import maintaining, writing
from engine.lineage.verify import verify
from engine.records import (
    Dataset,
    Image,
    Membership,
    Picture,
    Prompt,
    Task,
    Triplet,
    content_id,
)
from engine.workspace import Workspace
from pipelines.commands.reproduce import reproduce
from pipelines.commands.withdraw import withdraw
from tests.pictures import PNG, picture
from tests.round_workspace import commit, make_image, make_triplet

pytestmark = pytest.mark.loop

ROOT = Path(__file__).parents[3]
MB = 1_000_000
TASK = Task.make("CT", "disease", "easy", "choice", "step")
PROMPT = Prompt(id=content_id("prompt"), words="compact", text="")


def batch(rows: list[tuple[str, str]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"id": i, "image_id": image} for i, image in rows])


def rows_of(sizes: list[int], each: int = 1) -> tuple[list[pa.RecordBatch], dict[str, bytes]]:
    """Images of so many bytes, with rows of a few bytes each, in batches of seven."""
    pictures = {f"i{n:04d}": bytes([n % 256]) * size for n, size in enumerate(sizes)}
    rows = [(f"{image}-{n}", image) for image in pictures for n in range(each)]
    return [batch(rows[low : low + 7]) for low in range(0, len(rows), 7)], pictures


def ids(group: Group) -> list[str]:
    return [i for part in group.rows for i in part["id"].to_pylist()]


def test_groups_keep_to_bytes_as_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "BYTES", 1000)
    batches, pictures = rows_of([400, 400, 400, 2000, 10, 10, *[1] * 20])
    groups = list(row_groups(batches, pictures, MB))
    assert [group.images[0] for group in groups] == ["i0000", "i0002", "i0003", "i0004"]
    assert [i for group in groups for i in ids(group)] == [f"{image}-0" for image in pictures]
    assert all(group.read <= 1000 for group in groups if len(group.counts) > 1)


def test_all_rows_of_an_image_are_in_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "BYTES", 3000)
    batches, pictures = rows_of([100, 100, 100, 900, 5], each=10)
    groups = list(row_groups(batches, pictures, MB))
    held = [image for group in groups for image in group.images]
    assert held == list(pictures)
    assert [len(ids(group)) for group in groups] == [20, 10, 10, 10]


def test_a_picture_in_more_rows_than_arrow_reads_at_once_is_there_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cut, "LARGEST", 4500)
    monkeypatch.setattr(cut, "BYTES", 1000)
    batches, pictures = rows_of([1000], each=10)
    assert [len(ids(group)) for group in row_groups(batches, pictures, MB)] == [4, 4, 2]


def test_batches_are_cut_between_images() -> None:
    pattern = "aaabbbbbcccd"
    rows = [(f"{n}", letter) for n, letter in enumerate(pattern)]
    for width in range(1, 14):
        parts = [batch(rows[low : low + width]) for low in range(0, len(rows), width)]
        blocks = list(by_image(parts))
        assert [i for block in blocks for i in block["id"].to_pylist()] == [i for i, _ in rows]
        images = [set(block["image_id"].to_pylist()) for block in blocks]
        assert sum(map(len, images)) == len(set(pattern))


def test_a_row_is_as_large_as_its_text() -> None:
    rows = [
        {"a": "four", "b": ["one", "three"], "c": 1},
        {"a": None, "b": [], "c": None},
        {"a": "é", "b": [""], "c": 3},
    ]
    found = sizes(pa.RecordBatch.from_pylist(rows).slice(0, 3))
    assert found.tolist() == [8 + 4 + 7 + 9 + 8, 4 + 4 + 8, 6 + 4 + 4 + 8]
    assert sizes(pa.RecordBatch.from_pylist(rows).slice(2)).tolist() == [22]


def test_how_rows_come_does_not_matter(tmp_path: Path, full: Workspace) -> None:
    """The same files from batches of any width."""
    export(full, tmp_path / "out", "demo")
    kept = pq.read_table(tmp_path / "out/data").sort_by([("image_id", "ascending")])
    pictures = {row["image_id"]: row["image"]["bytes"] for row in kept.to_pylist()}
    rows = kept.drop(["image"]).combine_chunks().to_batches()[0]
    found = []
    for width in (1, 3, 1000):
        folder = tmp_path / str(width)
        folder.mkdir()
        parts = [rows.slice(low, width) for low in range(0, len(rows), width)]
        count = write_split(parts, pictures, schema(), folder, "train", 60_000)
        found.append((count, hashes_of(folder)))
    assert found[0] == found[1] == found[2]
    assert len(found[0][1]) > 2
    assert found[0][0] == len(kept)


@pytest.fixture
def large(tmp_path: Path) -> Workspace:
    """Forty images of a megabyte, in ten shards, with three expert's rows about each."""
    config = {"name": "large", "export": {"shard_mb": 12}}
    with writing(tmp_path / "w", "large", config) as workspace:
        stage = workspace.begin("ingest", 0, "ingest")
        images = [make_image(n, f"g{n}", ("train", "val")[n // 36]) for n in range(40)]
        for shard in range(10):
            part = images[shard * 4 : shard * 4 + 4]
            pictures = [
                replace(picture(i.id), png=PNG[i.id] + random.Random(i.id).randbytes(MB))
                for i in part
            ]
            stage.write(Image, part, f"{shard:03d}")
            stage.write(Picture, pictures, f"{shard:03d}")
        workspace.commit(stage)
        rows = [make_triplet(image, "expert", TASK, n, 0) for image in images for n in range(3)]
        commit(workspace, "seed", 0, {}, rows, [TASK], [PROMPT])
    assert len(workspace.read(Triplet)) == 120
    return workspace


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "data").iterdir())


def check_files(files: list[Path], limit: int) -> None:
    """Named one after another, not above the limit, ordered by image, each picture in one place."""
    for split in {path.name.split("-")[0] for path in files}:
        own = [path for path in files if path.name.startswith(split)]
        total = len(own)
        wanted = [f"{split}-{n:05d}-of-{total:05d}.parquet" for n in range(total)]
        assert [path.name for path in own] == wanted
        tables = [pq.read_table(path, columns=["image_id", "id"]) for path in own]
        order = [(row["image_id"], row["id"]) for table in tables for row in table.to_pylist()]
        assert order == sorted(order)
    places: dict[str, tuple[str, int]] = {}
    for path in files:
        assert path.stat().st_size <= limit
        file = pq.ParquetFile(path)
        stored = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["image_id", "image"]).to_pylist()
            pictures = {row["image_id"]: row["image"]["bytes"] for row in table}
            for image_id in pictures:
                assert places.setdefault(image_id, (path.name, group)) == (path.name, group)
            column = file.metadata.row_group(group).column(1)
            assert column.path_in_schema == "image.bytes"
            stored = column.total_uncompressed_size
            assert stored < sum(map(len, pictures.values())) * 1.01 + 1000


def test_a_large_export_is_cut_by_bytes_and_streams(
    large: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "BYTES", 12 * MB)
    with maintaining(large.root) as workspace:
        tracemalloc.start()
        try:
            counts = export(workspace, tmp_path / "out", "large")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert counts == {"train": 108, "validation": 12, "rejects": 0}
    files = parts(tmp_path / "out")
    assert len(files) == 5  # eleven pictures a file
    check_files(files, 12 * MB)
    found = [pq.ParquetFile(path).metadata for path in files]
    rows = [file.row_group(n).num_rows for file in found for n in range(file.num_row_groups)]
    assert set(rows) <= {3, 6, 9}  # up to three images of three rows
    assert peak < 20 * MB  # of 40 MB of pictures


def test_datasets_reads_every_file_together_and_alone(large: Workspace, tmp_path: Path) -> None:
    export(large, tmp_path / "out", "large")
    program = """
import json, sys
from datasets import load_dataset
folder, files = sys.argv[1], sys.argv[2:]
d = load_dataset(folder)
alone = [load_dataset("parquet", data_files=[f], split="train") for f in files]
print(json.dumps([
    {k: len(v) for k, v in d.items()}, [len(a) for a in alone],
    [a[0]["image"].size for a in alone], str(d["train"].features["image"]),
    d["train"]["id"] == [i for f, a in zip(files, alone) if "train" in f for i in a["id"]],
]))
"""
    files = [str(path) for path in parts(tmp_path / "out")]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "USE_TORCH": "0", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out"), *files],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    counts, alone, shown, features, same = json.loads(done.stdout.splitlines()[-1])
    assert counts == {"train": 108, "validation": 12}
    assert len(alone) == 5
    assert sum(alone) == 120
    assert shown == [[64, 64]] * 5
    assert features.startswith("Image(")
    assert same


def test_a_withdrawal_reaches_every_file(large: Workspace) -> None:
    with maintaining(large.root) as workspace:
        publish(workspace)
    files = parts(large.root / "dataset")
    held = {path.name: pq.read_table(path)["image_id"].to_pylist() for path in files}
    gone = [found[len(found) // 2] for found in held.values()]  # one image of each file
    for image_id in gone:
        with maintaining(large.root) as workspace:
            withdraw(workspace, image_id, "consent withdrawn", "the office")
    check_files(parts(large.root / "dataset"), 12 * MB)
    tables = [pq.read_table(path) for path in parts(large.root / "dataset")]
    left = [i for table in tables for i in table["image_id"].to_pylist()]
    assert len(left) == 120 - 3 * len(gone)
    assert not set(left) & set(gone)
    for path in (large.root / "dataset").rglob("*"):
        if path.is_file():
            assert not any(image_id.encode() in path.read_bytes() for image_id in gone)
    assert not verify(Workspace(large.root)).problems


def test_the_same_record_gives_the_same_files_again(large: Workspace, tmp_path: Path) -> None:
    with maintaining(large.root) as workspace:
        publish(workspace)
        before = hashes_of(large.root / "dataset")
        publish(workspace)
        assert hashes_of(large.root / "dataset") == before
        (dataset,) = workspace.read(Dataset)
        assert (dataset.rows, dataset.shard_mb) == (120, 12)
        assert json.loads(dataset.files) == before
        workspace.remember({"name": "large", "export": {"shard_mb": 100}})
        publish(workspace)  # cut otherwise, and recorded as another
        assert len(parts(large.root / "dataset")) == 2
        told = [reproduce(workspace, d.id) for d in workspace.read(Dataset)]
    assert [found["equal"] for found in told] == [True, True]


def test_members_are_named_as_all_rows_are(large: Workspace) -> None:
    with maintaining(large.root) as workspace:
        publish(workspace)
        (dataset,) = workspace.read(Dataset)
        members = workspace.read(Membership)
    assert len(members) == 120
    for member in members:
        assert member.id == content_id("member", dataset.id, member.triplet_id)
    assert {member.split for member in members} == {"train", "validation"}


def test_a_killed_export_leaves_the_one_before(large: Workspace) -> None:
    """Killed after its second file: what others open is the export before, and nothing else."""
    with maintaining(large.root) as workspace:
        publish(workspace)
    before = hashes_of(large.root / "dataset")
    program = f"""
import os, signal
from pathlib import Path
from engine.hub import sharding
from engine.hub.publish import publish
from engine.lineage.opening import maintaining
close = sharding.Shard.close
def killed(shard):
    close(shard)
    if shard.path.name == ".train-00001":
        os.kill(os.getpid(), signal.SIGKILL)
sharding.Shard.close = killed
with maintaining(Path({str(large.root)!r})) as workspace:
    publish(workspace)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ)
    assert done.returncode == -9
    assert hashes_of(large.root / "dataset") == before
    left = large.root / ".dataset.partial/data"
    assert len(list(left.iterdir())) == 2
    assert not list(left.glob("*.parquet"))  # neither is named as a file of a dataset
    with maintaining(large.root) as workspace:
        publish(workspace)
    assert hashes_of(large.root / "dataset") == before
    assert not list(large.root.glob(".dataset*"))


def test_an_export_that_was_killed_between_two_folders_leaves_none(large: Workspace) -> None:
    with maintaining(large.root) as workspace:
        publish(workspace)
        before = hashes_of(large.root / "dataset")
        (large.root / "dataset").rename(large.root / ".dataset.old")
        publish(workspace)
    assert hashes_of(large.root / "dataset") == before
    assert not list(large.root.glob(".dataset*"))


def test_a_limit_below_a_picture_is_a_file_an_image(large: Workspace, tmp_path: Path) -> None:
    export(large, tmp_path / "out", "large", shard_mb=0.001)
    files = parts(tmp_path / "out")
    assert len(files) == 40
    check_files(files, 2 * MB)
