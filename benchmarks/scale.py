"""What grows with images and triplets: time and memory of the whole loop without a model.

    python -m benchmarks.scale                      # 1,000 and 10,000 images, ten triplets each
    python -m benchmarks.scale --full               # 100,000 and a million too: hours

Files are read, tasks drawn, triplets written, judged, selected, exported and reported by the code
of a run; what a model would say is drawn at random, a training copies its start. Up to REAL images
the folder is of PNG, of one anatomy each a little different; above, or with --committed, rows of
images are committed as ingest commits them. For each stage its seconds and those of the processor,
all processes together; the exponent is of the latter, from one size to the next, since other work
on the machine hardly stretches them. For each size the peak memory of all processes but those that
would hold a model. Sizes that were measured are kept in --keep, and one that was cut short goes on.
Ends with one line of JSON.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import psutil
import typer

from engine.answers.parsing import render_completion, render_question
from engine.config import Config, build
from engine.imaging.ingest import picture_of
from engine.lineage.runs import code_id
from engine.pixels import pixels_id, to_png
from engine.records import Image, Judgement, Picture, Triplet, content_id
from engine.vlm.protocol import Request, Sample, Sampling

SIZES, FULL = (1_000, 10_000), (1_000, 10_000, 100_000, 1_000_000)
REAL = 100_000  # images that are read from files
SAMPLES = 10  # triplets an image
ASKED = 5_000  # images of which the benchmark's file has a question
SIDE = 48


# What stands in the place of models


class Talker:
    """A VLM that says what is drawn at random."""

    def generate(self, requests: list[Request], sampling: Sampling) -> list[list[Sample]]:
        """A question where one sample is asked for, else answers."""
        rng = np.random.default_rng(sampling.seed)
        if sampling.n == 1:
            kinds = rng.integers(977, size=len(requests))
            told = [f"Is finding {kind} larger than small?" for kind in kinds]
            return [[Sample(render_question(q, ("yes", "no")), -0.5, 9)] for q in told]
        right = rng.random((len(requests), sampling.n)) < 0.7
        words = ("no", "yes")
        return [
            [Sample(render_completion("", words[int(r)]), -0.2 - 0.1 * r, 5) for r in row]
            for row in right
        ]


class Scorer:
    """A judge that thinks what is drawn at random."""

    def __init__(self, model: str, judge_id: str, threads: int | None = None) -> None:
        self.id = judge_id

    def judge(self, triplets: list[Triplet], pixels: Any) -> list[Judgement]:
        """One judgement a triplet."""
        scores = np.random.default_rng(len(triplets)).normal(size=(len(triplets), 3)).round(5)
        return [
            Judgement(
                id=content_id("judgement", t.id, self.id), triplet_id=t.id, judge_id=self.id,
                factuality=a, reasoning=b, relevance=c, overall=a, probability=0.5,
            )
            for t, (a, b, c) in zip(triplets, scores.tolist())
        ]  # fmt: skip


def trained(loop: Any, job: Any, advance: Any) -> Any:
    """A training that copies its start and has learned what its kind would tell."""
    from engine.training_job import TrainingResult
    from pipelines.training.grpo import GrpoJob, GrpoResult
    from reward_model.measure import Figures, Gate, Measurement
    from reward_model.training import JudgeJob, JudgeResult

    shutil.rmtree(job.out, ignore_errors=True)
    shutil.copytree(job.model, job.out)
    (job.out / "trained").write_text(f"{job.stage} {job.seed}")
    if isinstance(job, GrpoJob):
        return GrpoResult(steps=1, reward_first=None, reward=None, rewards=(), teaching=None)
    result = TrainingResult(loss=1.0, steps=1)
    if isinstance(job, JudgeJob):
        figures = Figures(
            on="pairs", sets=("gate",), n=9, patients=9, auc=0.8, auc_low=0.7, auc_high=0.9
        )
        after = Measurement(
            report=figures, gate=figures, pairwise=0.8, frozen=9, unscored=0,
            calibration=(1.0, 0.0), calibrated_on="9 pairs", ece=0.1, brier=0.1, precision=None,
        )  # fmt: skip
        gate = Gate(verdict="not worse", on="pairs", sets=("gate",), n=9)
        return JudgeResult(training=result, before=after, after=after, gate=gate)
    return result


# What there is to read


def drawn(number: int, base: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE) uint8: the base's anatomy with a lesion, an exposure and noise of its own."""
    rng = np.random.default_rng(number)
    y, x = rng.uniform(0.25, 0.75, 2) * SIDE
    yy, xx = np.mgrid[:SIDE, :SIDE]
    lesion = 90 * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / rng.uniform(4, 30))
    shown = base * rng.uniform(0.7, 1.1) + lesion + rng.normal(0, 6, base.shape)
    return np.clip(shown, 0, 255).astype(np.uint8)


