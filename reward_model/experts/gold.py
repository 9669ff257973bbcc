"""What experts with gold answers have in common: rows, and pairs of these against made-up ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engine.answers.parsing import render_completion, render_question
from engine.answers.spelling import normalise, normalise_question
from engine.config.expert import Writing
from engine.records import Image, Item, Preference, Task, Triplet, content_id
from reward_model.experts.expert import EXPERT, NOT_STATED, Exemplar, Pairs
from reward_model.preferences import derived, in_holdout, incoherent, irrelevant, preference
from reward_model.verdicts import Answer


@dataclass(frozen=True, slots=True)
class Gold:
    """A question about an image with its right answer; `options` is empty for open questions."""

    question: str
    options: tuple[str, ...]
    answer: str
    question_type: str


class GoldExpert(ABC):
    """Questions whose answers are known; pairs set them against made-up rows."""

    writes: ClassVar[bool] = True
    compares_generated: ClassVar[bool] = False

    def __init__(self, section: Writing) -> None:
        self.section = section

    @abstractmethod
    def gold(self, image: Image) -> list[Gold]:
        """What is known of an image, always in the same order."""

    @abstractmethod
    def others(self, row: Triplet) -> list[str]:
        """Answers that a row's question, an open one, might have on other images, sorted."""

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        once = {normalise_question(g.question): g for g in self.gold(image)}
        return [_row(image, g, n) for n, g in enumerate(list(once.values())[:number])]

    def pairs(self, rows: list[Triplet], number: int, seed: int) -> Pairs:
        """MedGR2's tiers: each gold row against a perturbed, an incoherent or an irrelevant one."""
        rng = np.random.default_rng(seed)
        gold = [r for r in rows if r.generator_id == EXPERT]
        made: list[Triplet] = []
        pairs: list[Preference] = []
        makers = [
            ("factuality", "perturbed"),
            ("reasoning", "incoherent"),
            ("relevance", "irrelevant"),
        ]
        order = rng.permutation(len(gold))
        for count in range(number if gold else 0):
            row = source = gold[order[count % len(gold)]]
            criterion, tier = makers[0 if rng.random() < 0.6 else 1 + count % 2]
            if tier == "incoherent":
                # Gold answers come without reasoning: the same words on both sides, or any
                # reasoning would tell the worse one.
                row = derived(row, "implied", rationale=f"{row.question} {row.answer}")
            worse = self._worse(row, tier, gold, rng)
            if worse is None or (worse.answer == row.answer and tier == "perturbed"):
                continue
            made += [source, row, worse]  # the record holds what a row names as its source
            holdout = in_holdout(row.image_id, self.section.holdout)
            pairs.append(
                preference(row, worse, criterion, tier, f"gold answer, {tier} row", holdout)
            )
        return made, pairs

    def implied(self, rows: list[Triplet]) -> Pairs:
        """None: `pairs` already sets every gold row against made-up ones."""
        return [], []

    def opinions(self, items: Sequence[Item], rows: Mapping[str, Triplet]) -> list[Answer]:
        """None: it has gold answers, and no opinion of others."""
        return []

    def _worse(
        self, row: Triplet, tier: str, gold: list[Triplet], rng: np.random.Generator
    ) -> Triplet | None:
        if tier == "incoherent":
            return incoherent(row, rng)
        if tier == "irrelevant":
            asked = normalise_question(row.question)
            others = [
                g
                for g in gold
                if g.image_id != row.image_id and normalise_question(g.question) != asked
            ]
            return irrelevant(row, others[rng.integers(len(others))]) if others else None
        pool = row.options or self.others(row)
        wrong = [answer for answer in pool if normalise(answer) != normalise(row.answer)]
        return derived(row, "perturbed", answer=wrong[rng.integers(len(wrong))]) if wrong else None


def _row(image: Image, gold: Gold, number: int) -> Exemplar:
    task = Task.make(image.modality, gold.question_type, NOT_STATED, _form(gold), "direct")
    raw = render_question(gold.question, gold.options) + render_completion("", gold.answer)
    row = Triplet(
        id=content_id("triplet", image.id, EXPERT, task.id, number, raw),
        image_id=image.id,
        generator_id=EXPERT,
        task_id=task.id,
        prompt_hash="",
        seed=0,
        sample=number,
        round=0,
        question=gold.question,
        options=gold.options,
        answer=gold.answer,
        rationale="",
        raw=raw,
        logprob=0.0,
    )
    return row, task


def _form(gold: Gold) -> str:
    if not gold.options:
        return "open"
    return "closed" if set(map(normalise, gold.options)) == {"yes", "no"} else "choice"
