"""What experts are asked and what they say: the words of an answer, and how it becomes rows.

An answer is what a reader said of one item, as it is written down at once (`reward_model.journal`).
The record has it as a `Verdict` on one triplet, or as a `Preference` a criterion between two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.records import Image, Item, Preference, Triplet, Verdict, content_id
from reward_model.criteria import CRITERIA
from reward_model.patient_sets import is_frozen
from reward_model.preferences import TIERS

VERDICT, PREFERENCE, UNDO = "verdict", "preference", "undo"  # kinds of answers
ACCEPT, REJECT, CANNOT_TELL = "accept", "reject", "cannot tell"
VERDICTS = (ACCEPT, REJECT, CANNOT_TELL)
FIRST, SECOND, TIE, BOTH_BAD = "first", "second", "tie", "both bad"
PREFERENCES = (FIRST, SECOND, TIE, BOTH_BAD, CANNOT_TELL)
BETTER = "better"  # the outcome of a preference in which the chosen one is better
REASONING_WRONG = "reasoning wrong"
REASONS = {  # what is wrong with a row, and which criterion it fails by that
    "wrong finding": "factuality",
    "wrong side": "factuality",
    "wrong count or size": "factuality",
    "not visible": "factuality",
    "leaks the answer": "relevance",
    "two right options": "relevance",
    "bad question": "relevance",
    REASONING_WRONG: "reasoning",
}
RANDOM, INFORMATIVE, TEST, GIVEN = "random", "informative", "test", "given"
STREAMS = (RANDOM, INFORMATIVE, TEST, GIVEN)  # why it was asked; `given`: nobody did


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a reader said of an item, or that an earlier answer does not count (`undo`).

    `preferences` are, by criterion, one of PREFERENCES: `first` is the item's `triplet_id`,
    whatever side of a page it stood on.
    """

    id: str
    kind: str
    reader: str  # pseudonym
    at: str  # RFC 3339, UTC
    item_id: str = ""  # empty where nobody asked
    triplet_id: str = ""
    other_id: str = ""
    seconds: float | None = None
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    correction: str = ""
    preferences: dict[str, str] = field(default_factory=dict)
    comment: str = ""
    repeat: bool = False
    undoes: str = ""  # of an undo: the id of the answer


class Standing:
    """The answers that count, in order: without undone ones, the last of each reader and item.

    A reader's repeat is an answer of its own. Of answers that nobody asked for the row stands in
    the place of the item. Answers are added as they are given; each costs the same however many
    there are.
    """

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self._last: dict[tuple[str, str, bool], Answer] = {}
        self._seen: dict[str, Answer] = {}
        for answer in answers:
            self.add(answer)

    def add(self, answer: Answer) -> Answer | None:
        """Take a further answer in.

        Returns the answer whose place it may have changed: itself, or the one that it undoes; None
        where it is known, or undoes none of its reader's.
        """
        if answer.kind == UNDO:
            gone = self._seen.get(answer.undoes)
            if gone is None or gone.reader != answer.reader:
                return None
            if self.at(gone) is gone:
                del self._last[place_of(gone)]
            return gone
        if answer.id in self._seen:
            return None
        self._seen[answer.id] = answer
        self._last.pop(place_of(answer), None)  # the later answer stands in its own place
        self._last[place_of(answer)] = answer
        return answer

    def at(self, answer: Answer) -> Answer | None:
        """The answer that counts in the place of one: of its reader, item and showing."""
        return self._last.get(place_of(answer))

    def given(self, answer_id: str) -> Answer | None:
        """An answer by its id, undone or not."""
        return self._seen.get(answer_id)

    def answers(self) -> list[Answer]:
        """Those that count."""
        return list(self._last.values())


def current(answers: Iterable[Answer]) -> list[Answer]:
    """The answers that count (`Standing`), in order."""
    return Standing(answers).answers()


def place_of(answer: Answer) -> tuple[str, str, bool]:
    """Whose answer it is, to what, and whether again: a later one takes this place."""
    asked = answer.item_id or f"{answer.triplet_id}/{answer.other_id}"
    return answer.reader, asked, answer.repeat


def wanted(items: Iterable[Item], answers: Iterable[Answer]) -> dict[str, int]:
    """By item how many more readers are to answer it; those that need none are not in it.

    `answers` are `current` ones.
    """
    readers: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        if not answer.repeat:
            readers[answer.item_id].add(answer.reader)
    left = {item.id: item.readers - len(readers[item.id]) for item in items}
    return {item_id: number for item_id, number in left.items() if number > 0}


def accepted(verdicts: Iterable[Verdict]) -> bool:
    """Whether more than half of those who gave a verdict on a row accept it; who cannot tell does
    not."""
    said = [verdict.verdict == ACCEPT for verdict in verdicts]
    return 2 * sum(said) > len(said)


def verdict_of(answer: Answer, item: Item | None, triplet: Triplet) -> Verdict:
    """An answer to a question for a verdict as a row; `item` is None where nobody asked."""
    return Verdict(
        id=content_id("verdict", answer.id),
        item_id=answer.item_id,
        triplet_id=triplet.id,
        image_id=triplet.image_id,
        verdict=answer.verdict,
        reasons=tuple(sorted(answer.reasons)),
        correction=answer.correction,
        comment=answer.comment,
        expert=answer.reader,
        at=answer.at,
        seconds=answer.seconds,
        stream=item.stream if item else GIVEN,
        round=item.round if item else triplet.round,
        repeat=answer.repeat,
    )


def preferences_of(
    answer: Answer, item: Item | None, rows: Mapping[str, Triplet], image: Image
) -> list[Preference]:
    """An answer to a question for a preference as rows, one a criterion that was answered.

    `rows` are the triplets by id. Where neither is better the first counts as chosen, and
    `outcome` says so.
    """
    found = []
    for criterion in CRITERIA:
        said = answer.preferences.get(criterion)
        if said is None:
            continue
        first, second = rows[answer.triplet_id], rows[answer.other_id]
        chosen, rejected = (second, first) if said == SECOND else (first, second)
        found.append(
            Preference(
                id=content_id("preference", answer.id, criterion),
                image_id=image.id,
                chosen_id=chosen.id,
                rejected_id=rejected.id,
                criterion=criterion,
                tier_chosen=TIERS["expert"],
                tier_rejected=TIERS["perturbed"],
                expert=answer.reader,
                round=item.round if item else first.round,
                holdout=is_frozen(image.group),
                outcome=BETTER if said in (FIRST, SECOND) else said,
                item_id=answer.item_id,
                at=answer.at,
                seconds=answer.seconds,
                repeat=answer.repeat,
                comment=answer.comment,
            )
        )
    return found
