"""A Ray cluster that stands already, as an administrator would have started it."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.conftest import TRIPTYCH


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
    activated = os.pathsep.join([str(TRIPTYCH.parent), os.environ["PATH"]])  # for `python3`
    env = os.environ | {"OMP_WAIT_POLICY": "passive", "PATH": activated}
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
