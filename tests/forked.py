"""The command in a process of its own, forked from one that has imported what it needs.

A run imports for ten seconds of the processor, which a test that starts twenty of them has no need
to repeat. `subprocess` starts what has to import for itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import reload
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
IMPORTED = ["tests.imported"]


def start(out: Path, *arguments: object, env: dict[str, str] | None = None) -> ForkServerProcess:
    """Begin `triptych` with arguments; what it prints goes to the files out.stdout, out.stderr."""
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    words = [str(word) for word in arguments]
    process = context.Process(target=_command, args=(out, words, dict(os.environ) | (env or {})))
    process.start()
    return process


def triptych(
    *arguments: object, env: dict[str, str] | None = None, timeout: int = 600
) -> subprocess.CompletedProcess[str]:
    """`triptych` with arguments; stdout and stderr come back as text."""
    with TemporaryDirectory() as folder:
        out = Path(folder, "out")
        process = start(out, *arguments, env=env)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{arguments}: not done after {timeout} seconds")
        told = [out.with_suffix(kind).read_text() for kind in (".stdout", ".stderr")]
    return subprocess.CompletedProcess(arguments, process.exitcode, *told)


def _command(out: Path, words: list[str], env: dict[str, str]) -> None:
    for stream, kind in ((sys.stdout, ".stdout"), (sys.stderr, ".stderr")):
        with out.with_suffix(kind).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    sys.argv = ["triptych", *words]
    from huggingface_hub import constants

    from pipelines.cli import main

    reload(constants)  # which reads the environment
    main()
