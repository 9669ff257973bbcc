"""What Ray gives back, and when."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import cluster
from engine.config import Cluster
from engine.errors import TriptychError
from engine.private import take_key
from tests.commands import KEY


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A Ray of this process, with its environment put back afterwards."""
    before = dict(os.environ)
    os.environ["TRIPTYCH_KEY"] = KEY
    take_key()
    cluster.start(Cluster(cpus=1))
    yield
    cluster.stop()
    os.environ.clear()
    os.environ.update(before)


def test_a_finished_shard_does_not_wait_for_the_next(local_ray: None, tmp_path: Path) -> None:
    """A run killed between two shards has the first: a shard ends once the one before is here."""

    def make() -> cluster.Worker:
        finished: list[str] = []

        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            deadline = time.monotonic() + 20
            while finished and not (tmp_path / finished[-1]).exists():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{finished[-1]} was not handed over")
                time.sleep(0.05)
            finished.append(shard)
            return rows

        return work

    shards = {name: [{"row": name}] for name in "abc"}
    for name, rows in cluster.map_shards(make, {}, shards):
        assert rows == shards[name]
        (tmp_path / name).touch()
    assert {path.name for path in tmp_path.iterdir()} == set(shards)


def test_workers_and_their_files_are_the_owners_alone(local_ray: None) -> None:
    """Ray opens its own temporary folder to everyone, so it lies in one that is closed."""

    def make() -> cluster.Worker:
        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            umask = os.umask(0o077)
            return [{"umask": umask, "temporary": tempfile.gettempdir(), "env": dict(os.environ)}]

        return work

    ((_, (found,)),) = cluster.map_shards(make, {}, {"a": [{"row": 1}]})
    folder = Path(os.environ["TMPDIR"])
    assert (found["umask"], found["temporary"]) == (0o077, str(folder))
    assert KEY not in found["env"].values()
    assert (folder / "ray" / "session_latest").exists()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    cluster.stop()
    assert not folder.exists()


def test_more_than_this_machine_has_is_refused_at_once(local_ray: None) -> None:
    with pytest.raises(TriptychError, match="4 GPUs are asked for and Ray has"):
        list(cluster.map_shards(lambda: None, {}, {"a": [{"row": 1}]}, gpus=4))
    with pytest.raises(TriptychError, match="3 CPUs are asked for and Ray has 1"):
        cluster.train(lambda arguments: {}, {"out": "nowhere"}, workers=3)


def test_a_worker_that_fails_says_why(local_ray: None) -> None:
    def make() -> cluster.Worker:
        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            raise ValueError("the lamp is out")

        return work

    with pytest.raises(TriptychError, match="a worker failed: ValueError: the lamp is out"):
        list(cluster.map_shards(make, {}, {"a": [{"row": 1}]}))
