"""Our training path at Qwen2.5-VL-7B's shape, with random weights, on one GPU.

    python -m benchmarks.gpu.train --folder /dev/shm/gpu            # ten minutes and more
    python -m benchmarks.gpu.train --small --stages lora full       # two stages, on a CPU

Each stage is a process of its own that calls what the pipeline's stage calls: `train_sft`,
`train_grpo`, `Judge.scores`, `TransformersVLM.generate`, with the sections of
`configs/medgr2-7b.yaml`. What is measured is hooked from outside: a callback takes the time of each
step, from the end of the one before, the fetching of its batch included. Trained weights are not
written. A stage that fails, for want of memory or otherwise, is a row that says so.

Assumed: the processor is Qwen2.5-VL's (patches of 14, merged 2 x 2), but the tokenizer is the tiny
model's, so that a text has more tokens than it would have; the vocabulary has the true size, so
that logits cost the true price. With random weights completions hardly ever end by themselves: each
has `--tokens` tokens. Images are phantoms of four sizes from 512 x 512 to `max_pixels`, chats are
the question bank's with the prompts `full`. Everything is drawn from seed 0. Tokens are those of
text and image together, padding not counted.

    MFU = k * forward operations / seconds / peak

Forward operations are 2 for each weight of a matrix and token, and attention's own (causal: half);
the output matrix counts for the tokens that are scored, which in SFT are those of the completions.
k is 3 where all weights are trained, 2 with LoRA, where frozen weights need no gradient; the
adapters' own operations are not counted. What checkpointing computes again counts in HFU alone.
The peak is 989 TFLOP/s, dense bfloat16 of an H100 or H200 (`--peak`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# So that asking whether there is a GPU leaves it free for the stages' own processes.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

CONFIG = Path("configs/medgr2-7b.yaml")
SIZES = ((512, 512), (768, 768), (1120, 896), (1001, 1001))  # the largest is max_pixels
KINDS = ("CT", "X-ray", "MR", "ultrasound")
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
SHAPES: dict[str, dict[str, Any]] = {
    "7B": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "mrope_section": [16, 24, 24],
    },
    "small": {
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "mrope_section": [4, 6, 6],
    },
}
SMALL_VISION = {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2}
WARM_UP = 2  # steps that are not counted
IGNORED = -100  # the label of a token that is not scored
Row = dict[str, Any]
Seen = tuple[int, int, int]  # of a row of a batch: tokens, patches of its image, tokens scored


def model_config(shape: str, tokenizer: Any) -> Any:
    """Qwen2.5-VL's configuration of a shape, with `tokenizer`'s special tokens."""
    from transformers import Qwen2_5_VLConfig

    text = dict(SHAPES[shape])
    tied, sections = text.pop("tie_word_embeddings"), text.pop("mrope_section")
    vision = VISION | {"out_hidden_size": text["hidden_size"]}
    if shape == "small":
        vision |= SMALL_VISION | {"fullatt_block_indexes": [1]}
    token = tokenizer.convert_tokens_to_ids
    return Qwen2_5_VLConfig(
        text_config=text
        | {
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 128000,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": sections,
            },
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "tie_word_embeddings": tied,
        },
        vision_config=vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=tied,
    )


def build_processor() -> Any:
    """Qwen2.5-VL's processor: true patches and pixel limits, the tiny model's tokenizer."""
    from transformers import (
        AutoTokenizer,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    from engine.vlm import tiny

    tokenizer = AutoTokenizer.from_pretrained(tiny.FOLDER)
    shape: dict[str, Any] = {
        "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**shape),
        chat_template=tiny.CHAT_TEMPLATE,
    )


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def synchronised() -> float:
    """The clock, once the GPU has done what it was given."""
    import torch

    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gib() -> float | None:
    """The most memory that tensors held at once in this process, in GiB."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 1) if on_gpu() else None


