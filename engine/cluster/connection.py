"""Join a Ray, or start one of this run's own in a folder of its own; leave it.

With the address `inline` there is no Ray: the same functions run in this process, one after the
other. It is for debuggers, and for benchmarks of the learning rather than of the machinery.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from typing import Any

from engine.cluster.access import authenticate, check_address
from engine.cluster.causes import FAULTS, cause
from engine.config.cluster import Cluster
from engine.errors import TriptychError
from engine.private import RAY, temporary_folder

INLINE = "inline"
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
        check_address(address)
        authenticate()
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
    except (*FAULTS, ray.exceptions.RayError) as error:
        _temporary.close()
        if _own_ray:
            raise TriptychError(f"Ray does not start here: {cause(error)}") from None
        raise TriptychError(
            f"no Ray at {address}: {cause(error)} (if it runs, compare RAY_AUTH_MODE and the token)"
        ) from None
    context = ray.data.DataContext.get_current()  # imports ray.data, which sets up its logging
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def stop() -> None:
    """Leave Ray; a local one ends with it."""
    if connected():
        import ray

        ray.shutdown()
    _temporary.close()


def connected() -> bool:
    """Whether this process has joined a Ray cluster, found out without importing Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def is_shared() -> bool:
    """Whether this process has joined a Ray that it did not start: others may have their nodes."""
    return connected() and not _own_ray


def cores() -> int:
    """Cores of the Ray cluster that was joined, or of this machine."""
    if not is_shared():
        return os.cpu_count() or 1
    import ray

    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def check_room(cpus: float, gpus: float) -> None:
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
