"""A map over shards: in Ray where one was joined, else in processes of this machine."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from engine.cluster.actors import in_actors
from engine.cluster.causes import DIED_OF
from engine.cluster.connection import check_room, connected
from engine.cluster.processes import in_processes
from engine.cluster.work import DEATHS, Places, Rows, Worker
from engine.errors import TriptychError

LOG = logging.getLogger("triptych")


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
    if places.here or not connected():
        yield from in_processes(make, arguments, shards, actors)
        return
    check_room(places.cpus, places.gpus)

    given_up = []
    for row in in_actors(make, arguments, shards, replace(places, actors=actors)):
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
            f"shard {names}: the worker died {DEATHS} times on it ({DIED_OF}); all other shards "
            "are done: give it more memory and run the same command again"
        )
