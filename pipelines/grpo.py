"""GRPO with TRL's GRPOTrainer on Ray Train, on kept questions that SFT has not seen.

Of those, the ones on which the SFT model's own samples are divided: a group of completions that
are all right or all wrong has no advantage and teaches nothing. DAPO (arXiv 2503.14476) drops such
groups while it trains; here they are found before, so that every step has a full batch.

Reward of a completion = correct·[right] + judge·sigmoid(score) + format·[well formed], weights from
the configuration, which is refused unless correct > judge + format. An answer counts as right only
in the right form, so a wrong answer never outscores a right one. MedGR2 has
r = 0.8·R + 0.2·[right], where a wrong answer can; that is where we depart from it. Within a group
judge and form count as far as the verified answers differ: `pipelines.advantages`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.answers import is_correct, is_valid, parse_completion
from engine.caveats import at_chance
from engine.config import Grpo, RewardWeights
from engine.errors import TriptychError
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
from engine.workspace import Stage, replace_file
from generators.prompts import answer_prompt, judge_prompt
from pipelines.advantages import VERIFIED, quarters, verified
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
from reward_model.scoring import Judge

# What TRL would choose by itself, said here so that another version of it changes nothing.
PINNED: dict[str, Any] = {
    "loss_type": "dapo",  # the mean over the batch's tokens: long completions count by length
    "scale_rewards": "group",  # as in arXiv 2402.03300; safe here, see pipelines.advantages
    "multi_objective_aggregation": "sum_then_normalize",
    "num_iterations": 1,  # a completion is learned from once, by the weights that wrote it
    "importance_sampling_level": "token",
    "epsilon": 0.2,
    "epsilon_high": 0.2,
    "mask_truncated_completions": False,  # one that is cut off has no answer, and is wrong
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "disable_dropout": False,
    "shuffle_dataset": True,
    "use_vllm": False,
    "logging_steps": 1,
}


def verdict(text: str, gold: str, options: tuple[str, ...]) -> tuple[bool, bool]:
    """Whether a completion is right, and whether it is well formed: no right one is not."""
    parsed = parse_completion(text, options)
    formed = parsed.problem is None and is_valid(parsed.answer, options)
    return formed and is_correct(parsed.answer, gold, options), formed


def opinion(judged: float) -> float:
    """The judge's logit as a number in [0, 1]; raises TriptychError where it is none."""
    if not np.isfinite(judged):
        raise TriptychError(
            f"grpo: the judge scores a completion {judged}: train the judge again with a lower "
            "reward.lr, or set grpo.reward.judge=0"
        )
    return float(1 / (1 + np.exp(-np.clip(judged, -30, 30))))


class Reward:
    """One part of the reward as TRL calls it: a batch of completions in, a number in [0, 1] each.

    `part` is correct, judge or format; `judge` and `images` (PNG by id) are for the judge's alone.
    """

    def __init__(self, part: str, judge: Judge | None = None, images: Any = None) -> None:
        self.__name__, self.judge, self.images = part, judge, images

    def __call__(self, completions: list[Any], **columns: Any) -> list[float]:
        texts = [c if isinstance(c, str) else _text(c[0]["content"]) for c in completions]
        options = [tuple(o) for o in columns["options"]]
        found = [verdict(*each) for each in zip(texts, columns["gold"], options)]
        if self.judge is None:
            return [float(right if self.__name__ == VERIFIED else form) for right, form in found]
        judged = self._judged(texts, columns["image_id"], columns["question"], options)
        return [opinion(j) if formed else 0.0 for j, (_, formed) in zip(judged, found)]

    def _judged(
        self, texts: list[str], image_ids: list[str], questions: list[str], options: list[Any]
    ) -> np.ndarray:
        assert self.judge is not None
        requests = []
        for text, image, question, opts in zip(texts, image_ids, questions, options):
            parsed = parse_completion(text, opts)
            prompt = judge_prompt(
                self.judge.settings["prompts"], question, opts, parsed.rationale, parsed.answer
            )
            requests.append(Request(self.images[image], prompt))
        return self.judge.overall(self.judge.scores(requests))


