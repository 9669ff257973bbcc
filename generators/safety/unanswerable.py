"""Questions that no single image answers, beside questions with the same option that one does.

That the option is offered tells nothing: of k options it is right in one of k rows. What is asked
does tell it, since whether an image can answer hangs on the question: that is what is taught.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.config.policy import Policy
from engine.prompts import CANNOT_BE_TOLD
from engine.records import Image
from generators.compose.balance import Balance
from generators.safety.lessons import (
    Answered,
    Lesson,
    Pool,
    answered_all_the_same,
    cited,
    offered,
    rule_of,
)

YES_NO = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the answers that it might have, and what it is about."""

    subject: str
    question: str
    options: tuple[str, ...] = YES_NO


QUESTIONS = (
    Asked("comparison", "Has anything changed since the last examination?"),
    Asked("comparison", "Did the previous examination show the same findings?"),
    Asked(
        "comparison",
        "How do the findings compare with those of the previous examination?",
        ("better", "unchanged", "worse"),
    ),
    Asked("laboratory", "Is the C-reactive protein raised?"),
    Asked("laboratory", "Is the serum creatinine within normal limits?"),
    Asked("laboratory", "What is the white blood cell count?", ("low", "normal", "high")),
    Asked("history", "Is the patient in pain?"),
    Asked("history", "Is the patient allergic to any medicine?"),
    Asked("history", "For how long has the patient had symptoms?", ("for days", "weeks", "months")),
    Asked("outcome", "Will a later examination be normal?"),
    Asked("outcome", "How will the patient feel in a year?", ("better", "as now", "worse")),
    Asked("treatment", "Should the patient be operated on?"),
    Asked("treatment", "Should antibiotics be given?"),
    Asked(
        "treatment",
        "Which treatment should the patient be given?",
        ("surgery", "medicines", "no treatment"),
    ),
    Asked("identity", "Is this the same person as in the image before?"),
    Asked("identity", "How old is the patient, in years?", ("47", "52", "57")),
    Asked("identity", "In which country was the patient born?", ("France", "Japan", "Brazil")),
)
WHY = {
    "comparison": (
        "The question compares with another examination, and this is one image alone.",
        "An earlier examination is not at hand: only this image is.",
    ),
    "laboratory": (
        "This is measured in a sample of blood, and an image does not show it.",
        "The answer is a laboratory value, which no image gives.",
    ),
    "history": (
        "What patients feel and tell is not in their images.",
        "This has to be asked of the patient; an image does not tell it.",
    ),
    "outcome": (
        "The question is about the future, and the image shows one moment.",
        "What will be later is not seen in an image of now.",
    ),
    "treatment": (
        "The question asks for a treatment, which is decided on more than an image.",
        "Whether and how to treat is for the patient and the treating doctors to decide.",
    ),
    "identity": (
        "Who patients are, how old and from where, is not read from their images.",
        "The image shows findings, and not whose they are.",
    ),
}


def groups(pool: Pool, policy: Policy, rng: np.random.Generator) -> Iterator[list[Lesson]]:
    """Groups of one question that no image answers and k - 1 that theirs do, of k options each."""
    places = Balance()
    fitting: dict[int, list[Answered]] = defaultdict(list)
    for known in pool.answered:
        fitting[len(known.options)].append(known)
    images = iter(pool.images)
    while True:
        before = sum(map(len, fitting.values()))
        for number in rng.permutation(len(QUESTIONS)):
            one = QUESTIONS[number]
            size = len(one.options)
            pairs = _different(fitting[size], size)
            if len(pairs) < size:
                continue
            image = next(images, None)
            if image is None:
                return
            fitting[size] = [known for known in fitting[size] if known not in pairs]
            place = places.place(size, size + 1)
            yield [
                _refused(one, image, place, policy, rng),
                *(
                    answered_all_the_same(k, one.subject, offered(k.options, place), policy)
                    for k in pairs
                ),
            ]
        if sum(map(len, fitting.values())) == before:
            return


def _different(fitting: list[Answered], number: int) -> list[Answered]:
    """The first of different images, with answers that stand in different places if there are."""
    found: list[Answered] = []
    for strict in (True, False):
        for known in fitting:
            images = {one.image.id for one in found}
            places = {one.options.index(one.answer) for one in found}
            if len(found) == number:
                return found
            new = known.image.id not in images
            if new and not (strict and known.options.index(known.answer) in places):
                found.append(known)
    return found if len(found) == number else []


def _refused(
    one: Asked, image: Image, place: int, policy: Policy, rng: np.random.Generator
) -> Lesson:
    why = WHY[one.subject][rng.integers(len(WHY[one.subject]))]
    return Lesson(
        image=image,
        subject=one.subject,
        question=one.question,
        options=offered(one.options, place),
        answer=CANNOT_BE_TOLD,
        rationale=f"{why} {cited(policy.clause(one.subject))} It cannot be told from this image.",
        rule=rule_of(policy, one.subject, one.subject, False, asks=one.question),
        takes=(image.id,),
        confidence=1.0,
    )
