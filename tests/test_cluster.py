"""What Ray gives back, and when."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from engine import cluster
from engine.config import Cluster


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A Ray of this process, with its environment put back afterwards."""
    before = dict(os.environ)
    cluster.start(Cluster(cpus=1))
    yield
    cluster.stop()
    os.environ.clear()
    os.environ.update(before)


def test_a_finished_shard_does_not_wait_for_the_next(local_ray: None) -> None:
    """A run killed between two shards has the first."""

    def make() -> cluster.Worker:
        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            time.sleep(2)
            return [*rows, {"done": time.time()}]

        return work

    shards = {name: [{"row": name}] for name in "abc"}
    for name, rows in cluster.map_shards(make, {}, shards):
        assert rows[0] == {"row": name}
        assert time.time() - rows[1]["done"] < 1.5
