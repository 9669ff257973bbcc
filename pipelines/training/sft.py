"""SFT with TRL's SFTTrainer: a row teaches answering its question, some rows asking it too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.adapting import cast_once, compile_layers, load_trained, lora, save_trained
from engine.answers.parsing import render_completion, render_question
from engine.config.training import Sft
from engine.pixels import Pixels
from engine.prompts import answer_prompt, ask_prompt
from engine.records import Task, Triplet
from engine.trainer import (
    common_arguments,
    last_checkpoint,
    prepare,
    read_training_set,
    resumable,
    watched,
)
from engine.training_job import TrainingJob, TrainingResult
from engine.vlm.attention import right_padded
from generators.phantoms.bank import DIFFICULTIES
from pipelines.training.order import Order, lengths_of, ordered

if TYPE_CHECKING:
    from datasets import Dataset

Turn = dict[str, Any]  # image_id, prompt, completion, and what is told of its row


@dataclass(frozen=True, slots=True, kw_only=True)
class SftJob(TrainingJob):
    """The SFT of a policy or a generator.

    Where its section groups rows by length, they have their picture's `width` and `height` in
    pixels; where it has a curriculum, their `level`.
    """

    section: Sft


def turns_of(
    triplets: Iterable[Triplet],
    tasks: Mapping[str, Task],
    prompts: str,
    style: str | None,
    ask_share: float,
    seed: int,
    further: Collection[str] = (),
    told: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Iterator[Turn]:
    """Training turns: each row answered in its style and in `style`, and some of them asked.

    No model is taught to ask composed questions: who composes knows the facts. A row whose id is
    among the `further` has its question and answer from another row and teaches its reasoning
    alone, so that no question weighs more for being reasoned about in several ways. `told` has
    further columns of a row's turns, by its id.
    """
    rng = np.random.default_rng(seed)
    for row in triplets:
        task = tasks[row.task_id]
        for wanted in dict.fromkeys(s for s in (task.prompt_style, style) if s):
            reasoning = row.rationale if wanted == task.prompt_style else ""
            if not reasoning and (wanted != "direct" or row.id in further):
                continue
            yield {
                "image_id": row.image_id,
                "prompt": answer_prompt(prompts, row.question, row.options, wanted),
                "completion": render_completion(reasoning, row.answer),
                **told.get(row.id, {}),
            }
        if row.id in further:
            continue
        if rng.random() < ask_share and row.program is None:  # composed questions are not asked for
            fields = task.to_dict()
            if fields["difficulty"] not in DIFFICULTIES:  # so that any may be asked for
                fields["difficulty"] = str(rng.choice(DIFFICULTIES))
            yield {
                "image_id": row.image_id,
                "prompt": ask_prompt(prompts, fields),
                "completion": render_question(row.question, row.options),
                **told.get(row.id, {}),
            }


@dataclass(frozen=True, slots=True)
class Chats:
    """Rows of a training set as TRL reads them, with the pictures that a batch needs.

    Pictures are within `max_pixels`, and the processor's special tokens in a text are words.
    """

    pixels: Mapping[str, bytes]
    processor: Any
    max_pixels: int

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        from engine.vlm.inputs import marks_as_words, picture

        shown = [picture(self.pixels[image_id], self.max_pixels) for image_id in batch["image_id"]]
        batch["images"] = [[image] for image in shown]
        for column, role in (("prompt", "user"), ("completion", "assistant")):
            if column in batch:
                said = [marks_as_words(text, self.processor.tokenizer) for text in batch[column]]
                batch[column] = [[{"role": role, "content": text}] for text in said]
        return batch


def chat_dataset(job: TrainingJob, processor: Any) -> Dataset:
    """The job's training set as TRL reads it: rows are `Chats` when a batch needs them."""
    rows = read_training_set(job.data)
    rows.set_transform(Chats(Pixels(job.workspace), processor, job.max_pixels))
    return rows


def order_of(job: SftJob, processor: Any) -> Order | None:
    """The order of the job's turns; None where it is the trainer's own, at random."""
    section = job.section
    if not section.grouped and section.order == "random":
        return None
    rows = read_training_set(job.data)
    return Order(
        len(rows),
        section.batch * section.accumulate * section.workers,
        job.seed,
        lengths_of(rows, processor, job.max_pixels) if section.grouped else None,
        rows["level"] if section.order == "curriculum" else None,
    )


def train_sft(job: SftJob) -> TrainingResult:
    """SFT of the job's model on its data, weights to its `out`."""
    from trl import SFTConfig, SFTTrainer

    from engine.vlm.transformers import load_processor

    prepare(job.seed, job.threads)
    processor = load_processor(job.model)
    model = load_trained(job)
    trainer = ordered(resumable(SFTTrainer), order_of(job, processor))(
        model=model,
        args=SFTConfig(
            **common_arguments(job),
            max_length=None,  # truncation would cut image tokens
            completion_only_loss=True,
        ),
        train_dataset=chat_dataset(job, processor),
        processing_class=processor,
        peft_config=lora(model, job),
    )
    right_padded(cast_once(trainer.model))
    if job.section.compile:
        compile_layers(trainer.model)
    result = watched(trainer, job).train(resume_from_checkpoint=last_checkpoint(job))
    if trainer.is_world_process_zero():
        save_trained(trainer.model, processor, job)
    return TrainingResult(loss=round(result.training_loss, 4), steps=trainer.state.global_step)
