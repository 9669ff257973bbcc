"""What Ray gives back, and when."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import cluster
from engine.config import Cluster
from engine.errors import TriptychError


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A Ray of this process, with its environment put back afterwards."""
    before = dict(os.environ)
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


def test_a_shard_that_kills_its_worker_is_given_up_and_the_others_are_done(
    local_ray: None, tmp_path: Path
) -> None:
    """As the kernel does where memory runs out: the process is gone, and nothing is raised."""

    def make() -> cluster.Worker:
        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            if shard == "b":
                with (tmp_path / "killed").open("a") as log:
                    log.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return rows

        return work

    shards = {name: [{"row": name}] for name in "abcd"}
    done: dict[str, cluster.Rows] = {}
    with pytest.raises(TriptychError, match=r"shard b: the worker died 3 times on it .* again"):
        done.update(cluster.map_shards(make, {}, shards))
    assert done == {name: shards[name] for name in "acd"}
    assert (tmp_path / "killed").read_text() == "x" * cluster.DEATHS


def test_a_worker_that_dies_while_it_loads_is_given_up(local_ray: None) -> None:
    def make() -> cluster.Worker:
        os._exit(1)

    with pytest.raises(TriptychError, match="it died 3 times while it loaded its model"):
        list(cluster.map_shards(make, {}, {"a": [{"row": 1}], "b": [{"row": 2}]}))


def test_a_worker_that_cannot_load_its_model_says_why(local_ray: None) -> None:
    def make() -> cluster.Worker:
        raise TriptychError("cannot load model nowhere: no such folder")

    with pytest.raises(TriptychError, match="worker failed: cannot load model nowhere"):
        list(cluster.map_shards(make, {}, {"a": [{"row": 1}]}))


def test_a_training_whose_worker_dies_ends_in_one_line(local_ray: None, tmp_path: Path) -> None:
    def loop(arguments: dict[str, object]) -> dict[str, object]:
        with (tmp_path / "tried").open("a") as log:
            log.write("x")
        os._exit(1)

    with pytest.raises(TriptychError, match=r"training failed: .*worker") as raised:
        cluster.train(loop, {"out": str(tmp_path / "weights")})
    assert "\n" not in str(raised.value)
    assert (tmp_path / "tried").read_text() == "x"