def make(options: argparse.Namespace) -> list[Row]:
    """Random weights, drawn on the device and saved in bfloat16, and the judge's folder on them."""
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration

    from engine.vlm.transformers import load_processor
    from reward_model.criteria import CRITERIA
    from reward_model.model import HEADS, SETTINGS

    folder = model_folder(options)
    row: Row = {"stage": "make"}
    if on_gpu():
        row |= {"matmul_tflops": matmul_tflops(), "copy_tbs": copy_tbs()}
    if (folder / "done").exists():
        return [row]
    started = synchronised()
    build_processor().save_pretrained(folder)
    config = model_config(options.shape, load_processor(str(folder)).tokenizer)
    torch.manual_seed(0)
    with torch.device("cuda" if on_gpu() else "cpu"):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    drawn = synchronised()
    text = config.text_config
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
    )
    model.save_pretrained(folder)
    row |= {
        "weights": sum(p.numel() for p in model.parameters()),
        "draw_s": round(drawn - started, 1),
        "save_s": round(synchronised() - drawn, 1),
    }
    judge = judge_folder(options)
    judge.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (judge / path.name).symlink_to(path)
    heads = {"weight": torch.randn(len(CRITERIA), text.hidden_size) * 0.02}
    save_file(heads | {"bias": torch.zeros(len(CRITERIA))}, judge / HEADS)
    settings = {
        "criteria": {"factuality": 0.6, "reasoning": 0.2, "relevance": 0.2},
        "prompts": "full",
        "max_pixels": options.max_pixels,
        "calibration": [1.0, 0.0],
    }
    (judge / SETTINGS).write_text(json.dumps(settings))
    (folder / "done").touch()
    return [row]


def matmul_tflops(side: int = 8192, times: int = 20) -> float:
    """What a bfloat16 matrix product of random numbers reaches."""
    import torch

    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    started = synchronised()
    for _ in range(times):
        a @ b
    return round(2 * side**3 * times / (synchronised() - started) / 1e12, 1)


def copy_tbs(size: int = 2**32, times: int = 10) -> float:
    """What a copy within the device's memory moves, read and written, in TB/s."""
    import torch

    a = torch.empty(size, device="cuda", dtype=torch.uint8).random_()
    b = torch.empty_like(a)
    b.copy_(a)
    started = synchronised()
    for _ in range(times):
        b.copy_(a)
    return round(2 * size * times / (synchronised() - started) / 1e12, 2)


def model_folder(options: argparse.Namespace) -> Path:
    return Path(options.folder) / options.shape


def judge_folder(options: argparse.Namespace) -> Path:
    return Path(options.folder) / f"{options.shape}-judge"


def pictures(options: argparse.Namespace) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(PNG by id, what each shows): phantoms of `SIZES` in turn, with noise."""
    from PIL import Image

    from generators.phantoms import draw, to_display

    rng = np.random.default_rng(0)
    pngs, truths = {}, {}
    for number in range(4 if options.small else 16):
        phantom = draw(KINDS[number // len(SIZES) % len(KINDS)], number, 128)
        width, height = SIZES[number % len(SIZES)]
        if options.small:
            width, height = width // 8, height // 8
        shown = Image.fromarray(to_display(phantom)).convert("L")
        pixels = np.asarray(shown.resize((width, height), Image.Resampling.BICUBIC), float)
        noisy = np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(noisy).save(out, "PNG")
        pngs[f"image{number}"], truths[f"image{number}"] = out.getvalue(), phantom.truth
    return pngs, truths


def questions(truths: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Rows to train on: questions of the bank with their reasoning and answers, images in turn."""
    from generators.prompts import answer_prompt

    from engine.answers import render_completion
    from generators import questions as bank

    rng = np.random.default_rng(0)
    names = list(truths)
    rows = []
    for place in range(number):
        name = names[place % len(names)]
        _, qa = bank.compose_any(truths[name], rng)
        reasoning = bank.rationale(truths[name], "step", rng)
        rows.append(
            {
                "image_id": name,
                "prompt": answer_prompt("full", qa.question, qa.options, "step"),
                "completion": render_completion(reasoning, qa.answer),
                "question": qa.question,
                "options": list(qa.options),
                "gold": qa.answer,
                "rationale": reasoning,
            }
        )
    return rows


