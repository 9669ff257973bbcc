"""A command as a job of a Ray that runs somewhere.

Ray runs a job once. A job is known by where it writes and by what it does, so that the same
submission finds the job that is at work, and is a further attempt where that has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from engine.cluster.access import authenticate, check_dashboard
from engine.cluster.causes import FAULTS, cause
from engine.errors import TriptychError, printable


@dataclass(frozen=True)
class Job:
    """A command, and the folder of which it gets a copy to start in.

    `place` stands for where it writes, in which one job works at a time, and `what` for all that
    decides what it does there.
    """

    command: str
    folder: Path
    place: str
    what: str

    @property
    def name(self) -> str:
        """Its submission_id; a further attempt has a number behind it."""
        return f"{self.place}.{self.what}"

    def is_attempt(self, name: str) -> bool:
        """Whether a submission_id is of this job."""
        return name == self.name or name.startswith(f"{self.name}.")


def submit(address: str, job: Job) -> int:
    """Run a job through Ray Jobs, or find it running; follow its log, and return its exit status; 1
    where it has none, since it was stopped or its node was lost.

    Raises TriptychError where the dashboard does not answer or is of another Ray, where another job
    works in the same place, and on an address that is not this machine's own without a token: what
    is sent there is run there, and anyone could send it.
    """
    check_dashboard(address)
    authenticate()
    import asyncio
    import logging

    from ray.exceptions import RayError
    from ray.job_submission import JobStatus, JobSubmissionClient

    for module in ("", ".dashboard.modules.dashboard_sdk", ".dashboard.modules.job.sdk"):
        logging.getLogger(f"ray{module}").setLevel(logging.WARNING)  # else each package is told of
    try:
        client = JobSubmissionClient(address)
        _check_version(address, client)
        name = _under_way(client, job) or _submitted(client, job)
    except (*FAULTS, RayError) as error:
        raise TriptychError(f"no Ray dashboard at {address}: {cause(error)}") from None

    async def follow() -> None:
        async for lines in client.tail_job_logs(name):
            print(printable(lines), end="", flush=True)

    try:
        asyncio.run(follow())
        ended = client.get_job_info(name)
        return 0 if ended.status == JobStatus.SUCCEEDED else ended.driver_exit_code or 1
    except Exception as error:  # of HTTP, WebSockets or Ray
        raise TriptychError(
            f"lost sight of job {name} at {address}, which may go on: the same command follows it, "
            f"or is its next attempt: {cause(error)}"
        ) from None


def _check_version(address: str, client: Any) -> None:
    """Raise TriptychError where the cluster's Ray is of another minor version than ours."""
    import ray

    ours, theirs = ray.__version__, client._server_ray_version or "of unknown version"
    if ours.split(".")[:2] != theirs.split(".")[:2]:
        raise TriptychError(
            f"Ray {theirs} runs at {address} and Ray {ours} is here, which Triptych is made for: "
            "let both be of one version"
        )


def _under_way(client: Any, job: Job) -> str | None:
    """The attempt at this job that has not ended."""
    for known in client.list_jobs():
        name = known.submission_id or ""  # a driver that was started by hand has none
        if not name.startswith(f"{job.place}.") or known.status.is_terminal():
            continue
        if not job.is_attempt(name):
            raise TriptychError(
                f"job {name} works in that workspace by another configuration or other code: wait "
                f"for it, or end it with `ray job stop {name}`"
            )
        print(f"job {name} is at work already, this is its output:", flush=True)
        return name
    return None


def _submitted(client: Any, job: Job) -> str:
    """A new attempt at a job."""
    known = {one.submission_id for one in client.list_jobs()}
    attempts = (job.name if n == 1 else f"{job.name}.{n}" for n in count(1))
    name = next(attempt for attempt in attempts if attempt not in known)
    client.submit_job(
        entrypoint=job.command,
        submission_id=name,
        runtime_env={"working_dir": str(job.folder)},
    )
    print(f"job {name}: {job.command}", flush=True)
    return name
