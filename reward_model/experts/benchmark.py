"""A benchmark's questions and gold answers as an expert."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from engine.answers.parsing import render_completion, render_question
from engine.answers.spelling import normalise, normalise_question
from engine.config.expert import FromBenchmark
from engine.config.source import Source
from engine.records import Image, Item, Preference, Task, Triplet, content_id
from engine.sets.benchmark import Benchmark, GoldQuestion
from engine.sets.vqa_rad import read_gold
from reward_model.experts.expert import EXPERT, NOT_STATED, Exemplar, Pairs
from reward_model.preferences import derived, in_holdout, incoherent, irrelevant, preference
from reward_model.verdicts import Answer

READERS = {"vqa-rad": read_gold}


def read_benchmark(section: FromBenchmark, source: Source) -> Benchmark:
    """What the source's JSON says; raises TriptychError where it cannot be read."""
    return READERS[section.name](source)


class BenchmarkExpert:
    """A benchmark's questions and gold answers; pairs set them against made-up rows."""

    writes: ClassVar[bool] = True
    compares_generated: ClassVar[bool] = False

    def __init__(
        self, section: FromBenchmark, benchmark: Benchmark, images: Iterable[Image]
    ) -> None:
        self.section = section
        self.questions: dict[str, list[GoldQuestion]] = defaultdict(list)
        for question in benchmark.questions:
            self.questions[f"images/{question.image}"].append(question)
        self.types: dict[str, str] = {}
        self.answers: dict[str, set[str]] = defaultdict(set)
        for image in images:
            if image.split == "train":
                for question in self.questions.get(image.source, ()):
                    self.types[question.question] = question.question_type
                    self.answers[question.question_type].add(question.answer)

    def knows(self, source: str) -> bool:
        return source in self.questions

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        asked = self.questions.get(image.source, [])
        once = list({normalise_question(q.question): q for q in asked}.values())
        return [self._row(image, q, n) for n, q in enumerate(once[:number])]

    def _row(self, image: Image, question: GoldQuestion, number: int) -> Exemplar:
        form = "closed" if question.options else "open"
        kind = question.question_type
        task = Task.make(image.modality, kind, NOT_STATED, form, "direct")
        raw = render_question(question.question, question.options)
        raw += render_completion("", question.answer)
        row = Triplet(
            id=content_id("triplet", image.id, EXPERT, task.id, number, raw),
            image_id=image.id,
            generator_id=EXPERT,
            task_id=task.id,
            prompt_hash="",
            seed=0,
            sample=number,
            round=0,
            question=question.question,
            options=question.options,
            answer=question.answer,
            rationale="",
            raw=raw,
            logprob=0.0,
        )
        return row, task

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
        wrong = [o for o in row.options if normalise(o) != normalise(row.answer)]
        if not wrong:
            pool = self.answers[self.types[row.question]]
            wrong = sorted(a for a in pool if normalise(a) != normalise(row.answer))
        return derived(row, "perturbed", answer=wrong[rng.integers(len(wrong))]) if wrong else None
