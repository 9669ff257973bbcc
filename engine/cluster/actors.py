"""Workers in Ray Data's actors: one that dies is made again and tries its shard again."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from engine.cluster.causes import DIED_OF, cause
from engine.cluster.work import DEATHS, Places, Rows, Worker
from engine.errors import TriptychError
from engine.vlm.memory import spare

LOG = logging.getLogger("triptych")


class _Deaths:
    """Counts what was begun and never ended, in an actor that outlives the workers; one a run.

    Ray's own bounds are of an actor or of a task: they would charge the shards that merely wait
    behind the one that kills the worker.
    """

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}

    def begin(self, what: str) -> int:
        """How often `what` was begun before and has not ended: each time a worker died of it."""
        self.begun[what] = self.begun.get(what, 0) + 1
        return self.begun[what] - 1

    def of(self, what: str) -> int:
        """How often a worker died of `what`, if nobody is at it."""
        return self.begun.get(what, 0)

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

    Ray restarts a worker that dies and hands it the same shard, which is done again as it was, so
    that its rows are the same. Where a worker died of it twice, as for want of memory, it is done
    with fewer rows at once; after `DEATHS` the shard is given back as failed, so that the others go
    on. Of shards that were in work at once each may be the cause: they are done again one by one.
    A worker that cannot be made says why: of what a constructor raises, Ray Data tells nothing.
    """

    def __init__(
        self,
        make: Callable[..., Worker],
        arguments: dict[str, Any],
        deaths: Any,
        number: int,
        at_once: int,
    ) -> None:
        import ray

        self.deaths, self.number, self.unmade, self.notes = deaths, number, "", _Notes()
        self.at_once, self.room, self.turn = at_once, threading.Semaphore(at_once), threading.Lock()
        LOG.addHandler(self.notes)
        me = ray.get_runtime_context().get_actor_id()
        if ray.get(deaths.begin.remote(me)) >= DEATHS:
            self.unmade = f"it died {DEATHS} times while it loaded its model ({DIED_OF})"
            return
        try:
            self.worker = make(**arguments)
        except Exception as error:
            kind = "" if isinstance(error, TriptychError) else f"{type(error).__name__}: "
            self.unmade = f"{kind}{cause(error)}"
        ray.get(deaths.end.remote(me))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        told: dict[str, Any] = {"shard": row["shard"], "rows": b"", "notes": ""}
        told |= {"died": False, "unmade": self.unmade}
        if self.unmade:
            return told
        shard = f"shard {row['shard']} of map {self.number}"
        with self._place(ray.get(self.deaths.of.remote(shard))):
            return told | self._done(shard, row)

    @contextmanager
    def _place(self, died: int) -> Iterator[None]:
        """Beside others, or alone where a worker died while it was in work."""
        places = self.at_once if died else 1
        with self.turn:
            for _ in range(places):
                self.room.acquire()
        try:
            yield
        finally:
            self.room.release(places)

    def _done(self, shard: str, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        died = ray.get(self.deaths.begin.remote(shard))
        if died >= DEATHS:
            return {"died": True}
        if died:
            fewer = ", with fewer rows at once where the backend takes them so" if died > 1 else ""
            spare(died - 1)
            LOG.warning(
                "triptych: a worker died on shard %s (%s): it is tried again%s",
                row["shard"],
                DIED_OF,
                fewer,
            )
        rows = self.worker(row["shard"], pickle.loads(row["rows"]))
        self.deaths.end.remote(shard)
        return {"rows": pickle.dumps(rows), "notes": "\n".join(self.notes.drain())}


_maps = count()
_counters: dict[tuple[str, str], Any] = {}  # of the Ray job that this process is


def _counter() -> Any:
    """The handle of this run's `_Deaths`: an actor is a process, so all its maps share one."""
    import ray

    context = ray.get_runtime_context()
    run = (context.gcs_address, context.get_job_id())
    if run not in _counters:
        _counters.clear()
        kept = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Deaths)
        _counters[run] = kept.remote()
    return _counters[run]


def in_actors(
    make: Callable[..., Worker],
    arguments: dict[str, Any],
    shards: Mapping[str, Rows],
    places: Places,
) -> Iterator[dict[str, Any]]:
    """What `_ShardActor` says of each shard, as it says it."""
    import ray

    items = [{"shard": name, "rows": pickle.dumps(rows)} for name, rows in shards.items()]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _ShardActor,
        fn_constructor_args=(make, arguments, _counter(), next(_maps), places.at_once),
        compute=ray.data.ActorPoolStrategy(
            size=places.actors,
            max_concurrent_calls_per_actor=places.at_once,
            enable_true_multi_threading=places.at_once > 1,
        ),
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
        raise TriptychError(f"a worker failed: {cause(error)}") from error
