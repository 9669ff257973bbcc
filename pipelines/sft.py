"""SFT with TRL's SFTTrainer on Ray Train: the policy of a round, and the generator.

A row teaches answering its question in its own style; a share of rows also teaches asking it, so
that the same weights can generate the next round.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import cluster
from engine.answers import render_completion, render_question
from engine.config import Optimiser
from engine.errors import TriptychError
from engine.records import Decision, Image, Model, Task, Triplet
from engine.training import (
    common_arguments,
    first_use,
    last_checkpoint,
    lora,
    prepare,
    read_training_set,
    resumable,
    save_trained,
    steps_done,
    watched,
    weights_dtype,
    write_training_set,
)
from engine.workspace import Stage
from generators.expert import EXPERT
from generators.prompts import answer_prompt, ask_prompt
from generators.questions import DIFFICULTIES
from pipelines.context import Context

Turn = dict[str, str]  # image_id, prompt, completion


def turns_of(
    triplets: list[Triplet],
    tasks: dict[str, Task],
    prompts: str,
    style: str | None,
    ask_share: float,
    seed: int,
) -> list[Turn]:
    """Training turns: each row answered in its style and in `style`, and some of them asked."""
    rng = np.random.default_rng(seed)
    turns = []
    for row in triplets:
        task = tasks[row.task_id]
        for wanted in dict.fromkeys(s for s in (task.prompt_style, style) if s):
            reasoning = row.rationale if wanted == task.prompt_style else ""
            if wanted != "direct" and not reasoning:
                continue
            turns.append(
                {
                    "image_id": row.image_id,
                    "prompt": answer_prompt(prompts, row.question, row.options, wanted),
                    "completion": render_completion(reasoning, row.answer),
                }
            )
        if rng.random() < ask_share:
            fields = task.to_dict()
            if fields["difficulty"] not in DIFFICULTIES:  # so that any may be asked for
                fields["difficulty"] = str(rng.choice(DIFFICULTIES))
            turns.append(
                {
                    "image_id": row.image_id,
                    "prompt": ask_prompt(prompts, fields),
                    "completion": render_question(row.question, row.options),
                }
            )
    return turns


def chat_dataset(data: Path, processor: Any, max_pixels: int) -> Any:
    """A training set as TRL reads it; images are decoded when a batch needs them.

    Pictures are within `max_pixels`, and the processor's special tokens in a text are words.
    """
    from datasets import Dataset

    from engine.vlm.inputs import picture, plain

    images, rows = read_training_set(data)
    dataset = Dataset.from_list(rows)

    def decode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        batch["images"] = [[picture(images[i], max_pixels)] for i in batch["image_id"]]
        for column, role in (("prompt", "user"), ("completion", "assistant")):
            if column in batch:
                said = [plain(text, processor.tokenizer) for text in batch[column]]
                batch[column] = [[{"role": role, "content": text}] for text in said]
        return batch

    dataset.set_transform(decode)
    return dataset


def train_sft(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's loop, or a plain call: SFT of `model` on `data`, weights to `out`."""
    from trl import SFTConfig, SFTTrainer

    from engine.vlm.transformers import load_model, load_processor

    prepare(arguments)
    processor = load_processor(arguments["model"])
    trainer = resumable(SFTTrainer)(
        model=load_model(arguments["model"], weights_dtype(arguments)),
        args=SFTConfig(
            **common_arguments(arguments),
            max_length=None,  # truncation would cut image tokens
            completion_only_loss=True,
            gradient_checkpointing=arguments["lora_rank"] > 0,
        ),
        train_dataset=chat_dataset(Path(arguments["data"]), processor, arguments["max_pixels"]),
        processing_class=processor,
        peft_config=lora(arguments),
    )
    result = watched(trainer, arguments).train(resume_from_checkpoint=last_checkpoint(arguments))
    if trainer.is_world_process_zero():
        save_trained(trainer.model, processor, Path(arguments["out"]))
    return {"loss": round(result.training_loss, 4), "steps": trainer.state.global_step}


