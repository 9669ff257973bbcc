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
from reward_model.patient_sets import is_frozen
from reward_model.preferences import derived, preference
from reward_model.swaps import (
    Told,
    made_of,
    mixed,
    swapped_answers,
    swapped_questions,
    swapped_reasoning,
)
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
        """Right before wrong answers of one question; else what is true of two images, swapped.

        Where no answer to a question was right, the expert's own comes first. A fifth each is of
        reasoning and of relevance, as far as there are twins (`reward_model.swaps`).
        """
        rng = np.random.default_rng(seed)
        questions: dict[str, list[Triplet]] = defaultdict(list)
        for row in rows:
            if row.problem is None:
                questions[row.question_key].append(row)
        keys = sorted(questions)
        rng.shuffle(keys)
        compared: list[list[Told]] = []
        alone: list[Triplet] = []  # right, and no answer to the question was wrong
        right: list[Triplet] = []  # one a question
        for key in keys:
            true, false = self._divided(questions[key])
            right += true[:1]
            if true and false:
                chosen, rejected = (some[rng.integers(len(some))] for some in (true, false))
                compared.append([Told("factuality", chosen, rejected, "perturbed")])
            elif true:
                alone.append(true[0])
            else:
                compared.append(self._against_truth(false, rng))
        reasoned = [r for r in right if r.rationale and reasons_truly(self._image(r), r)]
        facts = [*compared, *swapped_answers(alone, self._frozen, rng)]
        told = mixed(
            (0.6, [facts[place] for place in rng.permutation(len(facts))]),
            (0.2, swapped_reasoning(reasoned, self._frozen, rng, self._reasons_apart)),
            (0.2, swapped_questions(right, self._frozen, self._modality, rng, self._facts_apart)),
            number=number,
        )
        return made_of(told), [self._verdict(t, "simulated", rng) for t in told]

    def _divided(self, rows: list[Triplet]) -> tuple[list[Triplet], list[Triplet]]:
        """The answers to a question that are right, and those that are not."""
        image = self._image(rows[0])
        true = [bool(is_true(image, row)) for row in rows]
        return [r for r, t in zip(rows, true) if t], [r for r, t in zip(rows, true) if not t]

    def _verdict(self, told: Told, who: str, rng: np.random.Generator) -> Preference:
        """A preference as an expert gives it who errs at the stated rate."""
        both = told.chosen, told.rejected
        first, second = both[::-1] if rng.random() < self.section.error_rate else both
        return preference(first, second, told.criterion, told.tier, who, self._frozen(told.chosen))

    def _image(self, row: Triplet) -> Image:
        return self.images[row.image_id]

    def _frozen(self, row: Triplet) -> bool:
        return is_frozen(self._image(row).group)

    def _modality(self, row: Triplet) -> str:
        return self._image(row).modality

    def _facts_apart(self, one: Triplet, other: Triplet) -> bool:
        """Whether what is true of each row's image is not true of the other's."""
        return not (is_true(self._image(one), other) or is_true(self._image(other), one))

    def _reasons_apart(self, one: Triplet, other: Triplet) -> bool:
        return not (
            reasons_truly(self._image(one), other) or reasons_truly(self._image(other), one)
        )

    def implied(self, rows: list[Triplet]) -> Pairs:
        """Of a question to two images, each one's answer before the other's.

        An expert who writes a row errs as often as one who compares two, so these are wrong at the
        same rate. Never frozen: what measures a judge is of answers that a generator gave.
        """
        rng = np.random.default_rng(self.seed)
        learned = [row for row in rows if not self._frozen(row)]
        told = [t for twin in swapped_answers(learned, self._frozen, rng) for t in twin]
        return made_of(told), [self._verdict(t, "expert row", rng) for t in told]

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

    def _against_truth(self, wrong: list[Triplet], rng: np.random.Generator) -> list[Told]:
        """No sample was right. With an answer, the expert writes it; a false premise loses to a
        true row of the expert's own."""
        asked = wrong[rng.integers(len(wrong))]
        image = self._image(asked)
        gold = oracle.answer_of(_truth(image), asked.question)
        if gold is not None and is_valid(gold, asked.options):
            rationale = reporter.describe(_truth(image)) if asked.rationale else ""
            told = derived(asked, EXPERT, answer=gold, rationale=rationale)
            return [Told("factuality", told, asked, "perturbed")]
        row, _ = self.rows(image, 1)[0]
        return [Told(c, row, asked, "perturbed") for c in ("factuality", "relevance")]


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
