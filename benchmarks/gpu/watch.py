"""Hooks that take a training's times from outside."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.profiler import ProfilerActivity
from transformers import TrainerCallback

from benchmarks.gpu.measures import (
    Figures,
    Seen,
    apart,
    counted,
    forward_operations,
    mark,
    on_gpu,
    peak_gib,
    spread,
    synchronised,
    timed,
)
from engine.trainer import watched
from engine.training_job import TrainingJob

GENERATES, REWARDS, PREPARES = "_generate_single_turn", "_calculate_rewards", "_prepare_inputs"


class Watch(TrainerCallback):
    """Times and batches of a training's steps; a step lasts from the end of the one before."""

    def __init__(self) -> None:
        self.ends: list[float] = []  # of the steps; the first is the training's begin
        self.begins: list[float] = []
        self.batches: list[dict[str, Any]] = []  # of the step under way, without what is large
        self.per_step: list[list[Seen]] = []
        self.visual: list[float] = []  # seconds of each step in the vision tower's forward passes
        self.marks: list[tuple[Any, Any]] = []  # where these begin and end, in the step under way
        self.padded = self.places = 0
        self.spent: dict[str, list[float]] = {}
        self.written: list[int] = []  # tokens of each generation
        self.trainer: Any = None

    def run(self, module: ModuleType, train: Callable[[Any], Any], job: TrainingJob) -> Any:
        """What a module's `train` returns for a job; it is watched, and its weights not written."""
        with (
            patch.object(module, "watched", self.watched),
            patch.object(module, "save_trained", lambda *given: None),
        ):
            return train(job)

    def watched(self, trainer: Any, job: TrainingJob) -> Any:
        """`engine.trainer.watched`, and the hooks."""
        self.trainer = watched(trainer, job)
        trainer.add_callback(self)
        trainer.training_step = functools.partial(self.training_step, trainer.training_step)
        tower = next(m for n, m in trainer.model.named_modules() if n.endswith("visual"))
        tower.forward = self.seen(tower.forward)
        for name in (GENERATES, REWARDS, PREPARES):
            if hasattr(trainer, name):
                setattr(trainer, name, self.noted(name, getattr(trainer, name)))
        return trainer

    def training_step(self, step: Any, model: Any, inputs: Any, *given: Any, **more: Any) -> Any:
        """A batch, of which is kept what is counted; GRPO's are rows of the data set."""
        if "attention_mask" in inputs:
            small = ("attention_mask", "image_grid_thw", "labels")
            self.batches.append({name: inputs[name] for name in small})
        return step(model, inputs, *given, **more)

    def noted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, its seconds noted under its name."""

        @functools.wraps(method)
        def call(*given: Any, **more: Any) -> Any:
            seconds, found = timed(functools.partial(method, *given, **more))
            self.spent.setdefault(name, []).append(seconds)
            if name == GENERATES:
                self.written.append(sum(map(len, found[0])))
            return found

        return call

    def seen(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The tower's forward pass, its begin and end marked; on a GPU nothing waits for them."""

        @functools.wraps(forward)
        def call(*given: Any, **more: Any) -> Any:
            begin = mark()
            found = forward(*given, **more)
            self.marks.append((begin, mark()))
            return found

        return call

    def on_train_begin(self, *given: Any, **more: Any) -> None:
        self.ends.append(synchronised())

    def on_step_begin(self, *given: Any, **more: Any) -> None:
        self.begins.append(time.perf_counter())

    def on_step_end(self, *given: Any, **more: Any) -> None:
        self.ends.append(synchronised())
        self.per_step.append([row for inputs in self.batches for row in counted(inputs)])
        for inputs in self.batches:
            self.padded += int((inputs["attention_mask"] == 0).sum())
            self.places += inputs["attention_mask"].numel()
        self.batches = []
        self.visual.append(sum(apart(*both) for both in self.marks))
        self.marks = []
        told = self.ends[-1] - self.ends[-2]
        print(f"  step {len(self.per_step)}: {told:.2f} s, {peak_gib()} GiB", flush=True)

    def figures(self, config: Any, passes: tuple[int, int], peak: float, skip: int) -> Figures:
        """Of SFT's steps after the first `skip`: times, tokens, MFU.

        So many `passes` of the language model and of the vision tower count; HFU has one more
        where the training is checkpointed, of the tower if it learns.
        """
        seconds = np.diff(self.ends)[skip:].tolist()
        waits = [begin - end for begin, end in zip(self.begins, self.ends)][skip:]
        rows = [row for step in self.per_step[skip:] for row in step]
        tokens = sum(n for n, _, _ in rows)
        total = sum(seconds)
        language = forward_operations(config, [(n, 0, scored) for n, _, scored in rows])
        tower = forward_operations(config, rows) - language
        useful = passes[0] * language + passes[1] * tower
        again = (language + (passes[1] > 1) * tower) * self.trainer.args.gradient_checkpointing
        return {
            "steps": len(seconds),
            **spread(seconds),
            "fetch_share": round(sum(waits) / total, 3),
            "vision_share": round(sum(self.visual[skip:]) / total, 3),
            "tokens_per_step": round(tokens / len(seconds)),
            "image_share": round(sum(patches // 4 for _, patches, _ in rows) / tokens, 3),
            "padding": round(self.padded / self.places, 3),
            "tokens_per_s": round(tokens / total),
            "mfu": round(useful / total / peak, 4),
            "hfu": round((useful + again) / total / peak, 4),
        }

    def rollout_figures(self, skip: int) -> Figures:
        """Of GRPO's steps after the first `skip`: times, and shares of what a step does."""
        seconds = np.diff(self.ends)[skip:].tolist()
        total = sum(seconds)
        generating = sum(self.spent[GENERATES][skip:])
        # `_prepare_inputs` generates and scores at a step's first batch, and is idle at its others.
        preparing = self.spent[PREPARES]
        each = len(preparing) // len(self.per_step)
        return {
            "steps": len(seconds),
            **spread(seconds),
            "generate_share": round(generating / total, 3),
            "reward_share": round(sum(self.spent[REWARDS][skip:]) / total, 3),
            "rollout_share": round(sum(preparing[skip * each :]) / total, 3),
            "tokens_per_s": round(sum(self.written[skip:]) / generating),
        }


class Profiled(Exception):
    """Ends a training whose seventh batch was profiled."""


class Profiler(Watch):
    """Times six batches, and prints torch's profile of the seventh; then raises Profiled."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def training_step(self, *given: Any, **more: Any) -> Any:
        step = functools.partial(super().training_step, *given, **more)
        if len(self.seconds) < 6:
            seconds, loss = timed(step)
            self.seconds.append(seconds)
            return loss
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu()
        with torch.profiler.profile(activities=kinds) as seen:
            timed(step)
        by = f"self_{'cuda' if on_gpu() else 'cpu'}_time_total"
        table = seen.key_averages().table(by, row_limit=30, max_name_column_width=48)
        print("\n".join(line.rstrip() for line in table.splitlines()), flush=True)
        raise Profiled
