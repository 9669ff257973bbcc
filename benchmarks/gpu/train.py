"""Our training path at Qwen2.5-VL-7B's shape, with random weights, on one GPU.

    python -m benchmarks.gpu.train --folder /dev/shm/gpu            # ten minutes and more
    python -m benchmarks.gpu.train --small --stages lora full       # two stages, on a CPU

Each stage is a process of its own that calls what the pipeline's stage calls: `train_sft`,
`train_grpo`, `Judge.scores`, `TransformersVLM.generate`, with the sections of
`configs/medgr2-7b.yaml`. What is measured is hooked from outside: a callback takes the time of each
step, from the end of the one before, the fetching of its batch included. Trained weights are not
written. A stage that fails, for want of memory or otherwise, is a row that says so.

`training`, `inference` and `vision` hold the stages, `model` what they run on, `rows` what they are
given, `watch` the hooks, `measures` the operations that are counted.

Assumed: the processor is Qwen2.5-VL's (patches of 14, merged 2 x 2), but the tokenizer is the tiny
model's, so that a text has more tokens than it would have; the vocabulary has the true size, so
that logits cost the true price. With random weights completions hardly ever end by themselves: each
has `--tokens` tokens. Images are phantoms of four sizes from 512 x 512 to `max_pixels`, chats are
the simulated expert's rows with the prompts `full`. Tokens are those of text and image together,
padding not counted.

    MFU = k * forward operations / seconds / peak

Forward operations are 2 for each weight of a matrix and token, and attention's own (causal: half);
the output matrix counts for the tokens that are scored, which in SFT are those of the completions.
k is 3 where all weights are trained, 2 with LoRA, where frozen weights need no gradient, and 1 for
a vision tower that learns nothing; the adapters' own operations are not counted. What
checkpointing computes again counts in HFU alone.
The peak is 989 TFLOP/s, dense bfloat16 of an H100 or H200 (`--peak`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer, SFTTrainer

from benchmarks.gpu import inference, training, vision
from benchmarks.gpu.measures import Figures, Options, on_gpu, one_line, peak_gib
from benchmarks.gpu.model import make

IMPORTED = (GRPOTrainer, SFTTrainer)  # once, for the processes of all stages
STAGES: dict[str, Callable[[Options], list[Figures]]] = {
    "make": make,
    "lora_before": training.lora_before,
    "lora": training.lora,
    "lora_eager": training.lora_eager,
    "lora_wide": training.lora_wide,
    "lora_widest": training.lora_widest,
    "lora_checkpointed": training.lora_checkpointed,
    "profile": training.profile,
    "profile_eager": training.profile_eager,
    "full": training.full,
    "full_frozen": training.full_frozen,
    "vision": vision.vision,
    "judge": inference.judge,
    "generate": inference.generate,
    "grpo": training.grpo,
}
COLUMNS = (
    "stage batch note step_s step_s_min step_s_max steps fetch_share vision_share tokens_per_step "
    "padding tokens_per_s rows_per_s mfu hfu peak_gib generate_share reward_share rollout_share "
    "load_s from_float32 from_float32_attention error"
).split()


def in_child(name: str, options: Options, pipe: Any) -> None:
    """A stage in its own process: its rows, or a row that says what it failed with."""
    if not on_gpu():
        torch.set_num_threads(options.threads)
    started = time.perf_counter()
    try:
        rows = STAGES[name](options)
    except Exception as error:
        traceback.print_exc()
        rows = [{"error": one_line(error)}]
    all_of_it = {"took_s": round(time.perf_counter() - started, 1), "peak_gib": peak_gib()}
    pipe.send([{"stage": name} | all_of_it | row for row in rows])


def run_stage(name: str, options: Options, limit: float) -> list[Figures]:
    """A stage's rows; one that says so where it died or took longer than `limit` seconds."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(False)
    process = context.Process(target=in_child, args=(name, options, sender))
    print(f"{name}: {STAGES[name].__doc__}", flush=True)
    process.start()
    sender.close()
    try:
        if receiver.poll(limit):
            return list(receiver.recv())
        return [{"stage": name, "error": f"stopped after {limit:.0f} s"}]
    except EOFError:
        process.join()
        return [{"stage": name, "error": f"its process ended with {process.exitcode}"}]
    finally:
        process.kill()
        process.join()


def card() -> dict[str, str]:
    """The card and the versions of what the figures depend on, without touching the GPU."""
    try:
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv"]
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        name = said.strip().splitlines()[-1]
    except (OSError, subprocess.CalledProcessError):
        name = "none"
    libraries = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
    return {"card": name, "python": sys.version.split()[0]} | {n: version(n) for n in libraries}


def table(rows: list[Figures]) -> None:
    """Print rows as a Markdown table with the columns that any of them has."""
    heads = [head for head in COLUMNS if any(row.get(head) is not None for row in rows)]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(head, '')) for head in heads)} |")
    print()


def parsed() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--folder", default="/tmp/triptych-gpu", help="where weights are written")
    parser.add_argument("--small", action="store_true", help="a small shape, for a CPU")
    parser.add_argument("--steps", type=int, default=4, help="SFT steps after the warm-up")
    parser.add_argument("--grpo-steps", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256, help="of each completion")
    parser.add_argument("--threads", type=int, default=8, help="of torch")
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s")
    parser.add_argument("--seconds", type=float, default=1800, help="after which no stage begins")
    parser.add_argument("--each", type=float, default=300, help="seconds a stage may take")
    return parser.parse_args()


def main() -> None:
    """Run the stages; print a table and the line of JSON."""
    began = time.monotonic()
    said = parsed()
    options = Options(
        folder=Path(said.folder),
        small=said.small,
        steps=2 if said.small else said.steps,
        grpo_steps=2 if said.small else said.grpo_steps,
        tokens=8 if said.small else said.tokens,
        threads=1 if said.small else said.threads,
        peak=said.peak * 1e12,
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Figures] = []
    for name in dict.fromkeys(["make", *said.stages]):
        left = said.seconds - (time.monotonic() - began)
        if left < 15:
            rows.append({"stage": name, "error": "not run: no time was left"})
            continue
        found = run_stage(name, options, min(left, said.each))
        rows += found
        for row in found:
            print(json.dumps(row), flush=True)
    table(rows)
    summary = {"peak_tflops": said.peak, "shape": options.shape, "rows": rows}
    print(json.dumps({"benchmark": "gpu.train", **card(), **summary}))


if __name__ == "__main__":
    main()
