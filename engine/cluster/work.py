"""What is worked on: shards of rows, by workers, in places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Rows = list[dict[str, Any]]
Worker = Callable[[str, Rows], Rows]
DEATHS = 4  # how often a worker may die on one shard, or while it loads, before that is given up


@dataclass(frozen=True, slots=True)
class Places:
    """Where shards are worked on: in how many actors, of how many cores and GPUs each.

    On Ray each works on `at_once` shards at the same time, in threads. `here` are processes of this
    machine, whether or not there is a Ray.
    """

    actors: int = 1
    cpus: int = 1
    gpus: float = 0
    at_once: int = 1
    here: bool = False
