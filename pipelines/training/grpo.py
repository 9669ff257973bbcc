"""GRPO with TRL's GRPOTrainer, every setting that TRL would choose by itself pinned."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engine.adapting import load_trained, lora, save_trained
from engine.config.training import Grpo
from engine.pixels import Pixels
from engine.prompts import answer_prompt
from engine.records import Triplet
from engine.trainer import (
    common_arguments,
    last_checkpoint,
    prepare,
    resumable,
    watched,
)
from engine.training_job import TrainingJob
from pipelines.training.advantages import quarters, verified
from pipelines.training.composite_reward import reward_parts
from pipelines.training.hacking import hacking_watch
from pipelines.training.launch import rows_per_step
from pipelines.training.sft import chat_dataset

# What TRL would choose by itself, said here so that another version of it changes nothing.
PINNED: dict[str, Any] = {
    "multi_objective_aggregation": "sum_then_normalize",
    "use_bias_correction_kl": True,
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "disable_dropout": False,
    "shuffle_dataset": True,
    "use_vllm": False,
    "logging_steps": 1,
    # Loaders begun anew draw a seed each epoch, as without any: completions come from that stream.
    "dataloader_persistent_workers": False,
}
# A loss by name, as TRL has it. Ratios are clipped to [1 - epsilon, 1 + epsilon_high].
LOSSES: dict[str, dict[str, Any]] = {
    "grpo": {  # arXiv 2402.03300: each completion counts the same, its tokens by its length
        "loss_type": "grpo",
        "scale_rewards": "group",
        "importance_sampling_level": "token",
        "epsilon": 0.2,
        "epsilon_high": 0.2,
    },
    "dapo": {  # arXiv 2503.14476: each token of a step counts the same; its own clip_high is 0.28
        "loss_type": "dapo",
        "scale_rewards": "group",
        "importance_sampling_level": "token",
        "epsilon": 0.2,
        "epsilon_high": 0.2,
    },
    "dr_grpo": {  # arXiv 2503.20783: divided by max_tokens, and by no deviation
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "importance_sampling_level": "token",
        "epsilon": 0.2,
        "epsilon_high": 0.2,
    },
    "gspo": {  # arXiv 2507.18071, section 5.1: a ratio a completion, the mean of its tokens' logs
        "loss_type": "grpo",
        "scale_rewards": "group",
        "importance_sampling_level": "sequence",
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
    },
}

ASKED = 4  # questions that are looked at for one that GRPO visits

# What is kept of every step beside the parts of the reward, and how the trainer's log calls it.
LOGGED = {
    "step": "step",
    "composite": "composite",
    "mixed": "mixed",
    "truncated": "completions/clipped_ratio",
    "tokens": "completions/mean_length",
    "entropy": "entropy",
    "kl": "kl",
    "clipped": "clip_ratio/region_mean",
    "loss": "loss",
    "grad_norm": "grad_norm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoJob(TrainingJob):
    """The GRPO of a policy; `judge` is the folder of the judge that rewards it."""

    section: Grpo
    judge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoResult:
    """The steps taken, their mean rewards, and those of their first and last quarter.

    `teaching` is the mean share of groups whose verified answers differ. A quarter without steps
    has None, and so has a training. `by_step` are columns of `logged`; `stopped` says why GRPO
    stopped before its last step.
    """

    steps: int
    reward_first: float | None
    reward: float | None
    rewards: tuple[float, ...]
    teaching: float | None
    by_step: dict[str, list[float | None]] = field(default_factory=dict)
    stopped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the record has it."""
        return asdict(self) | {"rewards": list(self.rewards)}


def questions_of(triplets: list[Triplet], prompts: str, style: str) -> list[dict[str, Any]]:
    """Rows of GRPO's training set: each question as a prompt in `style`, and its right answer."""
    return [
        {
            "image_id": row.image_id,
            "prompt": answer_prompt(prompts, row.question, row.options, style),
            "question": row.question,
            "options": list(row.options),
            "gold": row.answer,
        }
        for row in triplets
    ]


def questions_per_step(section: Grpo) -> int:
    """Questions of a step: it takes whole groups of completions."""
    return rows_per_step(section) // section.group