def forward_operations(config: Any, rows: list[Seen]) -> float:
    """Operations of a forward pass over rows."""
    text, vision = config.text_config, config.vision_config
    hidden, layers = text.hidden_size, text.num_hidden_layers
    kv = hidden // text.num_attention_heads * text.num_key_value_heads
    weights = layers * (2 * hidden * (hidden + kv) + 3 * hidden * text.intermediate_size)
    width, merged = vision.hidden_size, vision.hidden_size * vision.spatial_merge_size**2
    seen = vision.depth * (4 * width**2 + 3 * width * vision.intermediate_size)
    seen += width * 3 * vision.temporal_patch_size * vision.patch_size**2
    seen += (merged**2 + merged * hidden) / vision.spatial_merge_size**2
    full = len(vision.fullatt_block_indexes)
    window = (vision.window_size // vision.patch_size) ** 2
    total = 0.0
    for tokens, patches, scored in rows:
        total += 2 * weights * tokens + 2 * layers * hidden * tokens**2
        total += 2 * hidden * text.vocab_size * scored
        total += 2 * seen * patches
        total += 4 * width * patches * (full * patches + (vision.depth - full) * window)
    return total


def counted(inputs: Any) -> list[Seen]:
    """Of each row of a batch that has one image a row; without labels nothing is scored."""
    tokens = inputs["attention_mask"].sum(1).tolist()
    patches = inputs["image_grid_thw"].prod(1).tolist()
    labels = inputs.get("labels")
    scored = [0] * len(tokens) if labels is None else (labels != IGNORED).sum(1).tolist()
    return list(zip(tokens, patches, scored))


class Watch:
    """Hooks that take a training's times: given to a stage in the place of `watched`."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.begins: list[float] = []
        self.batches: list[Row] = []  # of the step under way, without what is large
        self.per_step: list[list[Seen]] = []
        self.visual: list[float] = []  # seconds of each step in the vision tower's forward passes
        self.padded = self.places = 0
        self.spent: dict[str, list[float]] = {}
        self.written: list[int] = []  # tokens of each generation
        self.trainer: Any = None

    def watched(self, trainer: Any, arguments: dict[str, Any]) -> Any:
        """`engine.training.watched`, and the hooks."""
        from engine.training import watched

        watched(trainer, arguments)
        self.trainer = trainer
        trainer.add_callback(self.callback())
        step = trainer.training_step

        def counting(model: Any, inputs: Any, *given: Any, **more: Any) -> Any:
            if "attention_mask" in inputs:  # GRPO's are rows of the data set
                small = ("attention_mask", "image_grid_thw", "labels")
                self.batches.append({name: inputs[name] for name in small})
            return step(model, inputs, *given, **more)

        trainer.training_step = counting
        tower = next(m for n, m in trainer.model.named_modules() if n.endswith("visual"))
        tower.forward = self.timed("visual", tower.forward)
        for name in ("_generate_single_turn", "_calculate_rewards", "_prepare_inputs"):
            if hasattr(trainer, name):
                setattr(trainer, name, self.timed(name, getattr(trainer, name)))
        return trainer

    def count(self) -> list[Seen]:
        """The rows of the step that ended, whose batches are let go."""
        rows = []
        for inputs in self.batches:
            rows += counted(inputs)
            self.padded += int((inputs["attention_mask"] == 0).sum())
            self.places += inputs["attention_mask"].numel()
        self.batches = []
        return rows

    def timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, its seconds added to the step's."""

        @functools.wraps(method)
        def call(*given: Any, **more: Any) -> Any:
            started = synchronised()
            found = method(*given, **more)
            self.spent.setdefault(name, []).append(synchronised() - started)
            if name == "_generate_single_turn":
                self.written.append(sum(map(len, found[0])))
            return found

        return call

    def callback(self) -> Any:
        from transformers import TrainerCallback

        watch = self

        class Clock(TrainerCallback):
            def on_train_begin(self, *given: Any, **more: Any) -> None:
                watch.ends.append(synchronised())

            def on_step_begin(self, *given: Any, **more: Any) -> None:
                watch.begins.append(time.perf_counter())

            def on_step_end(self, *given: Any, **more: Any) -> None:
                watch.ends.append(synchronised())
                watch.per_step.append(watch.count())
                watch.visual.append(sum(watch.spent.pop("visual", [])))
                told = watch.ends[-1] - watch.ends[-2]
                print(f"  step {len(watch.per_step)}: {told:.2f} s, {peak_gib()} GiB", flush=True)

        return Clock()

    def figures(self, config: Any, times: int, again: bool, peak: float, skip: int) -> Row:
        """Of the steps after the first `skip`: times, tokens, MFU; `times` forward passes count."""
        seconds = np.diff(self.ends)[skip:]
        waits = [b - e for b, e in zip(self.begins, self.ends)][skip:]
        steps = self.per_step[skip:]
        tokens = sum(n for step in steps for n, _, _ in step)
        work = sum(forward_operations(config, step) for step in steps)
        total = float(seconds.sum())
        return {
            "steps": len(steps),
            "step_s": round(statistics.median(seconds), 3),
            "step_s_min": round(min(seconds), 3),
            "step_s_max": round(max(seconds), 3),
            "fetch_share": round(sum(waits) / total, 3),
            "vision_share": round(sum(self.visual[skip:]) / total, 3),
            "tokens_per_step": round(tokens / len(steps)),
            "image_share": round(sum(p // 4 for step in steps for _, p, _ in step) / tokens, 3),
            "padding": round(self.padded / self.places, 3),
            "tokens_per_s": round(tokens / total),
            "mfu": round(times * work / total / peak, 4),
            "hfu": round((times + again) * work / total / peak, 4),
        }


def section_arguments(options: argparse.Namespace, name: str, changed: Row) -> dict[str, Any]:
    """The arguments that the stage's own function gives its training, its section changed."""
    from engine.config import load
    from pipelines.sft import training_arguments

    config = load(CONFIG)
    section = getattr(config, name).model_copy(update=changed)
    config.max_pixels = options.max_pixels
    folder = Path(options.folder) / f"stage-{os.getpid()}"
    stage = SimpleNamespace(name=name, folder=folder, round=1)
    context = SimpleNamespace(config=config, path_of=lambda model: str(model_folder(options)))
    return training_arguments(context, stage, section, None)  # type: ignore[arg-type]


def sft(
    options: argparse.Namespace,
    changed: Row,
    steps: int,
    skip: int = WARM_UP,
    watch: Watch | None = None,
) -> Row:
    """`train_sft` for `steps` steps, its section of the configuration changed."""
    from engine.training import write_training_set
    from transformers import AutoConfig

    import pipelines.sft

    if options.small:
        changed = changed | {"batch": 2, "accumulate": 2}
    changed = changed | {"epochs": 1, "save_steps": 0}  # else the last step's would be written
    arguments = section_arguments(options, "sft", changed)
    pngs, truths = pictures(options)
    rows = questions(truths, steps * arguments["batch"] * arguments["accumulate"])
    write_training_set(Path(arguments["data"]), pngs, rows)
    watch = watch or Watch()
    pipelines.sft.watched = watch.watched
    pipelines.sft.save_trained = lambda *given: None
    started = time.perf_counter()
    result = pipelines.sft.train_sft(arguments)
    lora = arguments["lora_rank"] > 0
    config = AutoConfig.from_pretrained(model_folder(options))
    checkpointed = bool(watch.trainer.args.gradient_checkpointing)
    return {
        "batch": f"{arguments['batch']} x {arguments['accumulate']}",
        "load_s": round(watch.ends[0] - started, 1),
        **watch.figures(config, 2 if lora else 3, checkpointed, options.peak * 1e12, skip),
        "loss": result["loss"],
    }


def lora(options: argparse.Namespace) -> list[Row]:
    """SFT as configured: LoRA of rank 64, gradients checkpointed, batches of 4 x 4."""
    return [sft(options, {}, options.steps + WARM_UP)]


def lora_wide(options: argparse.Namespace) -> list[Row]:
    """The same rows a step in one batch of 16."""
    return [sft(options, {"batch": 16, "accumulate": 1}, options.steps + WARM_UP)]


def lora_kept(options: argparse.Namespace) -> list[Row]:
    """Without checkpointing: activations are kept, nothing is computed again."""
    give(gradient_checkpointing=False)
    return [sft(options, {}, options.steps + WARM_UP)]


def lora_workers(options: argparse.Namespace) -> list[Row]:
    """With four processes that prepare batches while the GPU works."""
    give(dataloader_num_workers=4, dataloader_prefetch_factor=4)
    return [sft(options, {}, options.steps + WARM_UP)]


def lora_varlen(options: argparse.Namespace) -> list[Row]:
    """With one attention call for all windows and images of the vision tower."""
    use_varlen()
    return [sft(options, {}, options.steps + WARM_UP)]


def lora_best(options: argparse.Namespace) -> list[Row]:
    """Worker processes and one attention call together."""
    give(dataloader_num_workers=4, dataloader_prefetch_factor=4)
    return lora_varlen(options)


def use_varlen() -> None:
    """Let the vision tower attend by `varlen` in the place of our `_attend`."""
    from engine.vlm import attention

    attention._attend = varlen


def give(**extra: Any) -> None:
    """Let TRL's SFTConfig be given `extra` beside what our code says."""
    import trl

    given: Any = trl.SFTConfig
    setattr(trl, "SFTConfig", lambda **ours: given(**(ours | extra)))  # noqa: B010


def profile(options: argparse.Namespace) -> list[Row]:
    """The third batch under torch's profiler, whose table is printed; else as `lora_varlen`."""
    import torch
    from torch.profiler import ProfilerActivity

    class Done(Exception):
        """Ends the training."""

    class Profiled(Watch):
        def watched(self, trainer: Any, arguments: dict[str, Any]) -> Any:
            trainer = super().watched(trainer, arguments)
            step = trainer.training_step

            def batch(*given: Any, **more: Any) -> Any:
                started = synchronised()
                if len(seconds) < 2:
                    found = step(*given, **more)
                    seconds.append(synchronised() - started)
                    return found
                kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu()
                with torch.profiler.profile(activities=kinds) as seen:
                    step(*given, **more)
                    synchronised()
                by = f"self_{'cuda' if on_gpu() else 'cpu'}_time_total"
                print(seen.key_averages().table(sort_by=by, row_limit=16)[:7000], flush=True)
                raise Done

            trainer.training_step = batch
            return trainer

    seconds: list[float] = []
    if on_gpu():
        use_varlen()
    with contextlib.suppress(Done):
        sft(options, {}, 2, watch=Profiled())
    return [{"note": "the batch before", "step_s": round(seconds[-1], 3)}]


def varlen(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """`engine.vlm.attention._attend` by torch's attention over chunks of any lengths."""
    from torch.nn.attention.varlen import varlen_attn

    bounds = kwargs["cu_seq_lens_q"]
    longest = int(kwargs["max_length_q"])
    q, k, v = (t[0].transpose(0, 1).contiguous() for t in (query, key, value))
    out: Any = varlen_attn(q, k, v, bounds, bounds, longest, longest)
    return out[None], None


def full(options: argparse.Namespace) -> list[Row]:
    """All weights, in bfloat16 as our code loads them with `bf16`: Adam's moments are too."""
    changed = {"lora_rank": 0, "lr": 1e-5, "batch": 2, "accumulate": 4}
    return [sft(options, changed, 4, skip=1)]


def full_float32(options: argparse.Namespace) -> list[Row]:
    """All weights in float32, as our code loads them without `bf16`: 16 bytes a weight."""
    changed = {"lora_rank": 0, "lr": 1e-5, "batch": 1, "accumulate": 1, "bf16": False}
    return [sft(options, changed, 3, skip=1)]


def judge(options: argparse.Namespace) -> list[Row]:
    """`Judge.scores` on judge prompts; how long the processor alone takes for the same."""
    from engine.vlm import Request
    from engine.vlm.inputs import sift
    from reward_model.criteria import judge_prompt
    from reward_model.scoring import Judge

    pngs, truths = pictures(options)
    number = 8 if options.small else 32
    requests = [
        Request(
            pngs[row["image_id"]],
            judge_prompt("full", row["question"], row["options"], row["rationale"], row["gold"]),
        )
        for row in questions(truths, number)
    ]
    started = time.perf_counter()
    scorer = Judge(str(judge_folder(options)), "judge", options.threads)
    loaded = synchronised()
    scorer.scores(requests[:8])
    found: Any = None
    times = []
    for _ in range(3):
        before = synchronised()
        found = scorer.scores(requests)
        times.append(synchronised() - before)
    before = time.perf_counter()
    inputs, _ = sift(scorer.processor, requests, options.max_pixels)
    processor = time.perf_counter() - before
    work = forward_operations(scorer.model.backbone.config, counted(inputs))
    tokens = int(inputs["attention_mask"].sum())
    median = statistics.median(times)
    return [
        {
            "batch": f"{number}",
            "load_s": round(loaded - started, 1),
            "step_s": round(median, 3),
            "step_s_min": round(min(times), 3),
            "step_s_max": round(max(times), 3),
            "fetch_share": round(processor / median, 3),
            "rows_per_s": round(number / median, 2),
            "tokens_per_s": round(tokens / median),
            "mfu": round(work / median / options.peak / 1e12, 4),
            "finite": bool(np.isfinite(found).all()),
        }
    ]


def generate(options: argparse.Namespace) -> list[Row]:
    """`TransformersVLM.generate`: eight samples for each of 16 requests; then the vision tower."""
    from engine.vlm import Request, Sampling
    from engine.vlm.transformers import TransformersVLM

    pngs, truths = pictures(options)
    number = 2 if options.small else 16
    requests = [Request(pngs[r["image_id"]], r["prompt"]) for r in questions(truths, number)]
    started = time.perf_counter()
    vlm = TransformersVLM(
        str(model_folder(options)), options.threads, 4096, max_pixels=options.max_pixels
    )
    loaded = synchronised()
    vlm.generate(requests[:1], Sampling(1, 1.0, 8, 0))
    rows: list[Row] = []
    for samples, tokens in ((1, 1), (8, 1), (8, options.tokens)):
        before = synchronised()
        replies = vlm.generate(requests, Sampling(samples, 1.0, tokens, 0))
        seconds = synchronised() - before
        written = sum(s.tokens for reply in replies for s in reply)
        rows.append(
            {
                "batch": f"{number} x {samples}",
                "note": f"{tokens} tokens each",
                "load_s": round(loaded - started, 1),
                "step_s": round(seconds, 3),
                "rows_per_s": round(number / seconds, 2),
                "tokens_per_s": round(written / seconds),
                "peak_gib": peak_gib(),
                "finite": all(np.isfinite(s.logprob or 0.0) for reply in replies for s in reply),
            }
        )
    return rows + vision(options, vlm, requests[:4])


def vision(options: argparse.Namespace, vlm: Any, requests: list[Any]) -> list[Row]:
    """Forward passes of the vision tower, by attention, and of the language model alone."""
    import torch
    from transformers import AttentionInterface

    from engine.vlm.attention import NAME
    from engine.vlm.inputs import encode

    inputs = encode(vlm.processor, requests, options.max_pixels).to(vlm.model.device)
    tower = vlm.model.model.visual
    pixels, grid = inputs["pixel_values"].to(tower.dtype), inputs["image_grid_thw"]
    AttentionInterface.register("varlen_flash", varlen)
    rows: list[Row] = []
    ours: Any = None
    for name in (NAME, "sdpa", "varlen_flash") if on_gpu() else (NAME, "sdpa"):
        tower.config._attn_implementation = name
        call = functools.partial(tower, pixels, grid)
        try:
            median, found = median_of(call)
        except Exception as error:
            rows.append({"stage": "vision", "note": name, "error": one_line(error)})
            continue
        ours = found if ours is None else ours
        apart = torch.linalg.vector_norm((found - ours).float()) / torch.linalg.vector_norm(
            ours.float()
        )
        rows.append(
            {
                "stage": "vision",
                "note": name,
                "batch": f"{len(requests)}",
                "step_s": round(median, 4),
                "patches": len(pixels),
                "apart": round(float(apart), 6),
            }
        )
    tower.config._attn_implementation = NAME
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    text = functools.partial(vlm.model, input_ids=ids, attention_mask=mask, use_cache=False)
    median, _ = median_of(lambda: text().logits)
    tokens = int(mask.sum())
    rows.append(
        {
            "stage": "text",
            "note": "forward with logits, images as words",
            "batch": f"{len(requests)}",
            "step_s": round(median, 4),
            "tokens_per_s": round(tokens / median),
            "mfu": round(
                forward_operations(vlm.model.config, [(n, 0, n) for n in mask.sum(1).tolist()])
                / median
                / options.peak
                / 1e12,
                4,
            ),
        }
    )
    return rows


def median_of(call: Callable[[], Any], times: int = 5) -> tuple[float, Any]:
    """(median seconds of a forward pass after two that warm up, the last one's result)."""
    import torch

    taken = []
    with torch.no_grad():
        for _ in range(times + 2):
            started = synchronised()
            found = call()
            taken.append(synchronised() - started)
    if not torch.is_tensor(found):
        found = found[0] if isinstance(found, tuple | list) else found.last_hidden_state
    return statistics.median(taken[2:]), found


def grpo(options: argparse.Namespace) -> list[Row]:
    """`train_grpo` as configured: 32 completions a step, the judge in the reward."""
    from engine.training import write_training_set

    import pipelines.grpo

    changed: Row = {"steps": options.grpo_steps, "max_tokens": options.tokens}
    if options.small:
        changed |= {"batch": 4, "accumulate": 2, "group": 4}
    arguments = section_arguments(options, "grpo", changed)
    arguments |= {"judge": str(judge_folder(options))}
    pngs, truths = pictures(options)
    write_training_set(Path(arguments["data"]), pngs, questions(truths, 16))
    watch = Watch()
    pipelines.grpo.watched = watch.watched
    pipelines.grpo.save_trained = lambda *given: None
    started = time.perf_counter()
    pipelines.grpo.train_grpo(arguments)
    seconds = np.diff(watch.ends)[1:]
    total = float(seconds.sum())
    generating = watch.spent["_generate_single_turn"][1:]
    preparing = watch.spent["_prepare_inputs"]
    # `_prepare_inputs` generates and scores at a step's first batch, and is idle at its others.
    each = len(preparing) // len(watch.per_step)
    prepared = sum(preparing[each:])
    return [
        {
            "batch": f"{arguments['batch']} x {arguments['accumulate']}",
            "note": f"{options.tokens} tokens each",
            "load_s": round(watch.ends[0] - started, 1),
            "steps": len(seconds),
            "step_s": round(statistics.median(seconds), 3),
            "step_s_min": round(min(seconds), 3),
            "step_s_max": round(max(seconds), 3),
            "generate_share": round(sum(generating) / total, 3),
            "reward_share": round(sum(watch.spent["_calculate_rewards"][1:]) / total, 3),
            "rollout_share": round(prepared / total, 3),
            "tokens_per_s": round(sum(watch.written[1:]) / sum(generating)),
        }
    ]


STAGES: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "make": make,
    "lora": lora,
    "judge": judge,
    "generate": generate,
    "grpo": grpo,
    "full": full,
    "full_float32": full_float32,
    "lora_wide": lora_wide,
    "lora_varlen": lora_varlen,
    "lora_workers": lora_workers,
    "lora_kept": lora_kept,
    "lora_best": lora_best,
    "profile": profile,
}
WHOLE = ("make", "lora", "generate", "judge", "full", "grpo", "full_float32")


def one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def in_child(name: str, options: argparse.Namespace, pipe: Any) -> None:
    """A stage in its own process: its rows, or a row that says what it failed with."""
    import torch

    if not on_gpu():
        torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        rows = STAGES[name](options)
        for row in rows:
            row.setdefault("peak_gib", peak_gib())
    except Exception as error:
        traceback.print_exc()
        rows = [{"error": one_line(error), "peak_gib": peak_gib()}]
    took = round(time.perf_counter() - started, 1)
    pipe.send([{"stage": name, "took_s": took} | row for row in rows])


def run_stage(name: str, options: argparse.Namespace, limit: float) -> list[Row]:
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
    import subprocess
    from importlib.metadata import version

    try:
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv"]
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        name = said.strip().splitlines()[-1]
    except (OSError, subprocess.CalledProcessError):
        name = "none"
    libraries = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
    return {"card": name, "python": sys.version.split()[0]} | {n: version(n) for n in libraries}


def table(rows: list[Row]) -> None:
    """Print rows as a Markdown table with the columns that any of them has."""
    told = ["stage", "batch", "note", "step_s", "step_s_min", "step_s_max", "steps", "fetch_share",
            "vision_share", "tokens_per_step", "padding", "tokens_per_s", "rows_per_s", "mfu",
            "hfu", "peak_gib", "generate_share", "reward_share", "rollout_share", "load_s",
            "error"]  # fmt: skip
    heads = [head for head in told if any(head in row for row in rows)]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(head, '')) for head in heads)} |")
    print()


