"""The one resumable map over shards, which every stage that has shards runs on.

A shard is a unit of work, of Parquet and of resume. What travels to a worker is what the shard is
to be made of, ids and text; the worker writes its rows itself, on a path that all nodes share, and
the driver hears that it is done. A shard that is whole is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from engine import cluster
from engine.records import Row, to_arrow
from engine.shards import whole_shards, write_shard

Job = TypeVar("Job")
Made = Mapping[type[Row], Sequence[Any] | pa.Table]
Worker = Callable[[str, cluster.Rows], Made]


@dataclass(frozen=True, slots=True)
class Shards:
    """Where shards go, and of which tables each is: one Parquet file a table, the last one last."""

    folder: Path
    tables: tuple[type[Row], ...]

    def path(self, table: type[Row], name: str) -> Path:
        """Where a table's rows of a shard are."""
        return self.folder / f"{table.table}-{name}.parquet"

    def done(self) -> set[str]:
        """Names of the shards that are whole; what is torn is thrown away."""
        last = f"{self.tables[-1].table}-"
        return {n.removeprefix(last) for n in whole_shards(self.folder) if n.startswith(last)}


def make_shards(
    to: Shards,
    make: Callable[[Job], Worker],
    job: Job,
    shards: Mapping[str, cluster.Rows],
    places: cluster.Places,
    advance: Callable[[int, int], None],
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Run `make(job)`, once a worker, on each shard that `to` lacks, and write what it makes.

    `advance` is told (rows of shards done, all rows) as it goes; `sizes` say how many rows a shard
    is of where what names it is fewer. Raises what `engine.cluster.map_shards` raises; what was
    finished is kept.
    """
    to.folder.mkdir(parents=True, exist_ok=True)
    done = to.done()
    todo = {name: rows for name, rows in shards.items() if name not in done}
    size = {name: (sizes or {}).get(name, len(rows)) for name, rows in shards.items()}
    total = sum(size.values())
    finished = total - sum(size[name] for name in todo)
    arguments = {"to": to, "make": make, "job": job}
    for name, _ in cluster.map_shards(_writer, arguments, todo, places):
        finished += size[name]
        advance(finished, total)


def _writer(to: Shards, make: Callable[[Any], Worker], job: Any) -> cluster.Worker:
    worker = make(job)

    def work(name: str, rows: cluster.Rows) -> cluster.Rows:
        made = worker(name, rows)
        for table in to.tables:
            found = made.get(table, ())
            found = found if isinstance(found, pa.Table) else to_arrow(table, found)
            write_shard(to.folder, f"{table.table}-{name}", found)
        return []

    return work
