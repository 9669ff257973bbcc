"""SFT with TRL's SFTTrainer: a row teaches answering its question, some rows asking it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.answers.parsing import render_completion, render_question
from engine.job import TrainingJob, TrainingResult
from engine.prompts import answer_prompt, ask_prompt
from engine.records import Task, Triplet
from engine.trainer import (
    common_arguments,
    last_checkpoint,
    lora,
    prepare,
    read_training_set,
    resumable,
    save_trained,
    watched,
    weights_dtype,
)
from generators.phantoms.bank import DIFFICULTIES

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


def train_sft(job: TrainingJob) -> TrainingResult:
    """SFT of the job's model on its data, weights to its `out`."""
    from trl import SFTConfig, SFTTrainer

    from engine.vlm.transformers import load_model, load_processor

    prepare(job.seed, job.threads)
    processor = load_processor(job.model)
    trainer = resumable(SFTTrainer)(
        model=load_model(job.model, weights_dtype(job)),
        args=SFTConfig(
            **common_arguments(job),
            max_length=None,  # truncation would cut image tokens
            completion_only_loss=True,
            gradient_checkpointing=job.section.lora_rank > 0,
        ),
        train_dataset=chat_dataset(job.data, processor, job.max_pixels),
        processing_class=processor,
        peft_config=lora(job),
    )
    result = watched(trainer, job).train(resume_from_checkpoint=last_checkpoint(job))
    if trainer.is_world_process_zero():
        save_trained(trainer.model, processor, job.out)
    return TrainingResult(loss=round(result.training_loss, 4), steps=trainer.state.global_step)
