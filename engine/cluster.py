"""Everything that Ray does for Triptych: connect, map shards over model actors, train, submit.

With the address `inline` there is no Ray: the same functions run in this process, one after the
other. It is for debuggers, and for benchmarks of the learning rather than of the machinery.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from engine.config.cluster import Cluster
from engine.errors import TriptychError, printable
from engine.job import TrainingJob
from engine.private import RAY, temporary_folder
from engine.vlm.memory import spare

INLINE = "inline"
Rows = list[dict[str, Any]]
Worker = Callable[[str, Rows], Rows]
Job = TypeVar("Job", bound=TrainingJob)
Result = TypeVar("Result")
LOG = logging.getLogger("triptych")
_DIED_OF = "killed, as for want of memory, or crashed"
WAITS = 60  # for a cluster that has no room yet, or whose workers do not start: a minute each
DEATHS = 3  # how often a worker may die on one shard, or while it loads, before that is given up
_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who asks for no GPU sees none
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon the end of a training is seen
    # Two torch processes that spin while they wait starve each other on few cores.
    "OMP_WAIT_POLICY": "passive",
}

_own_ray = False  # whether this process started the Ray that it uses
_temporary = ExitStack()  # this run's temporary folder, while it is connected
ANSWERS_S = 10.0  # within which a running Ray takes a connection
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_FAULTS = (ConnectionError, ValueError, RuntimeError, OSError)  # of an address, by Ray's ways in


def start(cluster: Cluster) -> None:
    """Connect to Ray: the address given (or in RAY_ADDRESS), else a local one of this process.

    Temporary files, Ray's among them, are in a folder of this run until `stop`. Raises
    TriptychError where the address does not answer or is none of a Ray.
    """
    os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
    if cluster.address == INLINE:
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of this process: its C++ warnings
    address = cluster.address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        _check_address(address)
        _authenticate()
    import ray

    if ray.is_initialized():
        return
    local: dict[str, Any] = {}
    global _own_ray
    _own_ray = address is None
    if _own_ray:
        # Ray counts the cores itself; on a single one two threads still run.
        few = cluster.threads if (os.cpu_count() or 1) < cluster.threads else None
        local = {"num_cpus": cluster.cpus or few, "include_dashboard": False}
        local["object_store_memory"] = 512 * 2**20
        # Ray opens its own folder to everyone: what is around it is not.
        local["_temp_dir"] = str(_temporary.enter_context(temporary_folder()) / RAY)
    try:
        ray.init(
            address=address or "local",  # None would join a Ray that happens to run here
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                "env_vars": _ENVIRONMENT,
                "worker_process_setup_hook": "engine.private.close_files",
            },
            **local,
        )
    except (*_FAULTS, ray.exceptions.RayError) as error:
        _temporary.close()
        if _own_ray:
            raise TriptychError(f"Ray does not start here: {_cause(error)}") from None
        raise TriptychError(
            f"no Ray at {address}: {_cause(error)} (if it runs, compare RAY_AUTH_MODE and the "
            "token)"
        ) from None
    context = ray.data.DataContext.get_current()  # imports ray.data, which sets up its logging
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _check_address(address: str) -> None:
    """Raise TriptychError for an address at which nothing listens, which Ray would try for minutes,
    and for that of Ray's dashboard, which `ray job submit` wants."""
    if address.startswith(("http://", "https://")):
        raise TriptychError(
            f"{address} is the address of Ray's dashboard, for `triptych submit`: set "
            "cluster.address or RAY_ADDRESS to HEAD:6379, or take it out for a Ray of this run"
        )
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        socket.create_connection((parts.hostname or "", parts.port or 6379), ANSWERS_S).close()
    except (OSError, ValueError) as error:  # no port, no such host, nothing there
        raise TriptychError(
            f"no Ray at {address}: {error}: set cluster.address or RAY_ADDRESS to HEAD:6379"
        ) from None


