"""How much a configuration makes: rows, steps and checkpoints of each stage and round, at most.

What is not known before is taken at its most: every question is read, the share `select.keep` is
kept (all, where a guarantee decides), experts answer all that they are asked and accept it. Steps
are counted by the functions that the stages use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from engine.config import Config
from engine.config.training import Optimiser
from engine.records import Task, Triplet
from generators.phantoms.bank import PROMPT_STYLES
from pipelines.training.grpo import looked_at, questions_per_step
from pipelines.training.launch import rows_per_step, steps_of
from pipelines.training.sft import turns_of
from reward_model.experts import asked_of, compares_generated
from reward_model.patient_sets import SHARES, TRAIN
from reward_model.streams import candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A stage of a round: how many of what, and a training's steps, rows a step and checkpoints.

    `reads` counts prompts that a model reads without writing, `writes` replies that it writes.
    """

    stage: str
    round: int
    number: int
    what: str
    steps: int = 0
    per_step: int = 0
    reads: int = 0
    writes: int = 0
    save_steps: int = 0
    epochs: float = 1

    @property
    def saves(self) -> int:
        """Checkpoints while it goes."""
        return self.steps // self.save_steps if self.save_steps else 0


def works(config: Config) -> list[Work]:
    """All stages that cost something, in the order in which they run."""
    found = list(_before(config))
    for round in range(1, config.rounds + 1):
        found += _of_round(config, round)
    return found


def kept(config: Config) -> int:
    """Questions of a round that are kept, at most."""
    share = 1.0 if config.select.guarantee else config.select.keep
    return ceil(share * config.generator.tasks)


def seeds(config: Config) -> int:
    """Rows that the expert writes before it is asked, at most."""
    asked = asked_of(config)
    return asked.images * asked.rows_per_image + 2 * getattr(asked, "twins", 0)


def turns_a_row(config: Config) -> float:
    """Training turns that a row gives, on average over the generator's styles."""
    style, words = config.evaluate.style, config.generator.prompts
    shares = {name: share for name, share in config.generator.styles.items() if share}
    total = 0.0
    for name, share in shares.items():
        task = Task.make("", "", "", "", name)
        rationale = "" if name == PROMPT_STYLES[0] else "because"
        row = Triplet(
            id="", image_id="", generator_id="", task_id=task.id, prompt_hash="", seed=0, sample=0,
            round=0, question="", options=(), answer="", rationale=rationale, raw="", logprob=None,
        )  # fmt: skip
        total += share * len(list(turns_of([row], {task.id: task}, words, style, 0.0, 0)))
    return total / sum(shares.values()) + config.sft.ask_share


def sft_rows(config: Config, round: int) -> int:
    """Rows that a round's policy is tuned on: the expert's, and what rounds so far kept."""
    verdicts, share = asked_of(config).verdicts, config.grpo.share if config.grpo.steps else 0.0
    gold = verdicts.first + round * (verdicts.random + verdicts.informative)
    composed = config.compose.questions + sum(config.safety.wanted.values())
    each = kept(config) * config.select.rationales + composed
    return seeds(config) + gold + int(round * each * (1 - share))


def opinions(config: Config, round: int) -> int:
    """What the judge of a round learns from: pairs and verdicts of patients of its own set."""
    asked = asked_of(config)
    said = asked.pairs + config.reward.twins + asked.verdicts.first
    said += round * (config.reward.refine_pairs + asked.verdicts.informative)
    return int(SHARES[TRAIN] * said)


def _before(config: Config) -> Iterator[Work]:
    asked = asked_of(config)
    if rows := seeds(config):
        yield Work(stage="seed", round=0, number=rows, what="rows")
        turns = round(rows * turns_a_row(config))
        yield _trained("tune", 0, turns, "turns", config.sft)
    compared = max(asked.pairs, asked.preference_images) if compares_generated(config) else 0
    number = max(compared, candidates(asked.verdicts.first)) + candidates(asked.verdicts.test)
    if number:
        yield _generated(config, "compare", 0, number)
    if number := asked.verdicts.first + asked.verdicts.test:
        yield Work(stage="consult", round=0, number=number, what="questions to experts")
    yield _trained("reward", 0, opinions(config, 0), "opinions", config.reward)


def _of_round(config: Config, round: int) -> Iterator[Work]:
    section, asked, evaluate = config.generator, asked_of(config), config.evaluate
    yield _generated(config, "generate", round, section.tasks)
    if config.verify.on:
        blind, rubric = config.verify.blind, config.verify.rubric
        replies = blind.samples * (1 + len(blind.without)) if blind else 0
        replies += rubric.answers if rubric else 0
        number = section.tasks
        yield Work(
            stage="verify", round=round, number=number, what="questions", writes=number * replies
        )
    triplets = section.tasks * section.samples
    yield Work(stage="judge", round=round, number=triplets, what="triplets", reads=triplets)
    if number := asked.verdicts.random + asked.verdicts.informative:
        yield Work(stage="consult", round=round, number=number, what="questions to experts")
    chosen = kept(config) * config.select.rationales
    yield Work(stage="select", round=round, number=chosen, what="rows kept")
    turns = int(sft_rows(config, round) * turns_a_row(config))
    yield _trained("sft", round, turns, "turns", config.sft)
    if config.grpo.steps:
        yield _grpo(config, round)
    arms = 3 if round == 1 else 2
    number = arms * evaluate.questions + evaluate.validation
    yield Work(stage="evaluate", round=round, number=number, what="answers", writes=number)
    again = config.reward.model_copy(update={"epochs": config.reward.refine_epochs})
    yield _trained("refine", round, opinions(config, round), "opinions", again)
    if section.refine:
        yield _generated(config, "renew", round, 2 * section.refine.tasks)


def _generated(config: Config, stage: str, round: int, tasks: int) -> Work:
    samples = config.generator.samples
    return Work(
        stage=stage,
        round=round,
        number=tasks * samples,
        what=f"triplets, {samples} samples of each of {tasks:,} questions",
        writes=tasks * (1 + samples),
    )


def _trained(stage: str, round: int, rows: int, what: str, section: Optimiser) -> Work:
    return Work(
        stage=stage,
        round=round,
        number=rows,
        what=what,
        steps=steps_of(rows, section),
        per_step=rows_per_step(section),
        save_steps=section.save_steps,
        epochs=section.epochs,
    )


def _grpo(config: Config, round: int) -> Work:
    """With the questions that are looked at before, and validation before and after."""
    section = config.grpo
    fresh = max(int(round * kept(config) * (section.share or 1)), questions_per_step(section))
    looked = min(looked_at(section), fresh)
    return Work(
        stage="grpo",
        round=round,
        number=section.draws * rows_per_step(section),
        what=f"completions, {section.group} of each question; {looked:,} looked at before",
        steps=section.steps,
        per_step=rows_per_step(section),
        writes=looked * section.group + 2 * config.evaluate.validation,
        save_steps=section.save_steps,
    )