def looked_at(section: Grpo) -> int:
    """How many questions are looked at, at most, for those on which GRPO trains."""
    return ASKED * questions_per_step(section) * section.draws


def grpo_classes() -> tuple[Any, Any]:
    """TRL's configuration and trainer, without vLLM, which TRL imports wherever it is installed.

    That takes four seconds of the processor and sets up the process's logging anew, for completions
    that transformers samples.
    """
    from trl import import_utils

    available = import_utils.is_vllm_available
    import_utils.is_vllm_available = lambda *_, **__: False
    try:
        from trl import GRPOConfig, GRPOTrainer
    finally:
        import_utils.is_vllm_available = available
    return GRPOConfig, GRPOTrainer


def loss_settings(section: Grpo) -> dict[str, Any]:
    """What GRPOConfig is told of the loss: its row of LOSSES, with what the section has instead."""
    given = {
        "epsilon": section.clip_low,
        "epsilon_high": section.clip_high,
        "scale_rewards": section.scale,
    }
    return {
        **LOSSES[section.loss],
        **{name: value for name, value in given.items() if value is not None},
        "mask_truncated_completions": section.mask_truncated,
        "num_iterations": section.iterations,
    }


def grpo_trainer(job: GrpoJob, parts: list[Any]) -> Any:
    """TRL's trainer of a job; `parts` are named as their weights are, the verified one first.

    A step takes `batch` completions: `batch / group` questions with `group` completions each.
    """
    GRPOConfig, GRPOTrainer = grpo_classes()
    from engine.vlm.transformers import load_processor, vision_token_ids

    prepare(job.seed, job.threads)
    section, reward = job.section, job.section.reward
    model = load_trained(job)
    processor = load_processor(job.model)
    settings = {
        **common_arguments(job), **PINNED, **loss_settings(section), "max_steps": section.steps,
    }  # fmt: skip
    return verified(resumable(GRPOTrainer), reward.verified_first)(
        model=model,
        reward_funcs=parts,
        args=GRPOConfig(
            **settings,
            reward_weights=[reward.weights[part.__name__] for part in parts],
            num_generations=section.group,
            max_completion_length=section.max_tokens,
            temperature=section.temperature,
            beta=section.kl,
            generation_kwargs={"suppress_tokens": vision_token_ids(model.config)},
        ),
        train_dataset=chat_dataset(job, processor),
        processing_class=processor,
        peft_config=lora(model, job),
    )


def train_grpo(job: GrpoJob) -> GrpoResult:
    """GRPO of the job's model on its data, weights to its `out`."""
    reward, pixels = job.section.reward, Pixels(job.workspace)
    parts = reward_parts(reward, job.judge, pixels, job.threads, job.section.max_tokens)
    trainer = watched(grpo_trainer(job, parts), job)
    watch = hacking_watch(job.section.hacking)
    trainer.add_callback(watch)
    trainer.train(resume_from_checkpoint=last_checkpoint(job))
    if trainer.is_world_process_zero():
        save_trained(trainer.model, trainer.processing_class, job)
    log = [entry for entry in trainer.state.log_history if "composite" in entry]
    first, last = quarters([entry["composite"] for entry in log])
    return GrpoResult(
        steps=trainer.state.global_step,
        reward_first=first,
        reward=last,
        rewards=tuple(round(entry["composite"], 4) for entry in log),
        teaching=round(float(np.mean([entry["mixed"] for entry in log])), 4) if log else None,
        by_step=logged(log),
        stopped=watch.reason,
    )


def logged(log: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """By what is LOGGED, its value at each step that drew completions; `log` has those entries.

    Parts of the reward are their means in [0, 1], as given, and `composite` their weighted sum;
    `mixed` is the share of groups whose answers differ, `truncated` that of completions cut off,
    `tokens` a completion's mean length. None where a step has no such number.
    """
    parts = sorted({key for entry in log for key in entry if key.startswith("parts/")})
    keys = {part.removeprefix("parts/"): part for part in parts} | LOGGED
    found = {name: [entry.get(key) for entry in log] for name, key in keys.items()}
    return {
        name: [float(f"{v:.4g}") if isinstance(v, float) else v for v in values]
        for name, values in found.items()
        if any(value is not None for value in values)
    }
