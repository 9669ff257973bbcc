"""Where expert knowledge comes from: the phantoms' truth, or a benchmark's gold answers.

Both give rows about an image, and pairs of which one is better. Neither is ever asked about test
images for training; `held_out` is where test questions come from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from engine.answers import is_valid, render_completion, render_question
from engine.config import Config
from engine.config import Expert as Section
from engine.errors import TriptychError
from engine.hub.benchmarks import Question
from engine.records import Image, Preference, Task, Triplet, content_id, unique
from engine.spelling import normalise, normalise_question
from generators import questions as bank
from generators.expert import (
    EXPERT,
    NOT_STATED,
    expert_row,
    is_true,
    reasons_truly,
    truth_of,
    write_rows,
)
from pipelines.context import Context
from pipelines.gold import read_gold
from reward_model.preferences import derived, in_holdout, incoherent, irrelevant, prefer

Exemplar = tuple[Triplet, Task]
Pairs = tuple[list[Triplet], list[Preference]]  # rows made for the pairs, and the pairs


class Expert(Protocol):
    """Someone who can be asked about training and held-out images."""

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        """Up to `number` true rows about an image, each with the task that it answers.

        With `as_asked` that is the task that was given, else the one that the question fits.
        """
        ...

    def pairs(self, rows: list[Triplet], number: int, seed: int) -> Pairs:
        """Up to `number` preferences among rows (and rows made from them)."""
        ...

    def implied(self, rows: list[Triplet]) -> Pairs:
        """Preferences that follow from expert rows without asking again."""
        ...


def open_expert(config: Config, images: Iterable[Image]) -> Expert:
    """The configuration's expert, who knows these images."""
    if config.expert.kind == "phantoms":
        styles = list(config.generator.styles)
        return PhantomExpert(config.expert, styles, config.seed, images)
    if config.expert.kind == "vqa-rad":
        return GoldExpert(config.expert, read_gold(config.source).questions, images)
    raise TriptychError("expert.kind none: there is nobody to ask; give phantoms or vqa-rad")


class PhantomExpert:
    """Simulated from truth: its rows are right, each comparison wrong at `expert.error_rate`."""

    def __init__(
        self, section: Section, styles: Sequence[str], seed: int, images: Iterable[Image]
    ) -> None:
        self.section, self.styles, self.seed = section, styles, seed
        self.images = {i.id: i for i in images}
        if any(i.truth is None for i in self.images.values()):
            raise TriptychError("expert.kind phantoms needs images with known truth")

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        return write_rows(image, number, self.styles, self.seed, as_asked)

    def pairs(self, rows: list[Triplet], number: int, seed: int) -> Pairs:
        """Right before wrong answers of one question; else true before made-up rows."""
        rng = np.random.default_rng(seed)
        made: list[Triplet] = []
        pairs: list[Preference] = []
        questions: dict[str, list[Triplet]] = defaultdict(list)
        for row in rows:
            if row.problem is None:
                questions[row.question_key].append(row)
        keys = sorted(questions)
        rng.shuffle(keys)
        for key in keys:
            if len(pairs) >= number:
                break
            for criterion, chosen, rejected, tier in self._compare(questions[key], rng):
                made += [chosen, rejected]
                chosen, rejected = self._verdict(chosen, rejected, rng)
                holdout = in_holdout(chosen.image_id, self.section.holdout)
                pairs.append(prefer(chosen, rejected, criterion, tier, "simulated", holdout))
        return made, pairs[:number]

    def _verdict(
        self, better: Triplet, worse: Triplet, rng: np.random.Generator
    ) -> tuple[Triplet, Triplet]:
        """(chosen, rejected) as an expert says who errs at the stated rate."""
        return (worse, better) if rng.random() < self.section.error_rate else (better, worse)

    def implied(self, rows: list[Triplet]) -> Pairs:
        """Pairs that expert rows imply: each row against its own question answered wrong.

        An expert who writes a row errs as often as one who compares two, so these are wrong at the
        same rate.

        Without reasoning, so that the judge has to look at the image. Never frozen: the holdout is
        of answers that a generator gave.
        """
        rng = np.random.default_rng(self.seed)
        made: list[Triplet] = []
        pairs: list[Preference] = []
        for row in rows:
            if in_holdout(row.image_id, self.section.holdout):
                continue
            right = derived(row, "implied", rationale="")
            wrong = self._perturbed(self.images[row.image_id], right, rng)
            made += [right, wrong]
            verdict = self._verdict(right, wrong, rng)
            pairs.append(prefer(*verdict, "factuality", "perturbed", "expert row", False))
        return made, pairs

    def _compare(
        self, rows: list[Triplet], rng: np.random.Generator
    ) -> list[tuple[str, Triplet, Triplet, str]]:
        image = self.images[rows[0].image_id]
        right = [r for r in rows if is_true(image, r)]
        wrong = [r for r in rows if not is_true(image, r)]
        found = []
        if right and wrong:
            pair = right[rng.integers(len(right))], wrong[rng.integers(len(wrong))]
            found.append(("factuality", *pair, "perturbed"))
        elif right:
            found.append(
                ("factuality", right[0], self._perturbed(image, right[0], rng), "perturbed")
            )
        else:
            found += self._against_truth(image, wrong, rng)
        reasoned = [r for r in right if r.rationale and reasons_truly(image, r)]
        if reasoned and rng.random() < 0.3:
            other = bank.describe(bank.corrupt(_truth(image), rng))
            found.append(
                (
                    "reasoning",
                    reasoned[0],
                    derived(reasoned[0], "perturbed", rationale=other),
                    "perturbed",
                )
            )
        if right and rng.random() < 0.3:
            found.append(
                ("relevance", right[0], self._off_topic(image, right[0], rng), "irrelevant")
            )
        return found

    def _against_truth(
        self, image: Image, wrong: list[Triplet], rng: np.random.Generator
    ) -> list[tuple[str, Triplet, Triplet, str]]:
        """No sample was right. With an answer, the expert writes it; a false premise loses to a
        true row of the expert's own."""
        asked = wrong[rng.integers(len(wrong))]
        gold = bank.answer_of(_truth(image), asked.question)
        if gold is not None and is_valid(gold, asked.options):
            rationale = bank.describe(_truth(image)) if asked.rationale else ""
            return [
                (
                    "factuality",
                    derived(asked, EXPERT, answer=gold, rationale=rationale),
                    asked,
                    "perturbed",
                )
            ]
        row, _ = self.rows(image, 1)[0]
        return [("factuality", row, asked, "perturbed"), ("relevance", row, asked, "perturbed")]

    @staticmethod
    def _perturbed(image: Image, row: Triplet, rng: np.random.Generator) -> Triplet:
        kind = bank.kind_of(row.question)
        assert kind is not None
        qa = bank.QA(kind[0], row.question, row.options, row.answer)
        return derived(row, "perturbed", answer=bank.wrong_answer(_truth(image), qa, rng))

    def _off_topic(self, image: Image, row: Triplet, rng: np.random.Generator) -> Triplet:
        others = [i for i in self.images.values() if i.split == "train"]
        foreign = [i for i in others if _truth(i).finding != _truth(image).finding]
        other = foreign[rng.integers(len(foreign))] if foreign else image
        qa = bank.compose(_truth(other), "disease", rng)
        assert qa is not None
        told, _ = expert_row(other, qa, "direct", self.seed, 0)
        return irrelevant(row, told)


