"""The trainings that are measured: SFT in several settings, GRPO with the judge in its reward."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any, TypeVar

import PIL.Image
from transformers import AutoConfig

import pipelines.training.grpo
import pipelines.training.sft
from benchmarks.gpu.measures import Figures, Options, synchronised
from benchmarks.gpu.rows import PROMPTS, STYLE, rows_about
from benchmarks.gpu.vision import looped
from benchmarks.gpu.watch import Profiled, Profiler, Watch
from engine.config import MAX_PIXELS, load
from engine.config.training import Optimiser
from engine.lineage.opening import writing
from engine.records import Picture
from engine.trainer import write_training_set
from engine.training_job import TrainingJob
from pipelines.training.grpo import GrpoJob, questions_of, train_grpo
from pipelines.training.preflight.cost import passes
from pipelines.training.sft import SftJob, train_sft, turns_of

CONFIG = Path(__file__).parents[2] / "configs" / "medgr2-7b.yaml"
WARM_UP = 2  # steps of SFT that are not counted
FULL: dict[str, Any] = {
    "lora_rank": 0, "lr": 1e-5, "batch": 8, "accumulate": 1, "checkpointing": True,
}  # fmt: skip
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
    """The job's rows with their pictures' sizes, and its workspace with the pictures."""
    sizes = {name: PIL.Image.open(io.BytesIO(png)).size for name, png in pngs.items()}
    with writing(job.workspace, "gpu", {}) as workspace:
        stage = workspace.begin("ingest", 0, "pictures")
        stage.write(Picture, [Picture(id=n, png=png, signature=b"") for n, png in pngs.items()])
        workspace.commit(stage)
    write_training_set(
        job.data, [row | dict(zip(("width", "height"), sizes[row["image_id"]])) for row in rows]
    )


def sft(
    options: Options,
    steps: int | None = None,
    skip: int = WARM_UP,
    watch: Watch | None = None,
    **changed: Any,
) -> list[Figures]:
    """`train_sft` as configured, but for what is `changed` in its section."""
    if options.small:
        changed |= {"batch": 2, "accumulate": 2, "compile": False}
    steps = steps or options.steps + skip
    section = load(CONFIG).sft.model_copy(update=changed | {"epochs": 1})
    job = job_of(options, SftJob, section)
    rows, tasks, pngs = rows_about(steps * section.batch * section.accumulate, options.small)
    write_set(job, pngs, list(turns_of(rows, tasks, PROMPTS, None, 0, 0)))
    watch = watch or Watch()
    started = synchronised()
    result = watch.run(pipelines.training.sft, train_sft, job)
    config = AutoConfig.from_pretrained(options.model)
    return [
        {
            "batch": f"{section.batch} x {section.accumulate}",
            "load_s": round(watch.ends[0] - started, 1),
            **watch.figures(config, passes(section), options.peak, skip),
            "loss": result.loss,
        }
    ]


def lora_before(options: Options) -> list[Figures]:
    """As it was: one call a window, the tower adapted, checkpointed, rows at random, no loaders."""
    before: dict[str, Any] = {
        "lora_targets": "all",
        "checkpointing": True,
        "group_by_length": False,
        "loaders": 0,
    }
    with looped():
        return sft(options, 3, 2, accumulate=1, compile=False, **before)


def lora(options: Options) -> list[Figures]:
    """SFT as configured."""
    return sft(options)


def lora_eager(options: Options) -> list[Figures]:
    """As configured, but layers are not compiled."""
    return sft(options, compile=False)


def lora_checkpointed(options: Options) -> list[Figures]:
    """As configured, but activations are computed again."""
    return sft(options, checkpointing=True)


def lora_wide(options: Options) -> list[Figures]:
    """The same rows a step in batches of 8."""
    return sft(options, batch=8, accumulate=2)


def lora_widest(options: Options) -> list[Figures]:
    """The same rows a step in one batch of 16."""
    return sft(options, batch=16, accumulate=1)


def full(options: Options) -> list[Figures]:
    """All weights, float32 under bf16 arithmetic: 16 bytes a weight, checkpointed."""
    return sft(options, **FULL)


def full_frozen(options: Options) -> list[Figures]:
    """The same but for the vision tower's weights."""
    return sft(options, **FULL, freeze_vision=True)


def profile(options: Options) -> list[Figures]:
    """The seventh batch under torch's profiler, whose table is printed; as configured."""
    return profiled(options)


def profile_eager(options: Options) -> list[Figures]:
    """The same where layers are not compiled."""
    return profiled(options, compile=False)


def profiled(options: Options, **changed: Any) -> list[Figures]:
    """A batch of SFT under torch's profiler, with what is `changed`."""
    watch = Profiler()
    with contextlib.suppress(Profiled):
        sft(options, 4, watch=watch, **changed)
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