def training_arguments(
    context: Context, stage: Stage, section: Optimiser, model: Model
) -> dict[str, Any]:
    """What every training loop is given; paths are absolute, for workers run elsewhere."""
    return section.model_dump() | {
        "stage": stage.name,
        "section": type(section).__name__.lower(),
        "model": context.path_of(model),
        "data": str((stage.folder / "data").resolve()),
        "out": str((stage.folder / "weights").resolve()),
        "seed": context.config.seed + stage.round,
        "threads": context.config.cluster.threads,
        "max_pixels": context.config.max_pixels,
    }


def rows_per_step(section: Optimiser) -> int:
    """How many rows of the training set an optimiser step takes."""
    return section.batch * section.accumulate * section.workers


def train_on_cluster(
    context: Context, loop: Callable[[dict[str, Any]], dict[str, Any]], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Run a training loop on Ray Train, its steps shown in the terminal."""

    def show() -> None:
        while not ended.wait(0.5):
            steps = steps_done(arguments["out"])
            if steps:
                context.display.advance(*steps, "steps")

    ended = threading.Event()
    watcher = threading.Thread(target=show, daemon=True)
    watcher.start()
    try:
        threads = context.config.cluster.threads
        return cluster.train(loop, arguments, arguments["workers"], threads, arguments["gpus"])
    finally:
        ended.set()
        watcher.join()


def kept_triplets(context: Context, rounds: int) -> list[Triplet]:
    """Rows that select kept in rounds 1 to `rounds`, in the order generated."""
    kept = {d.triplet_id for d in context.rows(Decision) if d.keep and d.round <= rounds}
    return [t for t in context.rows(Triplet, "generate") if t.id in kept]


def fresh_triplets(context: Context, kept: list[Triplet]) -> list[Triplet]:
    """Of the kept rows those left to GRPO: a question is left in every round or in none."""
    share = context.config.grpo.share if context.config.grpo.steps else 0.0
    return [t for t in kept if int(t.question_key[:8], 16) < share * 2**32]


def seed_triplets(context: Context) -> list[Triplet]:
    """The expert's own rows."""
    return [t for t in context.rows(Triplet, "seed") if t.generator_id == EXPERT]


def _train(
    context: Context, stage: Stage, model: Model, role: str, triplets: list[Triplet]
) -> None:
    if not triplets:
        raise TriptychError(
            f"{stage.name}: no rows to train on; loosen select.keep or ask for more"
        )
    config = context.config
    tasks = {t.id: t for t in context.rows(Task)}
    style, ask_share = config.evaluate.style, config.sft.ask_share
    turns = turns_of(triplets, tasks, config.generator.prompts, style, ask_share, config.seed)
    pngs = context.pngs()
    used = {turn["image_id"]: pngs[turn["image_id"]] for turn in turns}
    write_training_set(stage.folder / "data", used, turns)
    arguments = training_arguments(context, stage, config.sft, model)
    metrics = train_on_cluster(context, train_sft, arguments)
    stage.metrics = metrics | {"rows": len(triplets), "turns": len(turns)}
    folder = stage.folder / "weights"
    use = first_use(len(turns), rows_per_step(config.sft), metrics["steps"])
    context.add_model(
        stage, role, folder, model, json.dumps(metrics), triplets, metrics["steps"], use
    )


def tune(context: Context, stage: Stage) -> None:
    """The generator: the base tuned on the expert seed; it asks and answers."""
    _train(context, stage, context.base(), "generator", seed_triplets(context))


def sft(context: Context, stage: Stage) -> None:
    """The policy of a round: the base tuned on the seed and on rows kept so far.

    Questions left to GRPO are not among them.
    """
    kept = kept_triplets(context, stage.round)
    left = {t.id for t in fresh_triplets(context, kept)}
    rows = seed_triplets(context) + [t for t in kept if t.id not in left]
    if not rows:
        context.display.warn(f"sft, round {stage.round}: no rows to learn from, so it is left out")
        stage.metrics = {"skipped": "no rows to learn from"}
        return
    _train(context, stage, context.base(), "sft", rows)


def training_images(context: Context) -> list[Image]:
    """Images that generation may ask about: the training split."""
    return context.images("train")