def _truth(image: Image) -> bank.Truth:
    truth = truth_of(image)
    assert truth is not None
    return truth


class GoldExpert:
    """A benchmark's questions and gold answers; pairs set them against made-up rows."""

    def __init__(
        self, section: Section, questions: Iterable[Question], images: Iterable[Image]
    ) -> None:
        self.section = section
        self.images = {i.id: i for i in images}
        self.questions: dict[str, list[Question]] = defaultdict(list)
        for question in questions:
            self.questions[f"images/{question.image}"].append(question)
        self.types: dict[str, str] = {}
        self.answers: dict[str, set[str]] = defaultdict(set)
        for image in self.images.values():
            if image.split == "train":
                for question in self.questions[image.source]:
                    self.types[question.question] = question.question_type
                    self.answers[question.question_type].add(question.answer)

    def rows(self, image: Image, number: int, as_asked: bool = False) -> list[Exemplar]:
        asked = self.questions[image.source]
        once = list({normalise_question(q.question): q for q in asked}.values())
        return [self._row(image, q, n) for n, q in enumerate(once[:number])]

    def _row(self, image: Image, question: Question, number: int) -> Exemplar:
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
            pairs.append(prefer(row, worse, criterion, tier, f"gold answer, {tier} row", holdout))
        return made, pairs

    def implied(self, rows: list[Triplet]) -> Pairs:
        """None: `pairs` already sets every gold row against made-up ones."""
        return [], []

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


def own_tasks(context: Context, rows: list[Triplet]) -> list[Task]:
    """The tasks of rows that the expert wrote of its own accord, in no plan and no seed."""
    own = [row for row in rows if row.generator_id == EXPERT and not row.derived_from]
    if not own:
        return []
    expert = open_expert(context.config, context.images())
    images = {i.id: i for i in context.images()}
    told = {
        written.id: task
        for row in own
        for written, task in expert.rows(images[row.image_id], row.sample + 1)
    }
    return unique([told[row.id] for row in own])


def expert_images(context: Context) -> tuple[list[Image], list[Image]]:
    """Training images with expert rows, and further ones for preferences; in order of id."""
    train = sorted(context.images("train"), key=lambda i: i.id)
    expert = context.config.expert
    rows = train[: expert.images]
    rest = train[expert.images : expert.images + expert.preference_images]
    return rows, rest or rows


def held_out(context: Context, split: str, number: int) -> list[Exemplar]:
    """About `number` expert questions on a split's images, spread evenly over the images."""
    images = sorted(context.images(split), key=lambda i: i.id)
    if not images:
        return []
    expert = open_expert(context.config, context.images())
    each = -(-number // len(images))
    return [row for image in images for row in expert.rows(image, each)][:number]
