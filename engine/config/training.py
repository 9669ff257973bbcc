"""Trainings of the generator and the policy, and what all trainings share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from engine.config.section import Section, named


class Optimiser(Section):
    """What every training shares."""

    lr: float = Field(5e-4, gt=0)
    epochs: float = Field(3, gt=0, description="GRPO goes by its steps instead")
    batch: int = Field(32, ge=1, description="rows at once a worker")
    accumulate: int = Field(
        1, ge=1, description="batches a step; a run may go on with the same batch x accumulate"
    )
    workers: int = Field(1, ge=1, description="Ray Train workers")
    gpus: float = Field(0, ge=0, description="GPUs a worker")
    loaders: int = Field(
        0, ge=0, description="processes that read and decode pictures for a worker; 0: itself does"
    )
    lora_rank: int = Field(0, ge=0, description="0 trains all weights")
    lora_targets: Literal["language", "all"] = Field(
        "language", description="whose linear layers get adapters: all has the tower's too"
    )
    lora_alpha: int | None = Field(None, gt=0, description="null: twice the rank")
    lora_dropout: float = Field(0, ge=0, lt=1)
    lora_bits: Literal[4] | None = Field(
        None, description="4: adapters beside weights in NF4 (QLoRA), which needs CUDA"
    )
    freeze_vision: bool = Field(
        False, description="the vision tower stays as it is; its projector learns"
    )
    bf16: bool = Field(False, description="bf16 arithmetic on a GPU; weights in float32 or LoRA")
    checkpointing: bool | None = Field(
        None, description="activations computed again, not kept; null: where there is a GPU"
    )
    save_steps: int = Field(0, ge=0, description="checkpoint and resume every so many steps")

    @model_validator(mode="after")
    def _adapters_go_where_weights_may_change(self) -> Self:
        if self.freeze_vision and self.lora_rank and self.lora_targets == "all":
            raise ValueError(
                "freeze_vision keeps the vision tower as it is, and lora_targets all adapts it: "
                "set lora_targets to language"
            )
        if self.lora_bits and not (self.lora_rank and self.bf16):
            raise ValueError("lora_bits needs lora_rank above 0 and bf16: true")
        return self


class Sft(Optimiser):
    """Supervised fine-tuning of the policy and of the generator."""

    ask_share: float = Field(0.3, ge=0, le=1, description="rows that also teach asking")
    order: Literal["random", "curriculum"] = Field(
        "random", description="curriculum: the first epoch from few steps and easy to many and hard"
    )
    group_by_length: bool | None = Field(
        None, description="rows of like length in a batch; null: where gpus are asked for"
    )
    compile: bool = Field(
        False, description="layers compiled by torch, which takes a C compiler and a minute"
    )

    @property
    def grouped(self) -> bool:
        """Whether a batch has rows of like length."""
        return self.gpus > 0 if self.group_by_length is None else self.group_by_length


class RewardWeights(Section):
    """Parts of the policy's reward, each in [0, 1]. `correct` outweighs the others together."""

    verified_first: ClassVar[bool] = True  # groups without a difference in answers teach nothing
    kind: Literal["composite"] = "composite"
    judge: float = Field(0.3, ge=0)
    correct: float = Field(1.0, ge=0)
    process: float = Field(0.0, ge=0, description="the worst step of the reasoning")
    format: float = Field(0.1, ge=0)
    length: float = Field(0.0, ge=0, description="1, falling to 0 before max_tokens")
    buffer: float = Field(0.2, gt=0, le=1, description="of max_tokens, in which `length` falls")

    @model_validator(mode="after")
    def _right_beats_wrong(self) -> RewardWeights:
        if self.correct <= self.judge + self.process + self.format + self.length:
            raise ValueError(
                "correct must exceed judge + process + format + length, or a wrong answer could "
                "outscore a right one"
            )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """By part, those without a weight among them."""
        return self.model_dump(include={"correct", "judge", "process", "format", "length"})

    def without_judge(self) -> RewardWeights:
        """The same where the judge is not asked."""
        return self.model_copy(update={"judge": 0.0, "process": 0.0})


