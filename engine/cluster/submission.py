"""A command as a job of a Ray that runs somewhere."""

from __future__ import annotations

from engine.cluster.access import authenticate, check_dashboard
from engine.cluster.causes import FAULTS, cause
from engine.errors import TriptychError, printable


def submit(address: str, entrypoint: str) -> int:
    """Submit a command through Ray Jobs, follow its log, and return its exit status; 1 where it
    has none, since it was stopped or its node was lost.

    Raises TriptychError where the dashboard does not answer, and on an address that is not this
    machine's own without a token: what is sent there is run there, and anyone could send it.
    """
    check_dashboard(address)
    authenticate()
    import asyncio

    from ray.exceptions import RayError
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(entrypoint=entrypoint)
    except (*FAULTS, RayError) as error:
        raise TriptychError(f"no Ray dashboard at {address}: {cause(error)}") from None
    print(f"job {job}: {entrypoint}", flush=True)

    async def follow() -> None:
        async for lines in client.tail_job_logs(job):
            print(printable(lines), end="", flush=True)

    try:
        asyncio.run(follow())
        ended = client.get_job_info(job)
        return 0 if ended.status == JobStatus.SUCCEEDED else ended.driver_exit_code or 1
    except Exception as error:  # of HTTP, WebSockets or Ray
        raise TriptychError(
            f"lost sight of job {job} at {address}, which may go on (`ray job logs {job}`): "
            f"{cause(error)}"
        ) from None