def _authenticate() -> None:
    """Join with the token where this machine has one, as `ray start` does; before Ray is imported.

    Ray turns token authentication on for a new head where a token exists, but not for clients.
    RAY_AUTH_MODE, where it is set, decides.
    """
    if _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _has_token() -> bool:
    """Whether Ray finds a token on this machine."""
    return bool(
        os.environ.get("RAY_AUTH_TOKEN")
        or os.environ.get("RAY_AUTH_TOKEN_PATH")
        or (Path.home() / ".ray" / "auth_token").is_file()
    )


def stop() -> None:
    """Leave Ray; a local one ends with it."""
    if _connected():
        import ray

        ray.shutdown()
    _temporary.close()


def _connected() -> bool:
    """Whether this process has joined a Ray cluster, found out without importing Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _check_room(cpus: float, gpus: float) -> None:
    """Raise TriptychError where a Ray of this process can never give so much.

    Another may grow: it is waited for, and a line on stderr says so.
    """
    import ray

    have = ray.cluster_resources()
    for kind, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted <= have.get(kind, 0):
            continue
        lack = f"{wanted:g} {kind}s are asked for and Ray has {have.get(kind, 0):g}"
        if _own_ray:
            raise TriptychError(
                f"{lack} here: lower cluster.threads, workers, loaders or gpus, or give "
                "cluster.address"
            )
        print(f"triptych: {lack}: waiting for it to grow", file=sys.stderr, flush=True)


class _Deaths:
    """Counts what was begun and never ended, in an actor that outlives the workers.

    Ray's own bounds are of an actor or of a task: they would charge the shards that merely wait
    behind the one that kills the worker.
    """

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}

    def begin(self, what: str) -> int:
        """How often `what` was begun before and has not ended: each time a worker died of it."""
        self.begun[what] = self.begun.get(what, 0) + 1
        return self.begun[what] - 1

    def end(self, what: str) -> None:
        self.begun.pop(what, None)


class _Notes(logging.Handler):
    """What a worker says of its work, for the driver to say: its own output goes to a file."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def drain(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


class _ShardActor:
    """One worker in a Ray Data actor: made once, called for each shard.

    Ray restarts a worker that dies and hands it the same shard, to be done with fewer rows at once;
    after `DEATHS` of them the shard is given back as failed, so that the others go on. A worker
    that cannot be made says why: of what a constructor raises, Ray Data tells nothing.
    """

    def __init__(self, make: Callable[..., Worker], arguments: dict[str, Any], deaths: Any) -> None:
        import ray

        self.deaths, self.unmade, self.notes = deaths, "", _Notes()
        LOG.addHandler(self.notes)
        here = ray.get_runtime_context()
        me = here.get_actor_id()
        spare(int(here.was_current_actor_reconstructed))  # whichever shard it is handed first
        if ray.get(deaths.begin.remote(me)) >= DEATHS:
            self.unmade = f"it died {DEATHS} times while it loaded its model ({_DIED_OF})"
            return
        try:
            self.worker = make(**arguments)
        except Exception as error:
            kind = "" if isinstance(error, TriptychError) else f"{type(error).__name__}: "
            self.unmade = f"{kind}{_cause(error)}"
        ray.get(deaths.end.remote(me))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import pickle

        import ray

        told: dict[str, Any] = {"shard": row["shard"], "rows": b"", "notes": ""}
        told |= {"died": False, "unmade": self.unmade}
        if self.unmade:
            return told
        died = ray.get(self.deaths.begin.remote(f"shard {row['shard']}"))
        if died >= DEATHS:
            return told | {"died": True}
        if died:
            spare(died)
            LOG.warning(
                "triptych: a worker died on shard %s (%s): it is tried again, with fewer rows at "
                "once where the backend takes them so",
                row["shard"],
                _DIED_OF,
            )
        rows = self.worker(row["shard"], pickle.loads(row["rows"]))
        self.deaths.end.remote(f"shard {row['shard']}")
        return told | {"rows": pickle.dumps(rows), "notes": "\n".join(self.notes.drain())}


@dataclass(frozen=True, slots=True)
class Places:
    """Where shards are worked on: in how many actors, of how many cores and GPUs each.

    `here` are processes of this machine, whether or not there is a Ray.
    """

    actors: int = 1
    cpus: int = 1
    gpus: float = 0
    here: bool = False


