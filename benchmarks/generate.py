"""Stage generate against the engine that it runs: what of the engine's speed is left.

    python -m benchmarks.generate                       # transformers, three runs of 768 questions
    python -m benchmarks.generate --backend vllm
    python -m benchmarks.generate --full                # 2,560 questions, more than 5,000 requests

The stage runs as `triptych generate` runs it, on a Ray of this machine, with the demo's lengths and
batch, by the generator that the demo tunes. The bare engine is one process that answers the same
requests in the same batches, and only its calls are timed; its rows have to be the stage's, byte
for byte, or the benchmark says that they are not. With the start: from the stage's begin, or from
that of the process, to the last row. Without: from the first shard on, and the engine's calls. The
ratio is of triplets a second, stage to engine. Each run has a seed of its own. Ends with one line
of JSON.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal
from unittest.mock import patch

import pyarrow.parquet as pq
import typer

from engine.cluster import Rows
from engine.config import load
from engine.config.backend import Backend
from engine.records import Assignment, Task, Triplet
from engine.vlm.backends import open_vlm
from engine.vlm.protocol import VLM, Request, Sample, Sampling
from generators import proposer
from pipelines import generate, ingest, plan
from pipelines.context import Context, opened, run_stage
from pipelines.loop import step
from pipelines.proposals import proposing
from pipelines.record import generator_of

DEMO = Path("configs/demo.yaml")
QUESTIONS, FULL = 768, 2_560


@dataclass(frozen=True, slots=True)
class Speed:
    """Triplets a second, with the start and without it."""

    with_start: float
    without: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what was asked, how fast, and whether both wrote the same."""

    seed: int
    triplets: int
    requests: int
    stage: Speed
    engine: Speed
    equal: bool


class Timed:
    """A VLM of which each call is timed."""

    def __init__(self, vlm: VLM) -> None:
        self.vlm, self.seconds, self.requests = vlm, 0.0, 0

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Sample]]:
        """What the VLM says."""
        begun = time.perf_counter()
        found = self.vlm.generate(list(requests), sampling)
        self.seconds += time.perf_counter() - begun
        self.requests += len(requests)
        return found


def bare(
    job: generate.Planned, shards: dict[str, Rows], begun: float
) -> tuple[float, float, int, list[str]]:
    """In a process of its own: seconds with the start and of calls, requests, and ids of rows."""
    timed: list[Timed] = []

    def watched(backend: Backend, model: str, threads: int | None, max_pixels: int) -> Timed:
        timed.append(Timed(open_vlm(backend, model, threads, max_pixels)))
        return timed[0]

    with patch.object(proposer, "open_vlm", watched):
        work = generate.make_planned(job)
    ready = time.time() - begun
    rows = [row.id for name, each in shards.items() for row in work(name, each)[Triplet]]
    return ready + timed[0].seconds, timed[0].seconds, timed[0].requests, rows


def tuned(folder: Path) -> str:
    """The demo's generator, from its own first stages."""
    with opened(load(DEMO, []), folder) as context:
        for name in ("ingest", "seed", "tune"):
            step(context, name)
        return context.path_of(context.model("generator"))


def one_run(folder: Path, model: str, backend: str, questions: int, seed: int) -> Run:
    """A stage, and then the engine alone on what the stage asked."""
    values = [f"generator.model={model}", f"generator.backend={backend}", f"seed={seed}"]
    config = load(DEMO, [*values, f"generator.tasks={questions}"])
    with opened(config, folder) as context:
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "plan", 1, plan.plan, [("ingest", 0)], {})
        begun = time.time()
        run_stage(context, "generate", 1, generate.generate, [("plan", 1)], {})
        seconds = time.time() - begun
        paths = sorted(context.shards(Triplet, "generate", 1))
        job, shards = _asked(context)
        rows = context.rows(Triplet, "generate", 1)
    return _told(seed, rows, paths, seconds, job, shards)


def _asked(context: Context) -> tuple[generate.Planned, dict[str, Rows]]:
    asked = generate.Planned(
        proposing(context, generator_of(context), 1),
        tuple(context.shards(Assignment, "plan", 1)),
        tuple(context.rows(Task, "plan", 1)),
        frozenset(),
    )
    return asked, generate.planned_shards(context, 1)[0]


def _told(
    seed: int,
    rows: list[Triplet],
    paths: list[Path],
    seconds: float,
    job: generate.Planned,
    shards: dict[str, Rows],
) -> Run:
    ended = sorted((path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in paths)
    later = sum(number for _, number in ended[1:])
    with get_context("spawn").Pool(1) as pool:
        whole, calls, requests, ids = pool.apply(bare, (job, shards, time.time()))
    return Run(
        seed,
        len(rows),
        requests,
        Speed(round(len(rows) / seconds, 2), round(later / (ended[-1][0] - ended[0][0]), 2)),
        Speed(round(len(rows) / whole, 2), round(len(rows) / calls, 2)),
        sorted(ids) == sorted(row.id for row in rows),
    )


def main(
    backend: Annotated[Literal["transformers", "vllm"], typer.Option()] = "transformers",
    runs: Annotated[int, typer.Option(min=1)] = 3,
    full: Annotated[bool, typer.Option("--full")] = False,
) -> None:
    """Print the table."""
    questions = FULL if full else QUESTIONS
    with tempfile.TemporaryDirectory() as scratch:
        model = tuned(Path(scratch, "demo"))
        done = [
            one_run(Path(scratch, str(seed)), model, backend, questions, seed)
            for seed in range(runs)
        ]
    print(f"| {backend} | triplets | requests | stage/s | engine/s | ratio | without: | | | rows |")
    print("| --- |" + " ---: |" * 9)
    for run in done:
        whole = run.stage.with_start / run.engine.with_start
        rest = run.stage.without / run.engine.without
        print(
            f"| seed {run.seed} | {run.triplets} | {run.requests} | {run.stage.with_start:.1f} | "
            f"{run.engine.with_start:.1f} | {whole:.2f} | {run.stage.without:.1f} | "
            f"{run.engine.without:.1f} | {rest:.2f} | {'equal' if run.equal else 'DIFFER'} |"
        )
    print(json.dumps({"backend": backend, "runs": [asdict(run) for run in done]}))


if __name__ == "__main__":
    typer.run(main)
