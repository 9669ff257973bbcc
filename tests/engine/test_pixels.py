"""Pictures by their ids, asked by several threads at once."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine import pixels
from engine.lineage.opening import writing
from engine.pixels import Pixels
from tests.lineage_workspace import CONFIG, commit, make_image
from tests.pictures import PNG


def test_threads_that_read_at_once_get_the_pictures_that_they_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From more shards and row groups than are kept at hand, so that one takes another's place."""
    monkeypatch.setattr(pixels, "HELD", 1)
    monkeypatch.setattr(pixels, "OPEN", 2)
    opened = Pixels._file

    def slowly(self: Pixels, shard: int) -> pq.ParquetFile:
        file = opened(self, shard)
        time.sleep(0.001)  # in which another thread may close it
        return file

    monkeypatch.setattr(Pixels, "_file", slowly)
    images = [make_image(n, f"g{n}") for n in range(24)]
    with writing(tmp_path / "w", CONFIG["name"], CONFIG) as workspace:
        for low in range(0, 24, 4):
            commit(workspace, "ingest", 0, images[low : low + 4])
    found = Pixels(tmp_path / "w")

    def read(seed: int) -> bool:
        order = random.Random(seed).choices([image.id for image in images], k=30)
        return all(found[image_id] == PNG[image_id] for image_id in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
