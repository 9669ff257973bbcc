"""Questions about another body part or modality than the image shows.

A question of one image, with the body part put before it, is asked of an image that does not show
it: there it cannot be told. The same question, in the same words and with the same options, is
asked where it was, and is answered. So its words tell nothing of what is right; the image does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.config.policy import Policy
from engine.prompts import CANNOT_BE_TOLD
from engine.question_types import found_type
from engine.records import Image
from generators.compose.balance import Balance
from generators.phantoms.bank import ATTRIBUTES, kind_of
from generators.safety.anatomy import BOUND, CALLED, NEAR, apart, part, shown
from generators.safety.lessons import (
    Answered,
    Lesson,
    Pool,
    answered_all_the_same,
    cited,
    offered,
    rule_of,
)

ASKED = (
    "This question is about {what}. {question}",
    "Look at {what}. {question}",
    "Please assess {what}. {question}",
)
LARGEST = 4  # options, before one is added
# Words of a question about the picture itself or about what is visible in it: an image of another
# part answers that too, by "no".
_OF_PICTURE = re.compile(
    r"\b(?:modality|sequence|contrast|enhanced|weighted|weighting|t1|t2|flair|plane|axial|coronal|"
    r"sagittal|view|projection|pa|ap|taken|acquired|window|phase|scan|film|ct|mri?|x-?ray|"
    r"radiograph|ultrasound|photograph|quality|artifacts?|artefacts?|text|marker|stain|images?|"
    r"pictures?|level|here|show\w*|visib\w+|visuali\w+|seen?|notice\w*|noted|demonstrat\w+|"
    r"identif\w+|appreciat\w+|apparent|obvious|observ\w+|evidence|signs?|section|organs?|systems?)\b",
    re.I,
)
# How questions begin that ask for what is there; "Can a mass cause ...?" asks for knowledge.
_ASKS_WHAT_IS = re.compile(
    r"(?:is|are|does|do|has|have|how (?:many|large|big|severe|well|dense|thick)|which|what|"
    r"on (?:which|what)|where)\b",
    re.I,
)
_OF_KNOWLEDGE = re.compile(
    r"\b(?:causes?|caused|treat\w*|usual\w*|typical\w*|common\w*|risk|symptoms?|most likely)\b",
    re.I,
)


@dataclass(frozen=True, slots=True)
class About:
    """What a question is about: a body part, or images of a modality."""

    subject: str  # organ or modality
    of: str

    @property
    def what(self) -> str:
        return f"the {part(self.of)}" if self.subject == "organ" else CALLED[self.of]

    def elsewhere(self, image: Image) -> bool:
        """Whether an image shows something else, as far as is known of it."""
        if self.subject == "organ":
            return apart(self.of, image.anatomy)
        return image.modality in CALLED and image.modality != self.of

    def not_shown(self) -> str:
        if self.subject == "organ":
            return f"{self.what.capitalize()} is not shown in it."
        return f"It is not {self.what}."


def about(known: Answered) -> About | None:
    """What a question is about; None where an image of anything could answer it."""
    kind, _ = kind_of(known.question) or ("", None)
    if kind in BOUND:
        return About("modality", BOUND[kind]) if known.image.modality == BOUND[kind] else None
    if not kind and found_type(known.question) not in ("disease", "grading", "attribute"):
        return None
    of_image = kind in ("modality", "anatomy") or (kind in ATTRIBUTES and not ATTRIBUTES[kind].of)
    return None if of_image or not _of_part(known) else About("organ", known.image.anatomy)


def _of_part(known: Answered) -> bool:
    """Whether a question asks what is in a body part, as far as its words tell."""
    asked = known.question
    return (
        known.image.anatomy in NEAR
        and asked.endswith("?")  # "Count the lesions." is not one behind another sentence
        and bool(_ASKS_WHAT_IS.match(asked))
        and not _OF_PICTURE.search(asked)
        and not _OF_KNOWLEDGE.search(asked)
    )


def _put(form: str, what: About, question: str) -> str:
    """A question behind what it is about."""
    return form.format(what=what.what, question=question[:1].upper() + question[1:])


def groups(pool: Pool, policy: Policy, rng: np.random.Generator) -> Iterator[list[Lesson]]:
    """Groups of one question that cannot be told and k - 1 that can, of k options each.

    One of these at least has the words of the first; the others too, as far as there are such.
    """
    places = Balance()
    asked: dict[tuple[str, frozenset[str]], list[Answered]] = defaultdict(list)
    fitting: dict[tuple[str, int], list[Answered]] = defaultdict(list)
    for known in pool.answered:
        what = about(known)
        if what and len(known.options) <= LARGEST:
            asked[known.question, frozenset(known.options)].append(known)
            fitting[what.subject, len(known.options)].append(known)
    targets = list(pool.images)
    used: set[tuple[str, str]] = set()
    found = True
    while found:
        found = False
        for same in asked.values():  # of each question one group, then of each another
            first = next((k for k in same if (k.image.id, k.question) not in used), None)
            what = about(first) if first else None
            if first is None or what is None:
                continue
            target = next((i for i in targets if what.elsewhere(i)), None)
            pairs = [first, *_others(first, same, fitting[what.subject, len(first.options)], used)]
            if target is None or len(pairs) < len(first.options):
                continue
            found = True
            used |= {(one.image.id, one.question) for one in pairs}
            targets.remove(target)
            targets.append(target)  # asked again after all others
            place = places.place(len(first.options), len(first.options) + 1)
            form = ASKED[rng.integers(len(ASKED))]
            yield [
                _refused(first, target, what, form, place, policy),
                *(_answered(one, form, place, policy) for one in pairs),
            ]


def _others(
    known: Answered, same: list[Answered], fitting: list[Answered], used: set[tuple[str, str]]
) -> list[Answered]:
    """As many more questions as there are other options: with other answers and the same words."""
    found: list[Answered] = []
    seen = {known.image.id}

    def free(one: Answered) -> bool:
        return one.image.id not in seen and (one.image.id, one.question) not in used

    while len(found) < len(known.options) - 1:
        answers = {known.answer, *(one.answer for one in found)}
        candidates = (
            next((k for k in same if free(k) and k.answer not in answers), None)
            or next((k for k in same if free(k)), None)
            or next((k for k in fitting if free(k)), None)
        )
        if candidates is None:
            return found
        seen.add(candidates.image.id)
        found.append(candidates)
    return found


def _refused(
    known: Answered, image: Image, what: About, form: str, place: int, policy: Policy
) -> Lesson:
    is_of = shown(image.modality, image.anatomy)
    why = f"The question is about {what.what}, and this is {is_of}. {what.not_shown()}"
    return Lesson(
        image=image,
        subject=what.subject,
        question=_put(form, what, known.question),
        options=offered(known.options, place),
        answer=CANNOT_BE_TOLD,
        rationale=f"{why} {cited(policy.clause(what.subject))}",
        rule=rule_of(policy, what.subject, what.subject, False, asks=known.question, of=what.of),
        takes=tuple(sorted({*known.takes, image.id})),
        confidence=1.0,
        known=known.known,
    )


def _answered(known: Answered, form: str, place: int, policy: Policy) -> Lesson:
    what = about(known)
    assert what is not None
    is_of = shown(known.image.modality, known.image.anatomy)
    return answered_all_the_same(
        known,
        what.subject,
        offered(known.options, place),
        policy,
        asked=_put(form, what, known.question),
        of=what.of,
        before=f"The question is about {what.what}, and this is {is_of}.",
    )