def base_picture() -> np.ndarray:
    """One anatomy."""
    import PIL.Image

    from generators.phantoms import draw, to_display

    picture = PIL.Image.fromarray(to_display(draw("MR", 0, 96, 0.3, "none")))
    return np.asarray(picture.resize((SIDE, SIDE)), float)


def write_files(folder: Path, number: int, pictures: bool) -> None:
    """A folder in VQA-RAD's form: PNG, and questions about the first ASKED of them."""
    if (folder / "questions.json").exists():
        return
    base = base_picture()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for n in range(number if pictures else 0):
        (folder / "images" / f"{n:07d}.png").write_bytes(to_png(drawn(n, base)))
    rows = [
        {
            "image_name": f"{n:07d}.png", "image_case_url": f"case/{n // 2}", "qid": n,
            "image_organ": "HEAD", "question_type": "PRES", "question": "Is there a lesion?",
            "answer": ("yes", "no")[n % 2],
        }
        for n in range(min(number, ASKED))
    ]  # fmt: skip
    (folder / "questions.json").write_text(json.dumps(rows))


def commit_images(context: Any, number: int) -> None:
    """Images as ingest commits them, without files."""
    from pipelines.ingest import SHARD

    if context.has("ingest"):
        return
    base = base_picture()
    stage = context.workspace.begin("ingest", 0, "made")
    for low in range(0, number, SHARD):
        images, pictures = [], []
        for n in range(low, min(low + SHARD, number)):
            pixels = drawn(n, base)
            image_id, split = pixels_id(pixels), ("train", "train", "train", "test")[n // 2 % 4]
            pictures.append(picture_of(image_id, pixels))
            images.append(
                Image(
                    id=image_id, width=SIDE, height=SIDE, modality="MR", anatomy="head",
                    group=f"p{n // 2:07d}", patient=f"p{n // 2:07d}", split=split,
                    source=f"images/{n:07d}.png", rendering='{"facts":{},"frame":0}',
                    deidentification="none needed", is_synthetic=False,
                )
            )  # fmt: skip
        stage.write(Image, images, f"{low // SHARD:05d}")
        stage.write(Picture, pictures, f"{low // SHARD:05d}")
    stage.metrics = {"images": number}
    context.workspace.commit(stage)


def config_of(folder: Path, number: int) -> Config:
    """The loop over a folder: SAMPLES answers to one question an image."""
    values: dict[str, Any] = {
        "name": "scale",
        "rounds": 1,
        "source": {"path": str(folder), "public": True},
        "expert": {"kind": "benchmark", "images": 100, "preference_images": 200, "pairs": 300},
        "generator": {"tasks": number, "samples": SAMPLES, "batch": 512},
        "grpo": {"tolerance": 1},
        "cluster": {"address": "inline", "threads": 1},
    }
    return build(values, [], "the benchmark")


def run_size(number: int, folder: Path, committed: bool) -> dict[str, list[float]]:
    """Seconds by stage of the loop over `number` images, on the clock and of the processor.

    Where they are `committed`, no files are read.
    """
    from generators import proposer
    from pipelines import fine_tuning, grpo, judge_training, judging, loop
    from pipelines.context import opened
    from pipelines.evaluation import examination

    write_files(folder / "source", number, not committed)
    known = folder / "processor.json"
    seconds: dict[str, list[float]] = {}
    processor: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}

    def timed(name: str, work: Callable[[], Any]) -> None:
        """Do a stage; one that was done before has what it took then."""
        (folder / "stage").write_text(name)
        started, before = time.time(), processor_seconds()
        commit = work()
        took = time.time() - started if commit is None else commit["seconds"]
        processor.setdefault(name, round(processor_seconds() - before, 2))
        known.write_text(json.dumps(processor))
        seconds[name] = [round(took, 2), processor[name]]

    with ExitStack() as stack:
        for module in (proposer, examination):
            stack.enter_context(patch.object(module, "open_vlm", lambda *_, **__: Talker()))
        stack.enter_context(patch.object(judging, "Judge", Scorer))
        for module in (fine_tuning, grpo, judge_training):
            stack.enter_context(patch.object(module, "train_on_cluster", trained))
        config = config_of(folder / "source", number)
        context = stack.enter_context(opened(config, folder / "w"))
        if committed:
            commit_images(context, number)
        for name in loop.ONCE:
            if name != "ingest" or not committed:
                timed(name, partial(loop.step, context, name))
        for name in loop.stages_of(context.config):
            timed(
                f"{name}, round 1" if name in loop.ONCE else name,
                partial(loop.step, context, name, 1),
            )
        for name, leave in (("export", loop.export.export), ("report", loop.export.report)):
            timed(name, partial(leave, context.workspace, context.display))
    return seconds


