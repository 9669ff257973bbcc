"""What Ray gives back, and when."""

from __future__ import annotations

import logging
import os
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from engine import cluster
from engine.config import build
from engine.config.cluster import Cluster
from engine.config.training import Sft
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.private import take_key
from engine.records import Task, Triplet
from engine.resume import Made, Worker
from engine.training_job import TrainingJob, TrainingResult
from engine.vlm.memory import Parts
from generators.proposer import Proposing
from pipelines import proposals
from pipelines.context import Context
from tests.commands import KEY
from tests.reward_model.test_select import row
from tests.round_workspace import make_image
from tests.training_jobs import job_in

pytestmark = pytest.mark.loop


@pytest.fixture(scope="module")
def own_environment() -> Iterator[None]:
    """A key, with the environment put back and Ray ended afterwards."""
    before = dict(os.environ)
    os.environ["TRIPTYCH_KEY"] = KEY
    take_key()
    yield
    cluster.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def local_ray(own_environment: None) -> None:
    """A Ray of this process: the one of the test before, unless that has stopped it."""
    cluster.start(Cluster(cpus=1))


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
        list(cluster.map_shards(lambda: None, {}, {"a": [{"row": 1}]}, cluster.Places(gpus=4)))
    with pytest.raises(TriptychError, match="3 CPUs are asked for and Ray has 1"):
        cluster.train(lambda job: job, job_in(Path("nowhere"), Sft(workers=3)))


def test_a_worker_that_fails_says_why(local_ray: None) -> None:
    def make() -> cluster.Worker:
        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            raise ValueError("the lamp is out")

        return work

    with pytest.raises(TriptychError, match="a worker failed: ValueError: the lamp is out"):
        list(cluster.map_shards(make, {}, {"a": [{"row": 1}]}))


