"""What lessons are made of and what they are: questions whose answer is known, and lessons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.answers.matching import resolve
from engine.config.policy import Clause, Policy
from engine.prompts import CANNOT_BE_TOLD
from engine.records import Image, Triplet, canonical
from generators.phantoms.bank import QA
from generators.phantoms.composer import compose_any
from generators.phantoms.oracle import truth_of
from generators.phantoms.reporter import describe

ANSWERABLE = "answerable"  # the subject of the clause that a counterpart cites
OF_TRUTH = 4  # questions that are asked of a phantom's truth


@dataclass(frozen=True, slots=True)
class Answered:
    """A question about an image, of which the right option is known."""

    image: Image
    question: str
    options: tuple[str, ...]
    answer: str
    rationale: str  # why, in the words of who answered; may be empty
    takes: tuple[str, ...]  # the triplet that says so, or the image whose truth does
    confidence: float = 1.0
    known: tuple[str, ...] = ()  # what of private knowledge its writer was told


@dataclass(frozen=True, slots=True)
class Pool:
    """What a round's lessons are made of, in the order in which it is taken."""

    images: Sequence[Image]
    answered: Sequence[Answered]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question about an image, what is right and why, by which clause of the policy."""

    image: Image  # with `text`, as it is before that is written into it
    subject: str
    question: str
    options: tuple[str, ...]
    answer: str
    rationale: str
    rule: str  # JSON: what it teaches, clause, the policy's hash, and what the words were made of
    takes: tuple[str, ...]
    confidence: float
    known: tuple[str, ...] = ()  # what was told to the writer of the words that it takes
    text: str = ""  # that is to be written into the image


def of_row(image: Image, row: Triplet, confidence: float = 1.0) -> Answered | None:
    """A row as a question whose answer is known; None where it offers no choice of its own."""
    right = resolve(row.answer, row.options) if row.options else None
    taken = row.problem or row.program or CANNOT_BE_TOLD in row.options
    if taken or right is None or len(row.options) < 2:
        return None
    words = (row.question, row.options, right, row.rationale)
    return Answered(image, *words, (row.id,), confidence, row.known)


def of_truth(image: Image, rng: np.random.Generator) -> Iterator[Answered]:
    """Different questions with options about a phantom; none about an image that is none."""
    truth = truth_of(image)
    asked: dict[str, QA] = {}
    for _ in range(OF_TRUTH if truth else 0):
        assert truth is not None
        qa = compose_any(truth, rng)[1]
        asked.setdefault(qa.question, qa)
    for qa in asked.values():
        if truth and qa.options:
            yield Answered(image, qa.question, qa.options, qa.answer, describe(truth), (image.id,))


def offered(options: Sequence[str], place: int) -> tuple[str, ...]:
    """Options with "cannot be told from this image" among them, at a place."""
    return (*options[:place], CANNOT_BE_TOLD, *options[place:])


def cited(clause: Clause) -> str:
    """How reasoning cites a clause."""
    return f"Clause {clause.number} of the policy: {clause.says}"


def rule_of(policy: Policy, subject: str, cites: str, answerable: bool, **more: str) -> str:
    """What a row teaches, for its column `program`; `cites` is the subject of its clause."""
    told = {"teaches": subject, "clause": policy.clause(cites).number, "policy": policy.id}
    return canonical(told | {"answerable": answerable} | more)


def answered_all_the_same(
    known: Answered,
    subject: str,
    options: tuple[str, ...],
    policy: Policy,
    asked: str = "",
    of: str = "",
    before: str = "",
) -> Lesson:
    """The counterpart of a refusal: the image shows what is asked, and it is answered.

    `asked` is the question as it is put, where that is not how it was; `of` what it is put to.
    """
    why = [before, cited(policy.clause(ANSWERABLE)), known.rationale, so(known.answer)]
    return Lesson(
        image=known.image,
        subject=subject,
        question=asked or known.question,
        options=options,
        answer=known.answer,
        rationale=" ".join(part for part in why if part),
        rule=rule_of(policy, subject, ANSWERABLE, True, asks=known.question, of=of),
        takes=known.takes,
        confidence=known.confidence,
        known=known.known,
    )


def so(answer: str) -> str:
    """The end of reasoning that was decided by the image."""
    return f"By what the image shows, the answer is {answer}."
