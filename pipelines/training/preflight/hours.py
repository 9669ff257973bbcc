"""Hours of each stage of each round, on the GPUs that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.training.preflight.cost import (
    reading_seconds,
    step_seconds,
    training_seconds,
    writing_seconds,
)
from pipelines.training.preflight.shapes import Seen
from pipelines.training.preflight.sizes import Work
from pipelines.training.preflight.stages import Reckoned, Stage

HELD_BY = {"tune": "sft", "refine": "reward", "compare": "generate", "renew": "generate"}
SECTIONS = {"tune": "sft", "sft": "sft", "reward": "reward", "refine": "reward", "grpo": "grpo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A stage of a round, and hours of its GPUs, together and by the clock; None: not known."""

    work: Work
    gpu_hours: float | None = None
    hours: float | None = None


def timed(told: Reckoned, held: Sequence[Stage], works: Sequence[Work]) -> list[Timed]:
    """Each work with its hours, where it has GPUs of ours and its model is known.

    `told.image` is a picture's tokens on average.
    """
    by_name = {stage.name: stage for stage in held}
    found = []
    for work in works:
        stage = by_name.get(HELD_BY.get(work.stage, work.stage))
        if stage is None or not stage.gpus:
            found.append(Timed(work=work))
            continue
        hours = _gpu_seconds(told, work) / 3600
        found.append(Timed(work=work, gpu_hours=hours, hours=hours / stage.all_gpus))
    return found


def _gpu_seconds(told: Reckoned, work: Work) -> float:
    config, models = told.config, told.models
    policy, written = models["policy"].shape, config.generator.max_tokens

    def row(what: str, more: int = 0, scored: int = 0) -> Seen:
        batch = told.batch(1, what, "policy", scored, more)
        return batch.tokens, batch.patches, batch.scored

    match work.stage:
        case "tune" | "sft":
            turn = row("answering", written, written)
            return training_seconds(policy, config.sft, turn, work.epochs * work.number)
        case "reward" | "refine":
            rows = 2 * work.epochs * work.number  # both of a pair
            return training_seconds(models["judge"].shape, config.reward, row("judging"), rows)
        case "judge":
            return reading_seconds(models["judge"].shape, row("judging"), work.reads)
        case "grpo":
            judge = told.rewards_by()
            shape = judge.shape if judge else None
            each = step_seconds(policy, shape, config.grpo, row("GRPO"), row("judging"))
            learned = work.steps * work.per_step * each
            return learned + writing_seconds(policy, work.writes * config.grpo.max_tokens)
        case "evaluate":
            return writing_seconds(policy, work.writes * config.evaluate.max_tokens)
        case "verify":
            rubric = config.verify.rubric
            tokens = rubric.max_tokens if rubric else written
            return writing_seconds(models["verifier"].shape, work.writes * tokens)
        case _:
            return writing_seconds(models["generator"].shape, work.writes * written)


def without_checkpoints(works: Sequence[Timed]) -> list[str]:
    """Where a checkpoint is asked for and never reached, or none is and much would be lost."""
    lines = []
    for name in dict.fromkeys(SECTIONS.values()):
        mine = [t for t in works if SECTIONS.get(t.work.stage) == name and t.work.steps]
        never = [t.work for t in mine if t.work.save_steps and not t.work.saves]
        if never:
            where = ", ".join(map(_place, never))
            to = max(min(work.steps for work in never) // 4, 1)
            lines.append(
                f"{name}.save_steps {never[0].save_steps} is never reached, and no checkpoint "
                f"written: {where}: set {name}.save_steps={to}"
            )
        lost = [t.work for t in mine if not t.work.save_steps and (t.hours or 0) > 1]
        if lost:
            where = ", ".join(map(_place, lost))
            lines.append(
                f"{name}.save_steps is 0, and an interruption costs more than an hour: {where}"
            )
    return lines


def _place(work: Work) -> str:
    where = f"{work.stage} of round {work.round}" if work.round else work.stage
    return f"{where} ({work.steps} steps)"
