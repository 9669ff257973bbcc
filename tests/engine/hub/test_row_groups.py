"""An export's row groups are cut by bytes, and its pictures are never all in memory."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.hub import row_groups as cut
from engine.hub.export import export
from engine.hub.row_groups import row_groups
from engine.lineage.opening import maintaining, writing
from engine.records import Image, Picture, Task, Triplet
from engine.workspace import Workspace
from tests.pictures import PNG
from tests.round_workspace import commit, make_image, make_triplet

MB = 1_000_000


def pictured(sizes: list[int]) -> tuple[list[dict[str, object]], dict[str, bytes]]:
    pictures = {f"i{number}": bytes([number]) * size for number, size in enumerate(sizes)}
    return [{"id": n, "image_id": f"i{n}"} for n in range(len(sizes))], pictures


def test_groups_keep_to_bytes_and_to_rows() -> None:
    sizes = [400, 400, 400, 2000, 10, 10, *[1] * 250]
    rows, pictures = pictured(sizes)
    groups = list(row_groups(rows, pictures, 1000))
    assert [row["id"] for group in groups for row in group] == list(range(len(sizes)))
    held = [sum(sizes[row["id"]] for row in group) for group in groups]
    assert held[:3] == [800, 400, 2000]  # the third row did not fit, the fourth fits nowhere
    assert all(size <= 1000 for size in held[:2] + held[3:])
    assert max(map(len, groups)) <= cut.ROWS
    assert groups[2][0]["image"] == {"bytes": bytes([3]) * 2000, "path": "i3.png"}
    assert len(list(row_groups(rows, pictures))) == 3  # by rows alone


def test_one_picture_in_many_rows_counts_in_each() -> None:
    _, pictures = pictured([400])
    rows = [{"id": n, "image_id": "i0"} for n in range(4)]
    assert [len(group) for group in row_groups(rows, pictures, 1000)] == [2, 2]


@pytest.fixture
def large(tmp_path: Path) -> Workspace:
    """Forty images of a megabyte, in ten shards, with an expert's row about each."""
    task = Task.make("CT", "disease", "easy", "choice", "step")
    with writing(tmp_path / "w", "large", {}) as workspace:
        stage = workspace.begin("ingest", 0, "ingest")
        images = [make_image(n, f"g{n}", "train") for n in range(40)]
        for shard in range(10):
            part = images[shard * 4 : shard * 4 + 4]
            pictures = [
                Picture(id=i.id, png=PNG[i.id] + random.Random(i.id).randbytes(MB)) for i in part
            ]
            stage.write(Image, part, f"{shard:03d}")
            stage.write(Picture, pictures, f"{shard:03d}")
        workspace.commit(stage)
        rows = [make_triplet(image, "expert", task, 0, 0) for image in images]
        commit(workspace, "seed", 0, {}, rows, [task])
    assert len(workspace.read(Triplet)) == 40
    return workspace


def test_a_large_export_is_cut_by_bytes_and_streams(
    large: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "BYTES", 5 * MB)
    with maintaining(large.root) as workspace:
        tracemalloc.start()
        try:
            export(workspace, tmp_path / "out", "large")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    (file,) = (tmp_path / "out" / "data").iterdir()
    metadata = pq.ParquetFile(file).metadata
    sizes = [metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)]
    assert len(sizes) == 10
    assert all(3 * MB < size <= 5 * MB for size in sizes)
    assert peak < 20 * MB  # of 40 MB of pictures
    assert pq.read_table(file).num_rows == 40
