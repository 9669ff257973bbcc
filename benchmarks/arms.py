"""The arms of `benchmarks.loop`: which rows each trains on, and how all are shown as much.

Equal steps are not equal exposure: in a fixed number of steps an expert's row is seen a quarter as
often beside 3,400 rows as beside 550. So a training set is written out turn by turn: the expert's
turns a set number of times, and of the arm's own turns a set number in all, gone round in shuffled
passes. One epoch over it gives each arm the same steps, as much of the expert's turns and as much
of its own; where an arm has more rows, each is seen less often, and that is printed.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.answers.parsing import render_completion
from engine.config.training import Optimiser
from engine.prompts import answer_prompt
from engine.records import Consumption, Model, Task, Triplet, unique
from engine.trainer import write_training_set
from engine.workspace import Stage
from generators import filters
from generators.phantoms import oracle, reporter
from generators.phantoms.oracle import share_true, truth_of
from pipelines.context import Context
from pipelines.grpo import fit_policy
from pipelines.record import seed_triplets
from pipelines.training.launch import rows_per_step
from pipelines.training.sft import SftJob, Turn, train_sft, turns_of
from pipelines.training_jobs import job_of
from reward_model.threshold import choose


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained arm, and what it was shown: counts, and how often each of its turns was seen."""

    model: Model
    steps: int
    rows: int
    questions: int
    passes: float
    precision: float | None

    def shown(self) -> dict[str, Any]:
        """What is printed and kept of it."""
        return {
            "steps": self.steps,
            "rows": self.rows,
            "questions": self.questions,
            "passes": round(self.passes, 2),
            "precision": self.precision,
        }


def rounds_of(turns: Sequence[Any], number: int, rng: np.random.Generator) -> list[Any]:
    """`number` turns in shuffled passes: none is seen twice before all are seen once."""
    found: list[Any] = []
    while turns and len(found) < number:
        found += [turns[place] for place in rng.permutation(len(turns))]
    return found[:number]


def exposure(
    expert: Sequence[Any], own: Sequence[Any], passes: int, budget: int, seed: int
) -> list[Any]:
    """A training set: the expert's turns `passes` times and `budget` turns of the arm's own."""
    return [*expert] * passes + rounds_of(own, budget, np.random.default_rng(seed))


def random_questions(rows: Sequence[Triplet], number: int, seed: int) -> list[Triplet]:
    """One random answer to each of `number` random questions."""
    rng = np.random.default_rng(seed)
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for row in rows:
        questions[row.question_key].append(row)
    keys = sorted(questions)
    chosen = rng.choice(len(keys), size=min(number, len(keys)), replace=False)
    return [questions[keys[k]][rng.integers(len(questions[keys[k]]))] for k in sorted(chosen)]


def parsed(rows: Iterable[Triplet]) -> list[Triplet]:
    """The rows that parsed, whatever a filter finds fault with."""
    bare = [replace(row, problem=None) for row in rows if row.problem]
    fault = {row.id: filters.reason(row) for row in bare}
    return [replace(r, problem=None) for r in rows if r.problem in (None, fault.get(r.id))]


def agreed(context: Context, rows: Sequence[Triplet], number: int) -> list[Triplet]:
    """The `number` surest questions' answers without a judge, by agreement and confidence.

    As select chooses where the judge is at chance.
    """
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for row in rows:
        if filters.reason(row) is None:
            questions[row.question_key].append(row)
    rules = context.config.select
    choices = [choose(same, {}, rules, trusted=False) for same in questions.values()]
    chosen = [choice for choice in choices if choice is not None]
    surest = sorted(chosen, key=lambda c: (-c.confidence, c.triplet.id))
    return [choice.triplet for choice in surest[:number]]


def told_truly(context: Context, rows: Sequence[Triplet]) -> list[Triplet]:
    """Each answerable question of `rows` once, as an expert would answer it in the row's style."""
    images = {i.id: i for i in context.images()}
    tasks = {t.id: t for t in context.rows(Task)}
    rng = np.random.default_rng(context.config.seed)
    found: dict[str, Triplet] = {}
    for row in rows:
        truth = truth_of(images[row.image_id])
        gold = oracle.answer_of(truth, row.question) if truth and row.problem is None else None
        if truth is not None and gold is not None and (not row.options or gold in row.options):
            reasons = reporter.rationale(truth, tasks[row.task_id].prompt_style, rng)
            raw = render_completion(reasons, gold)
            told = replace(row, answer=gold, rationale=reasons, raw=raw)
            found.setdefault(row.question_key, told)
    return list(found.values())


