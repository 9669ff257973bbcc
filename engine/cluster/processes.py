"""Workers without Ray: in this process, or in some of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from engine.cluster.causes import DIED_OF
from engine.cluster.work import Rows, Worker
from engine.errors import TriptychError


def in_processes(
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
                f"a worker failed: its process ended ({DIED_OF}); what was finished is kept: run "
                "the same command again"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_here: list[Worker] = []  # the worker of a process of `in_processes`


def _begin_process(make: Callable[..., Worker], arguments: dict[str, Any]) -> None:
    _here.append(make(**arguments))


def _work_here(name: str, rows: Rows) -> Rows:
    return _here[0](name, rows)


def _finished(waiting: dict[Future[Rows], str]) -> Iterator[tuple[str, Rows]]:
    """Of shards under way those that are done, at least one."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        yield waiting.pop(future), future.result()