class PaperReward(Section):
    """MedGR2's reward, 0.8·R + 0.2·[right]: a wrong answer can outscore a right one."""

    verified_first: ClassVar[bool] = False
    kind: Literal["paper"] = "paper"
    judge: float = Field(0.8, gt=0, description="alpha, of R: what the judge thinks, in [0, 1]")
    correct: float = Field(0.2, gt=0, description="beta")

    @property
    def weights(self) -> dict[str, float]:
        """By part."""
        return {"correct": self.correct, "judge": self.judge}

    def without_judge(self) -> PaperReward:
        """The same where the judge is not asked."""
        return self.model_copy(update={"judge": 0.0})


PolicyReward = Annotated[
    RewardWeights | PaperReward, Field(discriminator="kind"), named("composite")
]


class Hacking(Section):
    """When GRPO stops: the judge's part of the reward rises, and the verified part does not."""

    window: int = Field(50, ge=0, description="steps that are looked at together; 0: never")
    deviations: float = Field(3.0, gt=0, description="standard errors of the judge's slope above 0")
    rise: float = Field(0.05, gt=0, lt=1, description="of the judge's part, over the window")

    @model_validator(mode="after")
    def _a_slope_has_an_error(self) -> Hacking:
        if 0 < self.window < 8:
            raise ValueError("window must be 0 or at least 8: fewer steps tell no slope from noise")
        return self


class Grpo(Optimiser):
    """Group relative policy optimisation of the policy."""

    steps: int = Field(40, ge=0, description="0 skips GRPO")
    share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="of the kept questions, which SFT leaves to GRPO; 0: both see all",
    )
    group: int = Field(8, ge=2, description="completions a prompt")
    temperature: float = Field(1.0, gt=0)
    max_tokens: int = Field(40, ge=2, description="of a completion")
    kl: float = Field(0.02, ge=0, description="beta of the KL penalty; 0 keeps no reference")
    loss: Literal["grpo", "dapo", "dr_grpo", "gspo"] = Field(
        "dapo", description="how a step weighs tokens, completions and ratios"
    )
    clip_low: float | None = Field(
        None, gt=0, lt=1, description="ratios count down to 1 - this; null: the loss's own"
    )
    clip_high: float | None = Field(
        None, gt=0, description="ratios count up to 1 + this; null: the loss's own"
    )
    scale: Literal["group", "batch", "none"] | None = Field(
        None, description="whose deviation divides an advantage; null: the loss's own"
    )
    mask_truncated: bool = Field(
        False, description="completions that are cut off at max_tokens have no part in the loss"
    )
    iterations: int = Field(1, ge=1, description="steps that learn from the same completions")
    reward: PolicyReward = RewardWeights()
    hacking: Hacking = Hacking()
    tolerance: float = Field(
        0.0, ge=0, description="validation accuracy may fall by this, else SFT's model stays"
    )

    @model_validator(mode="after")
    def _whole_groups(self) -> Grpo:
        if self.batch * self.accumulate * self.workers % self.group:
            raise ValueError("batch x accumulate x workers must be a multiple of group")
        return self

    @model_validator(mode="after")
    def _each_setting_does_something(self) -> Grpo:
        clips = self.clip_low is not None or self.clip_high is not None
        if self.iterations == 1 and (clips or self.loss == "gspo"):
            what = "clip_low and clip_high clip" if clips else "loss gspo averages"
            raise ValueError(
                f"{what} ratios, and every ratio is 1 where a completion is learned from once: set "
                "grpo.iterations=2 or more"
            )
        if self.loss == "dr_grpo" and self.scale not in (None, "none"):
            raise ValueError(
                f"loss dr_grpo divides by no deviation: leave scale {self.scale} away, or choose "
                "another loss"
            )
        if self.save_steps % self.iterations:
            raise ValueError(
                "save_steps must be a multiple of iterations, since a checkpoint keeps no "
                "completions"
            )
        return self

    @property
    def draws(self) -> int:
        """How many times completions are drawn: every `iterations` steps."""
        return -(-self.steps // self.iterations)
