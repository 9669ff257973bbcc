"""Train the judge on what experts said, and measure it.

An example is two rows or one (`reward_model.rows`). Of two the loss is one of
`reward_model.losses`, by the scores of the criteria that the experts spoke of; where they tie it is
the mean of both orders. Of one it is binary cross-entropy, by the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.adapting import adapt, freeze, merged, weights_dtype
from engine.config.reward import Reward
from engine.pixels import Pixels
from engine.trainer import (
    arguments_of,
    last_checkpoint,
    prepare,
    read_training_set,
    resumable,
    watched,
)
from engine.training_job import TrainingJob, TrainingResult
from engine.vlm.inputs import encode
from engine.vlm.protocol import Request
from reward_model.criteria import CRITERIA
from reward_model.losses import Loss, open_loss
from reward_model.measure import Gate, Measurement, compared, measure, scored
from reward_model.scoring import Judge
from reward_model.settings import HEADS, JudgeSettings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeJob(TrainingJob):
    """The training of a judge, from a judge or from a backbone.

    Both `data` and `holdout`, the frozen examples, are folders of `reward_model.rows`. The settings
    are saved with the judge; its calibration takes the place of theirs.
    """

    section: Reward
    holdout: Path
    settings: JudgeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeResult:
    """A training's result, and what frozen patients say of the judge `before` and `after` it.

    `before` and the `gate`, which compares them, are None where it started from no judge.
    """

    training: TrainingResult
    before: Measurement | None
    after: Measurement
    gate: Gate | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record has it: figures of before the training end in `_before`."""
        before = self.before.to_dict() if self.before else {}
        test = {"gate_test": self.gate.to_dict()} if self.gate else {}
        return (
            self.training.to_dict()
            | {f"{name}_before": value for name, value in before.items()}
            | self.after.to_dict()
            | test
        )


class ExampleCollator:
    """Rows of the training set to one batch: all first rows, then the second ones there are."""

    def __init__(self, processor: Any, pixels: Mapping[str, bytes], max_pixels: int) -> None:
        self.processor, self.pixels, self.max_pixels = processor, pixels, max_pixels

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        pairs = [place for place, row in enumerate(rows) if row["second"] is not None]
        shown = [(row, row["first"]) for row in rows]
        shown += [(rows[place], rows[place]["second"]) for place in pairs]
        requests = [Request(self.pixels[row["image_id"]], text) for row, text in shown]
        inputs = encode(self.processor, requests, self.max_pixels)
        second = torch.full((len(rows),), -1)
        second[pairs] = torch.arange(len(rows), len(shown))
        nothing = float("nan")
        told = [[nothing if row[c] is None else row[c] for c in CRITERIA] for row in rows]
        tiers = [[row["tier_first"], row["tier_second"]] for row in rows]
        return dict(inputs) | {
            "targets": torch.tensor(told, dtype=torch.float32),
            "tiers": torch.tensor(tiers, dtype=torch.float32),
            "second": second,
        }


def loss_of(pair_loss: Loss, scores: Tensor, targets: Tensor, tiers: Tensor, second: Tensor) -> Any:
    """The mean over N examples, of each the mean over the criteria that are spoken of: a scalar.

    `scores` are (M, 3) of first rows and then of second ones, `targets` (N, 3) with NaN for what
    nobody spoke of, `tiers` (N, 2), and `second` (N,) places in `scores`, -1 for a single row.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    scores = scores.float()
    told, first = ~targets.isnan(), scores[: len(targets)]
    target = targets.nan_to_num()
    cost = binary_cross_entropy_with_logits(first, target, reduction="none")
    row, criterion = torch.nonzero(told & (second >= 0)[:, None], as_tuple=True)
    if len(row):
        both = torch.stack([first[row, criterion], scores[second[row], criterion]])
        better, of = target[row, criterion], tiers[row].T
        either = pair_loss(both, of), pair_loss(both.flip(0), of)
        paired = better * either[0] + (1 - better) * either[1]
        cost = cost.index_put((row, criterion), paired)
    return (cost * told / told.sum(1, keepdim=True).clamp(min=1)).sum() / len(targets)


def train_judge(job: JudgeJob) -> TrainingResult:
    """Train from the job's model on its data, and write the judge to its `out`."""
    from transformers import Trainer

    from reward_model.model import load_reward_model

    prepare(job.seed, job.threads)
    pair_loss = open_loss(job.section.objective)
    model, processor = load_reward_model(job.model, job.section.readout, weights_dtype(job))
    freeze(model.backbone, job)
    embeddings = model.backbone.get_input_embeddings().weight
    output = model.backbone.get_output_embeddings().weight
    if output is not embeddings:
        output.requires_grad_(False)  # the heads are read in its place
    adapted = adapt(model.backbone, job)

    class ExampleTrainer(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            told = [inputs.pop(name) for name in ("targets", "tiers", "second")]
            scores = model(**inputs)
            loss = loss_of(pair_loss, scores, *told)
            return (loss, scores) if return_outputs else loss

    trainer = resumable(ExampleTrainer)(
        model=model,
        args=arguments_of(job),
        train_dataset=read_training_set(job.data),
        data_collator=ExampleCollator(processor, Pixels(job.workspace), job.max_pixels),
    )
    result = watched(trainer, job).train(resume_from_checkpoint=last_checkpoint(job))
    if trainer.is_world_process_zero():
        model.backbone = merged(adapted)
        model.save(job.out, job.settings)
        processor.save_pretrained(job.out)
    return TrainingResult(loss=round(result.training_loss, 4), steps=trainer.state.global_step)


def train_and_measure(job: JudgeJob) -> JudgeResult | None:
    """Train the judge, measure it (and the judge it started from) on frozen rows, calibrate it.

    All of Ray Train's workers train; the first, which writes the weights, does the rest. The others
    return None.
    """
    from torch import distributed

    result = train_judge(job)
    if distributed.is_initialized() and distributed.get_rank() > 0:
        return None
    before, old, pixels = None, None, Pixels(job.workspace)
    if (Path(job.model) / HEADS).exists():
        start = Judge(job.model, "start", job.threads)
        old = scored(start, job.holdout, pixels)
        before = measure(old, (start.settings.calibration, start.settings.with_logprob))
    new = scored(Judge(str(job.out), "new", job.threads), job.holdout, pixels)
    after = measure(new)
    replace(
        job.settings,
        calibration=after.calibration,
        with_logprob=after.with_logprob,
        reasoning=after.reasoning,
    ).save(job.out)
    return JudgeResult(
        training=result,
        before=before,
        after=after,
        gate=compared(old, new) if old else None,
    )