def is_shared() -> bool:
    """Whether this process has joined a Ray that it did not start: others may have their nodes."""
    return _connected() and not _own_ray


def cores() -> int:
    """Cores of the Ray cluster that was joined, or of this machine."""
    if not is_shared():
        return os.cpu_count() or 1
    import ray

    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def map_shards(
    make: Callable[..., Worker],
    arguments: dict[str, Any],
    shards: Mapping[str, Rows],
    places: Places | None = None,
) -> Iterator[tuple[str, Rows]]:
    """Run `make(**arguments)` in Ray Data actors and yield each shard's rows as it is done.

    A shard is the unit of work and of resume. Shards come back in any order; an exception in a
    worker is raised here as TriptychError with its last line, and so are resources that a Ray of
    this process can never have. A shard on which a worker dies `DEATHS` times (the process, not an
    exception) is given up: all others are yielded first, then TriptychError names it.
    """
    if not shards:
        return
    places = places or Places()
    actors = min(places.actors, len(shards))
    if places.here or not _connected():
        yield from _in_processes(make, arguments, shards, actors)
        return
    _check_room(places.cpus, places.gpus)
    import pickle

    given_up = []
    for row in _in_actors(make, arguments, shards, replace(places, actors=actors)):
        for line in row["notes"].splitlines():
            LOG.warning("%s", line)
        if row["unmade"]:
            raise TriptychError(f"a worker failed: {row['unmade']}")
        if row["died"]:
            given_up.append(row["shard"])
        else:
            yield row["shard"], pickle.loads(row["rows"])
    if given_up:
        names = ", ".join(sorted(given_up))
        raise TriptychError(
            f"shard {names}: the worker died {DEATHS} times on it ({_DIED_OF}); all other shards "
            "are done: give it more memory and run the same command again"
        )


