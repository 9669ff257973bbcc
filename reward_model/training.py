"""Train the judge on preferences, by one of `reward_model.losses`, and measure it.

A pair counts with the scores of its own criterion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from engine.config.reward import Reward
from engine.pixels import Pixels
from engine.prompts import judge_prompt
from engine.records import Preference, Triplet
from engine.trainer import (
    adapt,
    arguments_of,
    last_checkpoint,
    merged,
    prepare,
    read_training_set,
    resumable,
    watched,
    weights_dtype,
    write_training_set,
)
from engine.training_job import TrainingJob, TrainingResult
from engine.vlm.inputs import encode
from engine.vlm.protocol import Request
from reward_model.criteria import CRITERIA
from reward_model.losses import open_loss
from reward_model.measure import Measurement, measure
from reward_model.model import HEADS, JudgeSettings, load_reward_model
from reward_model.scoring import Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeJob(TrainingJob):
    """The training of a judge, from a judge or from a backbone.

    Both `data` and `holdout`, the frozen pairs, are folders of `write_pairs`. The settings are
    saved with the judge; its calibration takes the place of theirs.
    """

    section: Reward
    holdout: Path
    settings: JudgeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeResult:
    """A training's result, and what frozen pairs say of the judge `before` and `after` it.

    `before` is None where it started from no judge.
    """

    training: TrainingResult
    before: Measurement | None
    after: Measurement

    def to_dict(self) -> dict[str, Any]:
        """As the record has it: figures of before the training end in `_before`."""
        before = self.before.to_dict() if self.before else {}
        return (
            self.training.to_dict()
            | {f"{name}_before": value for name, value in before.items()}
            | self.after.to_dict()
        )


class PairCollator:
    """Rows of the training set to one batch: all chosen, then all rejected."""

    def __init__(self, processor: Any, pixels: Mapping[str, bytes], max_pixels: int) -> None:
        self.processor, self.pixels, self.max_pixels = processor, pixels, max_pixels

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        texts = [row["chosen"] for row in rows] + [row["rejected"] for row in rows]
        pngs = [self.pixels[row["image_id"]] for row in rows] * 2
        requests = [Request(p, t) for p, t in zip(pngs, texts)]
        inputs = encode(self.processor, requests, self.max_pixels)
        places = [CRITERIA.index(row["criterion"]) for row in rows]
        return dict(inputs) | {
            "criterion": torch.tensor(places * 2),
            "tiers": torch.tensor(
                [row["tier_chosen"] for row in rows] + [row["tier_rejected"] for row in rows]
            ),
        }


def train_judge(job: JudgeJob) -> TrainingResult:
    """Train from the job's model on its data, and write the judge to its `out`."""
    from transformers import Trainer

    prepare(job.seed, job.threads)
    loss_of = open_loss(job.section.objective)
    model, processor = load_reward_model(job.model, job.section.readout, weights_dtype(job))
    embeddings = model.backbone.get_input_embeddings().weight
    output = model.backbone.get_output_embeddings().weight
    if output is not embeddings:
        output.requires_grad_(False)  # the heads are read in its place
    adapted = adapt(model.backbone, job)

    class PairTrainer(Trainer):
        def compute_loss(  # type: ignore[override]
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            criterion, tiers = inputs.pop("criterion"), inputs.pop("tiers")
            scores = model(**inputs).gather(1, criterion[:, None])[:, 0]
            loss = loss_of(scores.view(2, -1), tiers.view(2, -1))
            return (loss, scores) if return_outputs else loss

    trainer = resumable(PairTrainer)(
        model=model,
        args=arguments_of(job),
        train_dataset=read_training_set(job.data),
        data_collator=PairCollator(processor, Pixels(job.workspace), job.max_pixels),
    )
    result = watched(trainer, job).train(resume_from_checkpoint=last_checkpoint(job))
    if trainer.is_world_process_zero():
        model.backbone = merged(adapted)
        model.save(job.out, job.settings)
        processor.save_pretrained(job.out)
    return TrainingResult(loss=round(result.training_loss, 4), steps=trainer.state.global_step)


def pair_rows(
    preferences: list[Preference], triplets: dict[str, Triplet], prompts: str
) -> list[dict[str, Any]]:
    """Preferences as the two prompts that the judge compares."""

    def text(row: Triplet) -> str:
        return judge_prompt(prompts, row.question, row.options, row.rationale, row.answer)

    return [
        {
            "image_id": p.image_id,
            "chosen": text(triplets[p.chosen_id]),
            "rejected": text(triplets[p.rejected_id]),
            "criterion": p.criterion,
            "tier_chosen": p.tier_chosen,
            "tier_rejected": p.tier_rejected,
        }
        for p in preferences
    ]


def write_pairs(
    folder: Path,
    preferences: list[Preference],
    triplets: dict[str, Triplet],
    prompts: str,
) -> None:
    """Preferences as a training set; triplets are given by their ids."""
    write_training_set(folder, pair_rows(preferences, triplets, prompts))


def train_and_measure(job: JudgeJob) -> JudgeResult | None:
    """Train the judge, measure it (and the judge it started from) on frozen pairs, calibrate it.

    All of Ray Train's workers train; the first, which writes the weights, does the rest. The others
    return None.
    """
    from torch import distributed

    result = train_judge(job)
    if distributed.is_initialized() and distributed.get_rank() > 0:
        return None
    before, pixels = None, Pixels(job.workspace)
    if (Path(job.model) / HEADS).exists():
        before = measure(Judge(job.model, "start", job.threads), job.holdout, pixels)
    after = measure(Judge(str(job.out), "new", job.threads), job.holdout, pixels)
    replace(job.settings, calibration=after.calibration).save(job.out)
    return JudgeResult(training=result, before=before, after=after)
