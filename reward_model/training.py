"""Train the judge on preferences: Bradley-Terry pairs, or MedGR2's regression on quality tiers.

Bradley-Terry: loss = -log sigmoid(r_chosen - r_rejected) + c (r_chosen + r_rejected)^2, with the
score of the pair's own criterion. The second term (Eisenstein et al., arXiv 2312.09244) centres
scores at zero, without which a score could not be compared between questions.
Tiers: mean squared error of the score against the row's tier, scaled to [-1, 1] of [-6, 10].
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid

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
)
from engine.vlm.inputs import encode
from engine.vlm.protocol import Request
from reward_model.criteria import CRITERIA
from reward_model.measure import measure
from reward_model.model import load_reward_model
from reward_model.scoring import Judge

CENTRE = 0.02


def pair_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Centred Bradley-Terry loss of (N,) scores."""
    return (-logsigmoid(chosen - rejected) + CENTRE * (chosen + rejected) ** 2).mean()


def tier_loss(scores: torch.Tensor, tiers: torch.Tensor) -> torch.Tensor:
    """Squared error against tiers of [-6, 10] scaled to [-1, 1]."""
    return ((scores - (tiers - 2) / 8) ** 2).mean()


class PairCollator:
    """Rows of the training set to one batch: all chosen, then all rejected."""

    def __init__(self, processor: Any, images: dict[str, bytes], max_pixels: int) -> None:
        self.processor, self.images, self.max_pixels = processor, images, max_pixels

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        texts = [row["chosen"] for row in rows] + [row["rejected"] for row in rows]
        pngs = [self.images[row["image_id"]] for row in rows] * 2
        requests = [Request(p, t) for p, t in zip(pngs, texts)]
        inputs = encode(self.processor, requests, self.max_pixels)
        places = [CRITERIA.index(row["criterion"]) for row in rows]
        return dict(inputs) | {
            "criterion": torch.tensor(places * 2),
            "tiers": torch.tensor(
                [row["tier_chosen"] for row in rows] + [row["tier_rejected"] for row in rows]
            ),
        }


def train_judge(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's loop, or a plain call: train from `model` on `data`, write to `out`.

    `data` is a folder of `engine.trainer.write_training_set` whose rows hold the two judge
    prompts of each pair. Returns the final loss and the number of steps.
    """
    from transformers import Trainer

    prepare(arguments)
    dtype = weights_dtype(arguments)
    model, processor = load_reward_model(arguments["model"], arguments["readout"], dtype)
    embeddings = model.backbone.get_input_embeddings().weight
    output = model.backbone.get_output_embeddings().weight
    if output is not embeddings:
        output.requires_grad_(False)  # the heads are read in its place
    adapted = adapt(model.backbone, arguments)
    images, rows = read_training_set(Path(arguments["data"]))

    class PairTrainer(Trainer):
        def compute_loss(  # type: ignore[override]
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            criterion, tiers = inputs.pop("criterion"), inputs.pop("tiers")
            scores = model(**inputs).gather(1, criterion[:, None])[:, 0]
            if arguments["objective"] == "tiers":
                loss = tier_loss(scores, tiers)
            else:
                half = len(scores) // 2
                loss = pair_loss(scores[:half], scores[half:])
            return (loss, scores) if return_outputs else loss

    trainer = resumable(PairTrainer)(
        model=model,
        args=arguments_of(arguments),
        train_dataset=rows,
        data_collator=PairCollator(processor, images, arguments["max_pixels"]),
    )
    result = watched(trainer, arguments).train(resume_from_checkpoint=last_checkpoint(arguments))
    if trainer.is_world_process_zero():
        out = Path(arguments["out"])
        model.backbone = merged(adapted)
        model.save(out, arguments["settings"])
        processor.save_pretrained(out)
    return {"loss": round(result.training_loss, 4), "steps": trainer.state.global_step}


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


def train_and_measure(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's loop: train the judge, measure it (and its start) on frozen pairs, calibrate.

    All workers train; the first, which writes the weights, does the rest.
    """
    from torch import distributed

    from reward_model.model import HEADS, SETTINGS

    result = train_judge(arguments)
    if distributed.is_initialized() and distributed.get_rank() > 0:
        return result
    out, holdout = Path(arguments["out"]), Path(arguments["holdout"])
    if (Path(arguments["model"]) / HEADS).exists():
        start = Judge(arguments["model"], "start", arguments["threads"])
        result |= {f"{k}_before": v for k, v in measure(start, holdout).items()}
    result |= measure(Judge(arguments["out"], "new", arguments["threads"]), holdout)
    settings = arguments["settings"] | {"calibration": result["calibration"]}
    (out / SETTINGS).write_text(json.dumps(settings, indent=1))
    return result
