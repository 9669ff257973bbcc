"""What is measured with: clocks, the device's memory, and the operations of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.training.preflight.shapes import Seen, shape_of

IGNORED = -100  # the label of a token that is not scored
Figures = dict[str, Any]  # a line of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured: `peak` is in operations a second, `tokens` are those of a completion."""

    folder: Path
    small: bool
    steps: int
    grpo_steps: int
    tokens: int
    threads: int
    peak: float

    @property
    def shape(self) -> str:
        return "small" if self.small else "7B"

    @property
    def model(self) -> Path:
        """The folder of the policy, and of the judge."""
        return self.folder / self.shape


def on_gpu() -> bool:
    return torch.cuda.is_available()


def synchronised() -> float:
    """The clock in seconds, once the GPU has done what it was given."""
    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def mark() -> Any:
    """A moment in the GPU's work, or on the clock where there is none."""
    if not on_gpu():
        return time.perf_counter()
    moment = torch.cuda.Event(enable_timing=True)
    moment.record()
    return moment


def apart(begin: Any, end: Any) -> float:
    """Seconds between two marks that the GPU has passed."""
    return float(begin.elapsed_time(end)) / 1000 if on_gpu() else end - begin


def peak_gib() -> float | None:
    """The most memory that tensors held at once in this process, in GiB; None without a GPU."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 1) if on_gpu() else None


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of a call."""
    started = synchronised()
    found = call()
    return synchronised() - started, found


def forward(call: Callable[[], Any], times: int = 5) -> tuple[float, Any]:
    """(median seconds of a forward pass after two that warm up, the last one's result)."""
    taken = []
    with torch.no_grad():
        for _ in range(times + 2):
            seconds, found = timed(call)
            taken.append(seconds)
    return statistics.median(taken[2:]), found


def spread(seconds: Sequence[float]) -> Figures:
    """Median and range of times in seconds."""
    return {
        "step_s": round(statistics.median(seconds), 4),
        "step_s_min": round(min(seconds), 4),
        "step_s_max": round(max(seconds), 4),
    }


def one_line(error: BaseException) -> str:
    """An error's kind and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def matmul_tflops(side: int = 8192, times: int = 20) -> float:
    """What a bfloat16 matrix product of random numbers reaches, in TFLOP/s."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    seconds, _ = timed(lambda: [a @ b for _ in range(times)][-1])
    return round(2 * side**3 * times / seconds / 1e12, 1)


def copy_tbs(size: int = 2**32, times: int = 10) -> float:
    """What a copy within the device's memory moves, read and written, in TB/s."""
    a = torch.empty(size, device="cuda", dtype=torch.uint8).random_()
    b = torch.empty_like(a)
    b.copy_(a)
    seconds, _ = timed(lambda: [b.copy_(a) for _ in range(times)])
    return round(2 * size * times / seconds / 1e12, 2)


def forward_operations(config: Any, rows: list[Seen]) -> float:
    """Operations of a forward pass over rows of a model with Qwen2.5-VL's configuration."""
    return sum(shape_of(config.to_dict()).operations(rows))


def counted(inputs: Any) -> list[Seen]:
    """Of each row of a batch that has one image a row; without labels nothing is scored."""
    tokens = inputs["attention_mask"].sum(1).tolist()
    patches = inputs["image_grid_thw"].prod(1).tolist()
    labels = inputs.get("labels")
    scored = [0] * len(tokens) if labels is None else (labels != IGNORED).sum(1).tolist()
    return list(zip(tokens, patches, scored))
