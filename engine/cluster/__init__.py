"""Everything that Ray does for Triptych, and the only place that names it.

`connection` joins a Ray or starts one (`access`: addresses and tokens), `mapping` maps shards over
workers (in Ray's `actors`, or without Ray in `processes`), `training` runs a training and `jobs`
submits a command.
"""

from engine.cluster.connection import INLINE, cores, is_shared, start, stop
from engine.cluster.mapping import map_shards
from engine.cluster.submission import Job, submit
from engine.cluster.training import train
from engine.cluster.work import DEATHS, Places, Rows, Worker

__all__ = [
    "DEATHS",
    "INLINE",
    "Job",
    "Places",
    "Rows",
    "Worker",
    "cores",
    "is_shared",
    "map_shards",
    "start",
    "stop",
    "submit",
    "train",
]
