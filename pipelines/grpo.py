"""GRPO with TRL's GRPOTrainer on Ray Train, on kept questions that SFT has not seen.

Of those, the ones on which the SFT model's own samples are divided: a group of completions that
are all right or all wrong has no advantage and teaches nothing. DAPO (arXiv 2503.14476) drops such
groups while it trains; here they are found before, so that every step has a full batch.

Reward of a completion = correct·[right] + judge·sigmoid(score) + format·[well formed], weights from
the configuration, which is refused unless correct > judge + format. An answer counts as right only
in the right form, so a wrong answer never outscores a right one. MedGR2 has
r = 0.8·R + 0.2·[right], where a wrong answer can; that is where we depart from it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.answers import is_correct, is_valid, parse_completion
from engine.records import Model, Preference, Triplet, unique
from engine.training import (
    common_arguments,
    first_use,
    last_checkpoint,
    lora,
    prepare,
    read_training_set,
    resumable,
    save_trained,
    watched,
    weights_dtype,
    write_training_set,
)
from engine.vlm import Request, Sampling
from engine.workspace import Stage
from generators.prompts import answer_prompt
from pipelines.context import Context
from pipelines.evaluate import ask, examine, validation_questions
from pipelines.select import purity
from pipelines.sft import (
    chat_dataset,
    fresh_triplets,
    kept_triplets,
    rows_per_step,
    seed_triplets,
    train_on_cluster,
    training_arguments,
)
from reward_model.criteria import judge_prompt
from reward_model.scoring import Judge


def composite_reward(
    text: str, gold: str, options: tuple[str, ...], judged: float, weights: dict[str, float]
) -> float:
    """The reward of one completion; `judged` is the judge's logit.

    In [0, sum of weights]. Any right answer scores above any wrong one.
    """
    parsed = parse_completion(text)
    formed = parsed.problem is None and is_valid(parsed.answer, options)
    right = formed and is_correct(parsed.answer, gold, options)
    opinion = 1 / (1 + np.exp(-np.clip(np.nan_to_num(judged), -30, 30))) if formed else 0.0
    return float(
        weights.get("correct", 0.0) * right
        + weights.get("judge", 0.0) * opinion
        + weights.get("format", 0.0) * formed
    )


class Reward:
    """TRL's reward function: judges a batch of completions, then adds up the parts."""

    __name__ = "composite"

    def __init__(self, judge: Judge, images: dict[str, bytes], weights: dict[str, float]) -> None:
        self.judge, self.images, self.weights = judge, images, weights

    def __call__(self, completions: list[Any], **columns: Any) -> list[float | None]:
        texts = [c if isinstance(c, str) else _text(c[0]["content"]) for c in completions]
        options = [tuple(o) for o in columns["options"]]
        judged = self._judged(texts, columns["image_id"], columns["question"], options)
        return [
            composite_reward(text, gold, opts, score, self.weights)
            for text, gold, opts, score in zip(texts, columns["gold"], options, judged)
        ]

    def _judged(
        self, texts: list[str], image_ids: list[str], questions: list[str], options: list[Any]
    ) -> np.ndarray:
        if not self.weights.get("judge"):
            return np.zeros(len(texts))
        requests = []
        for text, image, question, opts in zip(texts, image_ids, questions, options):
            parsed = parse_completion(text)
            prompt = judge_prompt(
                self.judge.settings["prompts"], question, opts, parsed.rationale, parsed.answer
            )
            requests.append(Request(self.images[image], prompt))
        return self.judge.overall(self.judge.scores(requests))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