def reward_parts(arguments: dict[str, Any], images: dict[str, bytes]) -> list[Reward]:
    """The parts that have a weight, the verified one first. The judge is loaded where it has."""
    weights = arguments["reward"]
    parts = [Reward(VERIFIED)]
    if weights["judge"]:
        parts.append(
            Reward("judge", Judge(arguments["judge"], "grpo", arguments["threads"]), images)
        )
    if weights["format"]:
        parts.append(Reward("format"))
    return parts


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


def grpo_trainer(arguments: dict[str, Any], parts: list[Any]) -> Any:
    """TRL's trainer of `model` on `data`; `parts` are named as their weights are, correct first.

    A step takes `batch` completions: `batch / group` questions with `group` completions each.
    """
    from trl import GRPOConfig, GRPOTrainer

    from engine.vlm.transformers import load_model, load_processor, vision_token_ids

    prepare(arguments)
    model = load_model(arguments["model"], weights_dtype(arguments))
    processor = load_processor(arguments["model"])
    settings = common_arguments(arguments) | PINNED | {"max_steps": arguments["steps"]}
    return verified(resumable(GRPOTrainer))(
        model=model,
        reward_funcs=parts,
        args=GRPOConfig(
            **settings,
            reward_weights=[arguments["reward"][part.__name__] for part in parts],
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


def train_grpo(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's loop, or a plain call: GRPO of `model` on `data`, weights to `out`.

    Returns the steps taken, the mean reward of their first and last quarter, and that of each.
    """
    images, _ = read_training_set(Path(arguments["data"]))
    trainer = grpo_trainer(arguments, reward_parts(arguments, images))
    watched(trainer, arguments).train(resume_from_checkpoint=last_checkpoint(arguments))
    if trainer.is_world_process_zero():
        save_trained(trainer.model, trainer.processing_class, Path(arguments["out"]))
    log = [entry for entry in trainer.state.log_history if "composite" in entry]
    first, last = quarters([entry["composite"] for entry in log])
    return {
        "steps": trainer.state.global_step,
        "reward_first": first,
        "reward": last,
        "rewards": [round(entry["composite"], 4) for entry in log],
        "teaching": round(float(np.mean([entry["divided"] for entry in log])), 4) if log else None,
    }


def divided(texts: list[str], gold: str, options: tuple[str, ...]) -> bool:
    """Whether some completions of a group are right and others wrong, so that it teaches."""
    return len({verdict(text, gold, options)[0] for text in texts}) > 1


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
        replace_file(choice, json.dumps(teach).encode())
    ids = set(json.loads(choice.read_text()))
    chosen = [t for t in fresh if t.id in ids]
    stage.metrics = {"fresh": len(fresh), "divided": len(chosen)}
    step = rows_per_step(section) // section.group  # a step takes whole groups of completions
    return unique([*chosen, *fresh, *kept, *seed_triplets(context)])[: max(len(chosen), step)]


def rewards_of(section: Grpo, judge: Model) -> RewardWeights:
    """The weights of the reward's parts; a judge at chance has none, whatever is configured."""
    if at_chance(json.loads(judge.metrics)):
        return section.reward.model_copy(update={"judge": 0.0})
    return section.reward


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
    section = config.grpo.model_copy(update={"reward": rewards_of(config.grpo, judge)})
    arguments = training_arguments(context, stage, section, start)
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
    if not rows:
        context.display.warn(f"grpo, round {stage.round}: no questions, so it is left out")
        stage.metrics |= {"skipped": "no questions"}
        return
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
    rewarded_by = [judge] if rewards_of(section, judge).judge else []
    consumed: list[Triplet | Preference | Model] = [*rows, *rewarded_by]
    folder = stage.folder / "weights"
    context.add_model(
        stage, "policy", folder, start, json.dumps(metrics), consumed, metrics["steps"], use
    )