def test_a_shard_that_kills_its_worker_is_given_up_and_the_others_are_done(
    local_ray: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the kernel does where memory runs out: the process is gone, and nothing is raised."""

    def make() -> cluster.Worker:
        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            logging.getLogger("triptych").warning("shard %s is hard", shard)
            if shard == "b":
                with (tmp_path / "killed").open("a") as log:
                    log.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return rows

        return work

    shards = {name: [{"row": name}] for name in "abcd"}
    done: dict[str, cluster.Rows] = {}
    with pytest.raises(TriptychError, match=r"shard b: the worker died 4 times on it .* again"):
        done.update(cluster.map_shards(make, {}, shards))
    assert done == {name: shards[name] for name in "acd"}
    told = sorted(record.getMessage() for record in caplog.records if record.name == "triptych")
    assert told == [f"shard {name} is hard" for name in "acd"]  # a worker's words reach the driver
    assert (tmp_path / "killed").read_text() == "x" * cluster.DEATHS


def test_a_worker_killed_for_want_of_memory_does_the_shard_in_smaller_parts(
    local_ray: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel kills what takes more than four rows at once; the rows come out all the same."""

    def make() -> cluster.Worker:
        def double(part: Sequence[int]) -> list[int]:
            if len(part) > 4:
                with (tmp_path / "killed").open("a") as log:
                    log.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return [2 * n for n in part]

        parts = Parts("test")
        return lambda shard, rows: [{"n": n} for n in parts.map(double, [r["n"] for r in rows])]

    shards = {name: [{"n": n} for n in range(12)] for name in "ab"}
    done = dict(cluster.map_shards(make, {}, shards))
    assert done == {name: [{"n": 2 * n} for n in range(12)] for name in "ab"}
    killed = (tmp_path / "killed").read_text()
    assert 2 <= len(killed) <= 4  # Ray may hand it the other shard first, which then dies as often
    told = [record.getMessage() for record in caplog.records if record.name == "triptych"]
    assert any("tried again, with fewer rows at once" in line for line in told)


def test_a_worker_killed_at_random_does_its_shard_again_as_it_was(
    local_ray: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once while it loads and once at work: in smaller parts sums would be ordered otherwise."""

    def die_once(where: str) -> None:
        if not (tmp_path / where).exists():
            (tmp_path / where).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def make() -> cluster.Worker:
        die_once("loading")

        def work(part: Sequence[int]) -> list[int]:
            with (tmp_path / "parts").open("a") as log:
                log.write(f"{len(part)} ")
            die_once("at work")
            return list(part)

        parts = Parts("test")
        return lambda shard, rows: [{"n": n} for n in parts.map(work, [r["n"] for r in rows])]

    shards = {name: [{"n": n} for n in range(12)] for name in "ab"}
    assert dict(cluster.map_shards(make, {}, shards)) == shards
    assert (tmp_path / "parts").read_text() == "12 12 12 "
    (told,) = [record.getMessage() for record in caplog.records if record.name == "triptych"]
    assert told.endswith("it is tried again")


def test_after_a_dying_worker_the_next_run_has_that_shard_alone(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage as a run drives it; a worker writes a row a question, or is killed at the third."""
    log = tmp_path / "log"

    def make(deadly: str, job: Proposing) -> Worker:
        def work(shard: str, rows: cluster.Rows) -> Made:
            with log.open("a") as out:
                out.write(f"{shard} ")
            if shard == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            task_id = Task.from_dict(rows[0]["task"]).id
            return {Triplet: [replace(row(), image_id=rows[0]["image_id"], task_id=task_id)]}

        return work

    config = build({"expert": {"kind": "none"}}, ["generator.batch=1", "cluster.threads=1"], "x")
    task = Task.make("MR", "disease", "easy", "open", "direct")
    pairs = [(make_image(n, f"g{n}", "train").id, task) for n in range(4)]
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        stage = workspace.begin("generate", 1, "fingerprint")
        monkeypatch.setattr(proposals, "make_proposer", partial(make, "00002"))
        with pytest.raises(TriptychError, match=r"shard 00002: the worker died 4 times"):
            proposals.run_proposer(context, stage, context.base(), pairs)
        assert stage.done() == {"triplets-00000", "triplets-00001", "triplets-00003"}
        log.write_text("")
        monkeypatch.setattr(proposals, "make_proposer", partial(make, ""))
        proposals.run_proposer(context, stage, context.base(), pairs)
        rows = proposals.read_shards(stage)
    assert [t.image_id for t in rows] == [image_id for image_id, _ in pairs]
    assert log.read_text() == "00002 "


def test_a_worker_works_on_several_shards_at_once(local_ray: None) -> None:
    """Each waits until another is in work: one after the other none would end."""

    def make() -> cluster.Worker:
        meeting = threading.Barrier(2)

        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            meeting.wait(20)
            return rows

        return work

    shards = {name: [{"row": name}] for name in "abcd"}
    assert dict(cluster.map_shards(make, {}, shards, cluster.Places(at_once=2))) == shards


def test_shards_beside_one_that_kills_its_worker_are_not_given_up_with_it(
    local_ray: None, tmp_path: Path
) -> None:
    """All four are in work when it dies; then each is done alone, and one is the cause."""

    def make() -> cluster.Worker:
        def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
            with (tmp_path / shard).open("a") as log:
                log.write("x")
            time.sleep(0.5)
            if shard == "c":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.5)
            return rows

        return work

    shards = {name: [{"row": name}] for name in "abcd"}
    done: dict[str, cluster.Rows] = {}
    with pytest.raises(TriptychError, match=r"shard c: the worker died 4 times on it"):
        done.update(cluster.map_shards(make, {}, shards, cluster.Places(at_once=4)))
    assert done == {name: shards[name] for name in "abd"}
    assert [(tmp_path / name).read_text() for name in "abcd"] == ["xx", "xx", "xxxx", "xx"]


def test_a_worker_that_dies_while_it_loads_is_given_up(local_ray: None) -> None:
    def make() -> cluster.Worker:
        os._exit(1)

    with pytest.raises(TriptychError, match="it died 4 times while it loaded its model"):
        list(cluster.map_shards(make, {}, {"a": [{"row": 1}], "b": [{"row": 2}]}))


def test_a_worker_that_cannot_load_its_model_says_why(local_ray: None) -> None:
    def make() -> cluster.Worker:
        raise TriptychError("cannot load model nowhere: no such folder")

    with pytest.raises(TriptychError, match="worker failed: cannot load model nowhere"):
        list(cluster.map_shards(make, {}, {"a": [{"row": 1}]}))


def test_a_training_whose_worker_dies_ends_in_one_line(local_ray: None, tmp_path: Path) -> None:
    def loop(job: TrainingJob) -> TrainingResult:
        with (tmp_path / "tried").open("a") as log:
            log.write("x")
        os._exit(1)

    with pytest.raises(TriptychError, match=r"training failed: .*worker") as raised:
        cluster.train(loop, job_in(tmp_path, Sft()))
    assert "\n" not in str(raised.value)
    assert (tmp_path / "tried").read_text() == "x"


def test_trainings_of_one_worker_share_a_process(local_ray: None, tmp_path: Path) -> None:
    """What the first has imported the second need not import, and neither is the driver."""
    first, second = (cluster.train(lambda job: os.getpid(), job_in(tmp_path, Sft())) for _ in "ab")
    assert first == second != os.getpid()
