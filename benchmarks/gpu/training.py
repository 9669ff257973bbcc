"""The trainings that are measured: SFT in several settings, GRPO with the judge in its reward."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import trl
from transformers import AutoConfig

import pipelines.training.grpo
import pipelines.training.sft
from benchmarks.gpu.measures import Figures, Options, synchronised
from benchmarks.gpu.model import use_varlen
from benchmarks.gpu.rows import PROMPTS, STYLE, rows_about
from benchmarks.gpu.watch import Profiled, Profiler, Watch
from engine.config import MAX_PIXELS, load
from engine.config.training import Optimiser
from engine.lineage.opening import writing
from engine.records import Picture
from engine.trainer import write_training_set
from engine.training_job import TrainingJob
from pipelines.training.grpo import GrpoJob, questions_of, train_grpo
from pipelines.training.sft import train_sft, turns_of

CONFIG = Path(__file__).parents[2] / "configs" / "medgr2-7b.yaml"
WARM_UP = 2  # steps of SFT that are not counted
Job = TypeVar("Job", bound=TrainingJob)


def job_of(options: Options, kind: type[Job], section: Optimiser, **more: Any) -> Job:
    """A job of a kind; its last checkpoint would be written, and is not."""
    folder = options.folder.resolve() / f"stage-{os.getpid()}"
    return kind(
        stage="gpu",
        section=section.model_copy(update={"save_steps": 0}),
        model=str(options.model),
        data=folder / "data",
        workspace=folder / "workspace",
        out=folder / "weights",
        seed=1,
        threads=options.threads,
        max_pixels=MAX_PIXELS,
        **more,
    )


def write_set(job: TrainingJob, pngs: dict[str, bytes], rows: list[dict[str, Any]]) -> None:
    """The job's rows, and its workspace with their pictures."""
    with writing(job.workspace, "gpu", {}) as workspace:
        stage = workspace.begin("ingest", 0, "pictures")
        stage.write(Picture, [Picture(id=name, png=png) for name, png in pngs.items()])
        workspace.commit(stage)
    write_training_set(job.data, rows)


def sft(
    options: Options,
    steps: int | None = None,
    skip: int = WARM_UP,
    watch: Watch | None = None,
    **changed: Any,
) -> list[Figures]:
    """`train_sft` as configured, but for what is `changed` in its section."""
    if options.small:
        changed |= {"batch": 2, "accumulate": 2}
    steps = steps or options.steps + skip
    section = load(CONFIG).sft.model_copy(update=changed | {"epochs": 1})
    job = job_of(options, TrainingJob, section)
    rows, tasks, pngs = rows_about(steps * section.batch * section.accumulate, options.small)
    write_set(job, pngs, turns_of(rows, tasks, PROMPTS, None, 0, 0))
    watch = watch or Watch()
    started = synchronised()
    result = watch.run(pipelines.training.sft, train_sft, job)
    config = AutoConfig.from_pretrained(options.model)
    return [
        {
            "batch": f"{section.batch} x {section.accumulate}",
            "load_s": round(watch.ends[0] - started, 1),
            **watch.figures(config, 2 if section.lora_rank else 3, options.peak, skip),
            "loss": result.loss,
        }
    ]


def lora(options: Options) -> list[Figures]:
    """SFT as configured: LoRA of rank 64, gradients checkpointed, batches of 4 x 4."""
    return sft(options)


def lora_wide(options: Options) -> list[Figures]:
    """The same rows a step in one batch of 16."""
    return sft(options, batch=16, accumulate=1)


def lora_kept(options: Options) -> list[Figures]:
    """Without checkpointing: activations are kept, nothing is computed again."""
    config: Any = trl.SFTConfig
    kept = {"gradient_checkpointing": False}
    with patch.object(trl, "SFTConfig", lambda **ours: config(**(ours | kept))):
        return sft(options)


def lora_workers(options: Options) -> list[Figures]:
    """With four loaders that prepare batches while the GPU works."""
    return sft(options, loaders=4)


def lora_varlen(options: Options, **changed: Any) -> list[Figures]:
    """With one attention call for all windows and images of the vision tower, which needs CUDA."""
    name = use_varlen()
    return [row | {"note": name} for row in sft(options, **changed)]


def lora_best(options: Options) -> list[Figures]:
    """Four loaders and one attention call together."""
    return lora_varlen(options, loaders=4)


def full(options: Options) -> list[Figures]:
    """All weights, in bfloat16 as our code loads them with `bf16`: Adam's moments are too."""
    return sft(options, 4, 1, lora_rank=0, lr=1e-5, batch=2, accumulate=4)


def full_float32(options: Options) -> list[Figures]:
    """All weights in float32, as our code loads them without `bf16`: 16 bytes a weight."""
    return sft(options, 3, 1, lora_rank=0, lr=1e-5, batch=1, accumulate=1, bf16=False)


def profile(options: Options) -> list[Figures]:
    """The third batch under torch's profiler, whose table is printed; else as `lora_varlen`."""
    watch = Profiler()
    use_varlen()
    with contextlib.suppress(Profiled):
        sft(options, 2, watch=watch)
    return [{"note": "the batch before", "step_s": round(watch.seconds[-1], 3)}]


def grpo(options: Options) -> list[Figures]:
    """`train_grpo` as configured: 32 completions a step, the judge in the reward."""
    changed = {"steps": options.grpo_steps, "max_tokens": options.tokens}
    if options.small:
        changed |= {"batch": 4, "accumulate": 2, "group": 4}
    section = load(CONFIG).grpo.model_copy(update=changed)
    job = job_of(options, GrpoJob, section, judge=str(options.model))
    rows, _, pngs = rows_about(16, options.small)
    write_set(job, pngs, questions_of(rows, PROMPTS, STYLE))
    watch = Watch()
    started = synchronised()
    watch.run(pipelines.training.grpo, train_grpo, job)
    return [
        {
            "batch": f"{section.batch} x {section.accumulate}",
            "note": f"{options.tokens} tokens each",
            "load_s": round(watch.ends[0] - started, 1),
            **watch.rollout_figures(skip=1),
        }
    ]
