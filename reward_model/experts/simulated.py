"""The simulated expert: it knows a phantom's truth and writes rows and verdicts from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from engine.answers.matching import is_valid
from engine.answers.parsing import render_completion, render_question
from engine.config.expert import Simulated
from engine.errors import TriptychError
from engine.records import Image, Item, Preference, Task, Triplet, content_id
from generators.phantoms import bank, composer, oracle, reporter
from generators.phantoms.base import Truth
from generators.phantoms.oracle import is_true, reasons_truly, truth_of
from reward_model.experts.expert import EXPERT, NOT_STATED, Exemplar, Pairs
from reward_model.preferences import derived, in_holdout, irrelevant, preference
from reward_model.verdicts import (
    ACCEPT,
    BOTH_BAD,
    FIRST,
    PREFERENCE,
    REJECT,
    SECOND,
    TIE,
    Answer,
)


def expert_row(
    image: Image,
    qa: bank.QA,
    style: str,
    seed: int,
    number: int,
    asked: dict[str, str] | None = None,
) -> tuple[Triplet, Task]:
    """A row as an expert would write it: question, options, reasoning in a style, true answer.

    `asked` holds the question type and the difficulty that were asked for; without it they are
    what the question shows: its own type, and a difficulty where its options tell one.
    """
    truth = truth_of(image)
    assert truth is not None
    rng = np.random.default_rng([seed, number, int(image.id[:8], 16)])
    rationale = reporter.rationale(truth, style, rng)
    task = Task.make(
        image.modality,
        asked["question_type"] if asked else qa.question_type,
        asked["difficulty"] if asked else composer.difficulty_of(qa) or NOT_STATED,
        qa.answer_format,
        style,
    )
    raw = render_question(qa.question, qa.options) + render_completion(rationale, qa.answer)
    row = Triplet(
        id=content_id("triplet", image.id, EXPERT, task.id, seed, number, raw),
        image_id=image.id,
        generator_id=EXPERT,
        task_id=task.id,
        prompt_hash="",
        seed=seed,
        sample=number,
        round=0,
        question=qa.question,
        options=qa.options,
        answer=qa.answer,
        rationale=rationale,
        raw=raw,
        logprob=0.0,
    )
    return row, task


def write_rows(
    image: Image, number: int, styles: Sequence[str], seed: int, as_asked: bool
) -> list[tuple[Triplet, Task]]:
    """`number` different expert rows about one image, one a question.

    With `as_asked` a row stands under the type and the difficulty that were asked for, also where
    the image (a normal one asked for a grade) made the expert write another: so a generator learns
    not to invent.
    """
    truth = truth_of(image)
    assert truth is not None
    rng = np.random.default_rng([seed, int(image.id[:8], 16)])
    rows: dict[str, tuple[Triplet, Task]] = {}
    for attempt in range(number * 8):
        asked, qa = composer.compose_any(truth, rng)
        style = styles[attempt % len(styles)]
        row = expert_row(image, qa, style, seed, len(rows), asked if as_asked else None)
        rows.setdefault(qa.question, row)
        if len(rows) == number:
            break
    return list(rows.values())


class SimulatedExpert:
    """Simulated from truth: its rows are right, each opinion wrong at `expert.error_rate`."""

    writes: ClassVar[bool] = True
    compares_generated: ClassVar[bool] = True

    def __init__(
        self, section: Simulated, styles: Sequence[str], seed: int, images: Iterable[Image]
    ) -> None:
        self.section, self.styles, self.seed = section, styles, seed
        self.images = {i.id: i for i in images}
        if any(i.truth is None for i in self.images.values()):
            raise TriptychError("expert.kind simulated needs images with known truth")

    def knows(self, image_id: str, source: str) -> bool:
        return True

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
                pairs.append(preference(chosen, rejected, criterion, tier, "simulated", holdout))
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
            pairs.append(preference(*verdict, "factuality", "perturbed", "expert row", False))
        return made, pairs

    def opinions(self, items: Sequence[Item], rows: Mapping[str, Triplet]) -> list[Answer]:
        return [
            self._answer(item, rows, reader) for item in items for reader in range(item.readers)
        ]

    def _answer(self, item: Item, rows: Mapping[str, Triplet], reader: int) -> Answer:
        """What a reader says of an item, by the truth, and wrongly at the stated rate."""
        rng = np.random.default_rng(int(content_id(item.id, self.seed, reader)[:8], 16))
        errs = bool(rng.random() < self.section.error_rate)
        row, name = rows[item.triplet_id], f"simulated-{reader + 1}"
        told = Answer(
            id=content_id("answer", item.id, name),
            kind=item.kind,
            reader=name,
            at="",
            item_id=item.id,
            triplet_id=item.triplet_id,
            other_id=item.other_id,
        )
        if item.kind == PREFERENCE:
            return replace(told, preferences=self._prefers(row, rows[item.other_id], errs))
        accepts, reasons, correction = self._opinion(row)
        if errs:
            accepts, reasons, correction = not accepts, ("wrong finding",) * accepts, ""
        return replace(
            told,
            verdict=ACCEPT if accepts else REJECT,
            reasons=reasons,
            correction=correction,
        )

    def _opinion(self, row: Triplet) -> tuple[bool, tuple[str, ...], str]:
        """(whether the row is right, what is wrong, the right answer where there is one)."""
        image = self.images[row.image_id]
        if is_true(image, row):
            sound = reasons_truly(image, row)
            return sound, () if sound else ("reasoning wrong",), ""
        gold = oracle.answer_of(_truth(image), row.question)
        if gold is None or not is_valid(gold, row.options):
            return False, ("bad question",), ""
        kind = bank.kind_of(row.question)
        why = {"side": "wrong side", "count": "wrong count or size", "size": "wrong count or size"}
        return False, (why.get(kind[0] if kind else "", "wrong finding"),), gold

    def _prefers(self, first: Triplet, second: Triplet, errs: bool) -> dict[str, str]:
        image = self.images[first.image_id]
        right = [bool(is_true(image, row)) for row in (first, second)]
        sound = [r and reasons_truly(image, row) for r, row in zip(right, (first, second))]
        return {
            "factuality": _which(right[0], right[1], errs),
            "reasoning": _which(sound[0], sound[1], errs),
        }

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
            other = reporter.describe(reporter.corrupt(_truth(image), rng))
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
        gold = oracle.answer_of(_truth(image), asked.question)
        if gold is not None and is_valid(gold, asked.options):
            rationale = reporter.describe(_truth(image)) if asked.rationale else ""
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
        return derived(row, "perturbed", answer=composer.wrong_answer(_truth(image), qa, rng))

    def _off_topic(self, image: Image, row: Triplet, rng: np.random.Generator) -> Triplet:
        others = [i for i in self.images.values() if i.split == "train"]
        foreign = [i for i in others if _truth(i).finding != _truth(image).finding]
        other = foreign[rng.integers(len(foreign))] if foreign else image
        qa = composer.compose(_truth(other), "disease", rng)
        assert qa is not None
        told, _ = expert_row(other, qa, "direct", self.seed, 0)
        return irrelevant(row, told)


def _truth(image: Image) -> Truth:
    truth = truth_of(image)
    assert truth is not None
    return truth


def _which(first: bool, second: bool, errs: bool) -> str:
    """Which of two rows is better, as one says who `errs` or does not."""
    if first == second:
        said = TIE if first else BOTH_BAD
        return FIRST if errs else said
    return FIRST if first != errs else SECOND