class Budget:
    """What every SFT arm of a seed is shown: set by the filtered rows, `sft.epochs` times."""

    def __init__(self, context: Context, filtered: Sequence[Triplet]) -> None:
        self.context = context
        self.expert = self.turns(seed_triplets(context))
        self.passes = max(round(context.config.sft.epochs), 1)
        self.own = self.passes * len(self.turns(filtered))

    def turns(self, rows: Sequence[Triplet]) -> list[Turn]:
        """Answering only: an arm need not ask."""
        config = self.context.config
        words, style = config.generator.prompts, config.evaluate.style
        tasks = {t.id: t for t in self.context.rows(Task)}
        return list(turns_of(rows, tasks, words, style, 0.0, config.seed))


def sft_arm(budget: Budget, rows: Sequence[Triplet], folder: Path) -> Trained:
    """SFT of the base on the expert seed and `rows`; without rows, on the seed for as long."""
    context = budget.context
    own = budget.turns(rows) or budget.expert
    data = exposure(budget.expert, own, budget.passes, budget.own, context.config.seed)
    section = context.config.sft
    model, steps = fit(context, context.base(), data, folder, section)
    passes = budget.own / len(own)
    return trained(context, model, steps, rows or seed_triplets(context), passes)


def more_sft(
    context: Context, start: Model, rows: Sequence[Triplet], folder: Path, lr: float
) -> Trained:
    """The control of a GRPO: SFT of its start on its rows, as many steps of as many questions."""
    grpo, config = context.config.grpo, context.config
    batch = rows_per_step(grpo) // grpo.group
    turns = [
        {
            "image_id": row.image_id,
            "prompt": answer_prompt(
                config.generator.prompts, row.question, row.options, config.evaluate.style
            ),
            "completion": render_completion("", row.answer),
        }
        for row in rows
    ]
    data = rounds_of(turns, grpo.steps * batch, np.random.default_rng(config.seed))
    section = config.sft.model_copy(update={"batch": batch, "lr": lr, "accumulate": 1})
    model, steps = fit(context, start, data, folder, section)
    return trained(context, model, steps, rows, len(data) / len(rows))


def grpo_arm(
    context: Context, start: Model, judge: Model, rows: list[Triplet], folder: Path
) -> Trained:
    """GRPO of `start` on `rows` as the loop does it."""
    shutil.rmtree(folder, ignore_errors=True)
    result = fit_policy(context, Stage("grpo", 2, "", folder), start, judge, rows)
    grpo = context.config.grpo
    visits = result.steps * rows_per_step(grpo) // grpo.group
    model = at(folder)
    return trained(context, model, result.steps, rows, visits / len(rows))


def rows_of(context: Context, stage: str, round: int) -> list[Triplet]:
    """The rows that the loop's own training in a round saw, the expert's left out."""
    uses = context.rows(Consumption, stage, round)
    ids = {use.row_id for use in uses if use.row_table == Triplet.table}
    rows = context.rows(Triplet, "generate")
    return [row for row in unique(rows) if row.id in ids]


def fit(
    context: Context, start: Model, data: list[Turn], folder: Path, section: Optimiser
) -> tuple[Model, int]:
    """One epoch of SFT of `start` over `data`, from the beginning; (model, steps)."""
    shutil.rmtree(folder, ignore_errors=True)
    write_training_set(folder / "data", data)
    job = job_of(SftJob, context, Stage("arm", 1, "", folder), section, start)
    result = train_sft(job.with_section(epochs=1.0, save_steps=0))
    return at(folder), result.steps


def at(folder: Path) -> Model:
    """A model in a folder of the benchmark's."""
    return Model(
        id=folder.name, role="sft", stage="arm", round=1, parent_id=None,
        path=str((folder / "weights").resolve()), metrics="{}",
    )  # fmt: skip


def trained(
    context: Context, model: Model, steps: int, rows: Sequence[Triplet], passes: float
) -> Trained:
    """With what is counted of its rows."""
    questions = len({row.question_key for row in rows})
    return Trained(
        model,
        steps,
        len(rows),
        questions,
        passes,
        share_true({i.id: i for i in context.images()}, rows),
    )