def processor_seconds() -> float:
    """What this process, its children and those that ended have taken of the processor."""
    root = psutil.Process()
    times = []
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times.append(process.cpu_times())
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def measured(number: int, folder: Path, committed: bool) -> dict[str, Any]:
    """A size in a process of its own: {"images", "seconds", "peaks"} of it and its children.

    `peaks` are MiB by stage. A run that was cut short goes on where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "benchmarks.scale", "--one", str(number), "--keep", str(folder)]
    words += ["--committed"] if committed else []
    known, now = folder / "peaks.json", folder / "stage"
    peaks: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}
    with subprocess.Popen(words, stdout=sys.stderr) as process:
        while process.poll() is None:
            stage = now.read_text() if now.exists() else "begin"
            peaks[stage] = max(peaks.get(stage, 0), round(held(process.pid)))
            known.write_text(json.dumps(peaks))
            time.sleep(1)
    if process.returncode:
        raise SystemExit(f"{number} images: the run ended with {process.returncode}")
    seconds = json.loads((folder / "seconds.json").read_text())
    shutil.rmtree(folder)
    return {"images": number, "seconds": seconds, "peaks": peaks}


def held(pid: int) -> float:
    """MiB that a process and its children hold, what they share counted once."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total / 2**20


def show(results: list[dict[str, Any]]) -> None:
    """Seconds by stage and size (of the processor in brackets), the exponent of each last step of
    the latter, and the peaks."""
    sizes = [r["images"] for r in results]
    print("| | " + " | ".join(f"{n:,} images" for n in sizes) + " | exponent |")
    print("| --- |" + " ---: |" * (len(sizes) + 1))
    for name in results[-1]["seconds"]:
        times = [r["seconds"].get(name) for r in results]
        told = ["" if t is None else f"{t[0]:,.1f} s ({t[1]:,.1f})" for t in times]
        known = [(n, t[1]) for n, t in zip(sizes, times) if t and t[1]]
        power = ""
        if len(known) > 1:
            (low, before), (high, after) = known[-2:]
            power = f"{math.log(after / before) / math.log(high / low):.2f}"
        print(f"| {name} | " + " | ".join(told) + f" | {power} |")
    highest = [max(r["peaks"].items(), key=lambda pair: pair[1]) for r in results]
    print(f"| peak memory | {' | '.join(f'{mib:,} MiB ({name})' for name, mib in highest)} | |")


def main(
    full: Annotated[bool, typer.Option(help="Up to a million images.")] = False,
    sizes: Annotated[list[int] | None, typer.Option(help="Images; repeatable.")] = None,
    keep: Annotated[Path, typer.Option(help="Where sizes are kept.")] = Path("runs/scale"),
    committed: Annotated[bool, typer.Option(help="Read no files at any size.")] = False,
    one: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure every size and print the table."""
    if one is not None:
        (keep / "seconds.json").write_text(json.dumps(run_size(one, keep, committed)))
        return
    results = []
    for number in sizes or (FULL if full else SIZES):
        given = committed or number > REAL
        path = keep / f"{number}-{'committed-' if given else ''}{code_id()[:12]}.json"
        if not path.exists():
            found = measured(number, keep / str(number), given)
            path.write_text(json.dumps(found))
        results.append(json.loads(path.read_text()))
    show(results)
    print(json.dumps({"benchmark": "scale", "samples": SAMPLES, "results": results}))


if __name__ == "__main__":
    typer.run(main)
