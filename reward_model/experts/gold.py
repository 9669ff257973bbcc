"""What experts with gold answers have in common: rows, and pairs that swap these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from engine.answers.parsing import render_completion, render_question
from engine.answers.spelling import normalise, normalise_question
from engine.records import Image, Item, Task, Triplet, content_id
from reward_model.experts.expert import EXPERT, NOT_STATED, Exemplar, Pairs
from reward_model.patient_sets import is_frozen
from reward_model.swaps import Met, gold_pairs
from reward_model.verdicts import Answer


@dataclass(frozen=True, slots=True)
class Gold:
    """A question about an image with its right answer; `options` is empty for open questions."""

    question: str
    options: tuple[str, ...]
    answer: str
    question_type: str


class GoldExpert(ABC):
    """Questions whose answers are known; pairs swap them between images."""

    writes: ClassVar[bool] = True
    compares_generated: ClassVar[bool] = False

    def __init__(self) -> None:
        self.met: dict[str, Met] = {}  # by image

    def meet(self, image: Image) -> None:
        """An image about which there are gold rows: without it none of them is in a pair."""
        self.met[image.id] = Met(is_frozen(image.group), f"{image.modality} {image.anatomy}")

    @abstractmethod
    def gold(self, image: Image) -> list[Gold]:
        """What is known of an image, always in the same order."""

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        once = {normalise_question(g.question): g for g in self.gold(image)}
        return [_row(image, g, n) for n, g in enumerate(list(once.values())[:number])]

    def pairs(self, rows: list[Triplet], number: int, seed: int) -> Pairs:
        """Gold rows before others' answers and others' questions, swapped: `reward_model.swaps`."""
        gold = [row for row in rows if row.generator_id == EXPERT and row.image_id in self.met]
        return gold_pairs(gold, self.met, number, seed, "gold answer")

    def implied(self, rows: list[Triplet]) -> Pairs:
        """None: `pairs` is of gold rows already."""
        return [], []

    def opinions(self, items: Sequence[Item], rows: Mapping[str, Triplet]) -> list[Answer]:
        """None: it has gold answers, and no opinion of others."""
        return []


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
