"""How a question's samples voted: which answer is verified, and how many agree with it.

The share that agrees is the pass rate of self-consistency (Wang et al. 2022, arXiv 2203.11171).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.answers.matching import compared
from engine.records import Triplet, Verification, canonical, content_id

Answers = dict[str, list[Triplet]]  # by answer as it is compared: rows, the surest first


def questions_of(triplets: Iterable[Triplet]) -> dict[str, Answers]:
    """Rows that parsed, by question and by answer: those that most samples give come first.

    Of as many samples the answer with the higher mean log-probability is first, then by its words.
    """
    found: dict[str, Answers] = defaultdict(lambda: defaultdict(list))
    for row in sorted(triplets, key=lambda t: (-_sure(t), t.id)):
        if row.problem is None:
            found[row.question_key][compared(row.answer, row.options)].append(row)
    return {key: _by_votes(answers) for key, answers in sorted(found.items())}


def _sure(row: Triplet) -> float:
    known = row.logprob is not None and math.isfinite(row.logprob)
    return float(row.logprob) if known else -math.inf  # type: ignore[arg-type]


def _by_votes(answers: Answers) -> Answers:
    def rank(item: tuple[str, Sequence[Triplet]]) -> tuple[float, float, str]:
        key, rows = item
        return -len(rows), -sum(map(_sure, rows)) / len(rows), key

    return dict(sorted(answers.items(), key=rank))


def counted(questions: dict[str, Answers], round: int) -> list[Verification]:
    """A verification of each question, with nothing in it but the votes."""
    return [_counted(key, answers, round) for key, answers in questions.items()]


def _counted(question: str, answers: Answers, round: int) -> Verification:
    answer, best = next(iter(answers.items()))
    votes = {key: len(rows) for key, rows in answers.items()}
    return identified(
        Verification(
            id="",
            question_id=question,
            image_id=best[0].image_id,
            triplet_id=best[0].id,
            round=round,
            answer=answer,
            samples=sum(votes.values()),
            agreeing=len(best),
            answers=canonical(votes),
        )
    )


def identified(found: Verification) -> Verification:
    """The same under the id of what was asked of whom."""
    asked = (found.question_id, found.triplet_id, found.round, found.other_id)
    by = (found.blind_id, found.verifier_id, found.rubric_id)
    return replace(found, id=content_id("verification", *asked, *by))
