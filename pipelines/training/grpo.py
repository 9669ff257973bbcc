"""GRPO with TRL's GRPOTrainer, every setting that TRL would choose by itself pinned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

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
from pipelines.training.advantages import quarters, verified
from pipelines.training.composite_reward import reward_parts
from pipelines.training.sft import chat_dataset

# What TRL would choose by itself, said here so that another version of it changes nothing.
PINNED: dict[str, Any] = {
    "loss_type": "dapo",  # the mean over the batch's tokens: long completions count by length
    "scale_rewards": "group",  # as in arXiv 2402.03300; safe here, see `advantages`
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