def main() -> None:
    """Run the stages; print a table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(WHOLE))
    parser.add_argument("--folder", default="/tmp/triptych-gpu", help="where weights are written")
    parser.add_argument("--small", action="store_true", help="a small shape, for a CPU")
    parser.add_argument("--steps", type=int, default=4, help="SFT steps after the warm-up")
    parser.add_argument("--grpo-steps", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256, help="of each completion")
    parser.add_argument("--threads", type=int, default=8, help="of torch")
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s")
    parser.add_argument("--seconds", type=float, default=900, help="after which no stage begins")
    options = parser.parse_args()
    options.shape = "small" if options.small else "7B"
    options.max_pixels = 1280 * 28 * 28
    if options.small:
        options.steps, options.grpo_steps, options.tokens, options.threads = 2, 2, 8, 1
    began = time.monotonic()
    import peft
    import transformers
    import trl
    from trl import GRPOTrainer, SFTTrainer

    del peft, transformers, trl, GRPOTrainer, SFTTrainer  # imported once, for all stages
    print(f"imports: {time.monotonic() - began:.1f} s", flush=True)
    model_folder(options).mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in dict.fromkeys(["make", *options.stages]):
        left = options.seconds - (time.monotonic() - began)
        if left < 15:
            rows.append({"stage": name, "error": "not run: no time was left"})
            continue
        told = len(rows)
        rows += run_stage(name, options, left)
        for row in rows[told:]:
            print(json.dumps(row), flush=True)
    table(rows)
    print(json.dumps({"benchmark": "gpu.train", **card(), "peak_tflops": options.peak,
                      "shape": options.shape, "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