def _in_processes(
    make: Callable[..., Worker], arguments: dict[str, Any], shards: Mapping[str, Rows], number: int
) -> Iterator[tuple[str, Rows]]:
    """Without Ray: in this process where `number` is 1, else in so many, two shards ahead each."""
    if number == 1:
        worker = make(**arguments)
        for name, rows in shards.items():
            yield name, worker(name, rows)
        return
    with ProcessPoolExecutor(
        number, get_context("spawn"), _begin_process, (make, arguments)
    ) as pool:
        waiting: dict[Future[Rows], str] = {}
        try:
            for name, rows in shards.items():
                waiting[pool.submit(_work_here, name, rows)] = name
                if len(waiting) >= 2 * number:
                    yield from _finished(waiting)
            while waiting:
                yield from _finished(waiting)
        except BrokenProcessPool:
            raise TriptychError(
                f"a worker failed: its process ended ({_DIED_OF}); what was finished is kept: run "
                "the same command again"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_here: list[Worker] = []  # the worker of a process of `_in_processes`


def _begin_process(make: Callable[..., Worker], arguments: dict[str, Any]) -> None:
    _here.append(make(**arguments))


def _work_here(name: str, rows: Rows) -> Rows:
    return _here[0](name, rows)


def _finished(waiting: dict[Future[Rows], str]) -> Iterator[tuple[str, Rows]]:
    """Of shards under way those that are done, at least one."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        yield waiting.pop(future), future.result()


def _in_actors(
    make: Callable[..., Worker],
    arguments: dict[str, Any],
    shards: Mapping[str, Rows],
    places: Places,
) -> Iterator[dict[str, Any]]:
    """What `_ShardActor` says of each shard, as it says it."""
    import pickle

    import ray

    deaths = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Deaths).remote()
    items = [{"shard": name, "rows": pickle.dumps(rows)} for name, rows in shards.items()]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _ShardActor,  # type: ignore[arg-type]
        fn_constructor_args=(make, arguments, deaths),
        compute=ray.data.ActorPoolStrategy(size=places.actors),
        num_cpus=places.cpus,
        num_gpus=places.gpus,
    )
    try:
        # Prefetching would hold a finished shard back until the next one is done.
        table: Any
        for table in dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            (row,) = table.to_pylist()
            yield row
    except ray.exceptions.RayError as error:
        raise TriptychError(f"a worker failed: {_cause(error)}") from error


def train(loop: Callable[[Job], Result | None], job: Job) -> Result:
    """Run a training function on Ray Train's workers; returns what the first worker returned.

    The function writes its weights to `job.out`, on a path that all nodes share; only the first
    worker has to return something. Each worker has the job's threads and loaders as CPUs, and its
    section's GPUs. Raises TriptychError where a worker fails, or a Ray of this process can never
    have so many.
    """
    workers, gpus = job.section.workers, job.section.gpus
    if not _connected():  # one process takes the rows of all workers
        accumulate = job.section.accumulate * workers
        result = loop(job.with_section(accumulate=accumulate, workers=1))
        assert result is not None
        return result
    cpus = job.threads + job.section.loaders
    _check_room(workers * cpus, workers * gpus)
    import pickle

    import ray.train
    from ray.train.torch import TorchTrainer

    resources = {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})
    trainer = TorchTrainer(
        # Of Ray Train v2; pickled, for its controller need not load a result's class.
        lambda: pickle.dumps(loop(job)),  # type: ignore[arg-type]
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            storage_path=str(job.beside(".ray")),
            name="train",
            # A worker that fails would fail again; a node that is taken away may do better.
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # of Ray Train v2
                max_failures=0,
                controller_failure_limit=DEATHS if _own_ray else WAITS,
                max_preemption_failures=DEATHS,
            ),
        ),
    )
    try:
        done: Any = trainer.fit()
    except Exception as error:
        raise TriptychError(f"training failed: {_cause(error)}") from error
    result = pickle.loads(done.return_value)
    assert result is not None
    return result


def submit(address: str, entrypoint: str) -> int:
    """Submit a command through Ray Jobs, follow its log, and return 0 where it succeeded.

    Raises TriptychError where the dashboard does not answer, and on an address that is not this
    machine's own without a token: what is sent there is run there, and anyone could send it.
    """
    _check_dashboard(address)
    _authenticate()
    import asyncio

    from ray.exceptions import RayError
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(entrypoint=entrypoint)
    except (*_FAULTS, RayError) as error:
        raise TriptychError(f"no Ray dashboard at {address}: {_cause(error)}") from None
    print(f"job {job}: {entrypoint}", flush=True)

    async def follow() -> None:
        async for lines in client.tail_job_logs(job):
            print(printable(lines), end="", flush=True)

    try:
        asyncio.run(follow())
        return 0 if client.get_job_status(job) == JobStatus.SUCCEEDED else 1
    except Exception as error:  # of HTTP, WebSockets or Ray
        raise TriptychError(
            f"lost sight of job {job} at {address}, which may go on (`ray job logs {job}`): "
            f"{_cause(error)}"
        ) from None


def _check_dashboard(address: str) -> None:
    """Raise TriptychError for what is no http(s) address, or wants a token and has none."""
    host = None
    if address.startswith(("http://", "https://")):
        with suppress(ValueError):
            host = urlsplit(address).hostname
    if not host:
        raise TriptychError(f"--address {address}: write http://HEAD:8265, Ray's dashboard")
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if host not in _LOOPBACK and not (mode == "token" and _has_token()):
        raise TriptychError(
            f"--address {address} is another machine and no token guards it: on the head "
            "`ray get-auth-token --generate`, then RAY_AUTH_MODE=token for `ray start` and here, "
            "with the same token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )


def _cause(error: BaseException) -> str:
    """The last line of the innermost error that says something.

    Ray Data wraps what a worker raised and ends with advice on retries; the worker's own error
    stands before.
    """
    told, wrapped, _ = str(error).partition("\nThe above exception was the direct cause")
    inner = getattr(error, "cause", None) or error.__cause__ or error
    lines = [line for line in (told if wrapped else str(inner)).splitlines() if line.strip()]
    own = f"{TriptychError.__module__}.{TriptychError.__name__}: "  # says enough without its name
    return lines[-1].strip().removeprefix(own) if lines else type(inner).__name__