def train_grpo(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's loop, or a plain call: GRPO of `model` on `data`, weights to `out`.

    A step takes `batch` completions: `batch / group` questions with `group` completions each.
    """
    from trl import GRPOConfig, GRPOTrainer

    from engine.vlm.transformers import load_model, load_processor, vision_token_ids

    prepare(arguments)
    processor = load_processor(arguments["model"])
    model = load_model(arguments["model"], weights_dtype(arguments))
    images, _ = read_training_set(Path(arguments["data"]))
    judge = Judge(arguments["judge"], "grpo", arguments["threads"])
    common = common_arguments(arguments) | {"max_steps": arguments["steps"]}
    trainer = resumable(GRPOTrainer)(
        model=model,
        reward_funcs=[Reward(judge, images, arguments["reward"])],
        args=GRPOConfig(
            **common,
            num_generations=arguments["group"],
            max_completion_length=arguments["max_tokens"],
            temperature=arguments["temperature"],
            beta=arguments["kl"],
            generation_kwargs={"suppress_tokens": vision_token_ids(model.config)},
            gradient_checkpointing=arguments["lora_rank"] > 0,
        ),
        train_dataset=chat_dataset(Path(arguments["data"]), processor, arguments["max_pixels"]),
        processing_class=processor,
        peft_config=lora(arguments),
    )
    watched(trainer, arguments).train(resume_from_checkpoint=last_checkpoint(arguments))
    if trainer.is_world_process_zero():
        save_trained(trainer.model, processor, Path(arguments["out"]))
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    return {
        "steps": trainer.state.global_step,
        "reward_first": round(float(rewards[0]), 4) if rewards else None,
        "reward": round(float(np.mean(rewards[-3:])), 4) if rewards else None,
    }


def divided(texts: list[str], gold: str, options: tuple[str, ...]) -> bool:
    """Whether some completions of a group are right and others wrong, so that it teaches."""
    return len({composite_reward(t, gold, options, 0.0, {"correct": 1.0}) for t in texts}) > 1


def divided_rows(context: Context, model: Model, rows: list[Triplet], number: int) -> list[Triplet]:
    """The rows on whose questions the model's own samples in round `number` are divided."""
    section = context.config.grpo
    seed = context.config.seed * 1000 + number
    sampling = Sampling(section.group, section.temperature, section.max_tokens, seed)
    replies = ask(context, {"sft": (model, rows)}, sampling)["sft"]
    return [row for row, said in zip(rows, replies) if divided(said, row.answer, row.options)]


def questions_for_grpo(context: Context, stage: Stage, start: Model) -> list[Triplet]:
    """What GRPO trains on: kept questions that SFT left, on which its model is divided.

    Where these do not fill one step, the other questions left follow, then what SFT saw. The choice
    is written down, for a training that is taken up again must see the same rows.
    """
    section = context.config.grpo
    kept = kept_triplets(context, stage.round)
    fresh = fresh_triplets(context, kept) or kept
    choice = stage.folder / "asked" / "divided.json"
    if not choice.exists():
        teach = [row.id for row in divided_rows(context, start, fresh, stage.round)]
        choice.parent.mkdir(exist_ok=True)
        half = choice.with_suffix(".part")
        half.write_text(json.dumps(teach))
        half.replace(choice)
    ids = set(json.loads(choice.read_text()))
    chosen = [t for t in fresh if t.id in ids]
    stage.metrics = {"fresh": len(fresh), "divided": len(chosen)}
    step = rows_per_step(section) // section.group  # a step takes whole groups of completions
    return unique([*chosen, *fresh, *kept, *seed_triplets(context)])[: max(len(chosen), step)]


def fit_policy(
    context: Context, stage: Stage, start: Model, judge: Model, rows: list[Triplet]
) -> dict[str, Any]:
    """GRPO of `start` on the questions of `rows`: weights in the stage's folder, figures back."""
    config = context.config
    style = config.evaluate.style
    questions = [
        {
            "image_id": row.image_id,
            "prompt": answer_prompt(config.generator.prompts, row.question, row.options, style),
            "question": row.question,
            "options": list(row.options),
            "gold": row.answer,
        }
        for row in rows
    ]
    pngs = context.pngs()
    used = {row.image_id: pngs[row.image_id] for row in rows}
    write_training_set(stage.folder / "data", used, questions)
    arguments = training_arguments(context, stage, config.grpo, start)
    return train_on_cluster(context, train_grpo, arguments | {"judge": context.path_of(judge)})


def validation_accuracy(context: Context, stage: Stage, start: Model) -> dict[str, float]:
    """Accuracy in [0, 1] on validation questions before and after GRPO; empty without questions."""
    questions = validation_questions(context)
    if not questions:
        return {}
    trained = replace(start, id="grpo", path=str((stage.folder / "weights").resolve()))
    arms = {"validation_before": (start, questions), "validation": (trained, questions)}
    answers = examine(context, arms, stage.round)
    return {
        arm: round(float(np.mean([a.correct for a in answers if a.arm == arm])), 4) for arm in arms
    }


def grpo(context: Context, stage: Stage) -> None:
    """The policy of a round: its SFT model after GRPO, or as it was where that did it no good.

    Where accuracy on validation questions falls by more than `grpo.tolerance` the trained weights
    are not recorded, and the SFT model stays the policy.
    """
    section, start, judge = context.config.grpo, context.model("sft"), context.model("judge")
    if not section.steps:
        return
    rows = questions_for_grpo(context, stage, start)
    metrics = fit_policy(context, stage, start, judge, rows)
    metrics |= validation_accuracy(context, stage, start)
    lost = metrics.get("validation_before", 0.0) - metrics.get("validation", 0.0)
    stage.metrics |= metrics | {
        "rows": len(rows),
        "purity": purity(context, rows),
        "accepted": lost <= section.tolerance,
    }
    if not stage.metrics["accepted"]:
        context.display.say(
            f"GRPO lost {100 * lost:.1f} points on validation: SFT stays the policy"
        )
        return
    use = first_use(len(rows), rows_per_step(section) // section.group, metrics["steps"])
    rewarded_by = [judge] if section.reward.judge else []
    consumed: list[Triplet | Preference | Model] = [*rows, *rewarded_by]
    folder = stage.folder / "weights"
    context.add_model(
        stage, "policy", folder, start, json.dumps(metrics), consumed, metrics["steps"], use
    )
