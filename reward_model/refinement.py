"""Which pairs a round adds to what experts said, beside their verdicts.

Of questions to whose answers the samples disagree the expert, where there is one who compares,
decides those of which the judge is least sure. The judge's own opinion teaches where select kept
the row that it prefers: what is not sure enough for the dataset is not sure enough to learn from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest

from engine.config import Config
from engine.records import Judgement, Preference, Triplet
from reward_model.experts.expert import Expert
from reward_model.preferences import preference
from reward_model.threshold import answer_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Rows of a round with the judgements of them by id, all of a question together.

    `kept` are the ids of rows that select kept, `frozen` those of images of patients from whom no
    judge learns.
    """

    triplets: list[Triplet]
    judgements: Mapping[str, Judgement]
    kept: Collection[str]
    frozen: Collection[str]


@dataclass(frozen=True, slots=True)
class Contest:
    """An answer to a question, the best other one, and how far the judge finds it ahead."""

    gap: float
    best: Triplet
    rival: Triplet
    rows: tuple[Triplet, ...]  # all that were judged

    @property
    def order(self) -> tuple[float, str]:
        return self.gap, self.best.id


def contests_of(part: Judged) -> Iterator[tuple[Contest, Contest | None]]:
    """Of each question the contest of the best answer, and that of the answer that was kept.

    Questions are in order of their keys. Without those to which all samples answer alike, and those
    about frozen images.
    """
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in part.triplets:
        if triplet.id in part.judgements and triplet.image_id not in part.frozen:
            questions[triplet.question_key].append(triplet)
    overall = {name: judgement.overall for name, judgement in part.judgements.items()}
    for key in sorted(questions):
        rows = sorted(questions[key], key=lambda t: (-overall[t.id], t.id))
        kept = next((row for row in rows if row.id in part.kept), None)
        found = [_contest(row, rows, overall) for row in (rows[0], kept) if row is not None]
        if found[0] is not None:
            yield found[0], found[-1] if kept else None


def _contest(best: Triplet, rows: list[Triplet], overall: Mapping[str, float]) -> Contest | None:
    """A row against the best that answers otherwise; None where none does."""
    rival = next((row for row in rows if answer_key(row) != answer_key(best)), None)
    if rival is None:
        return None
    return Contest(overall[best.id] - overall[rival.id], best, rival, tuple(rows))


def new_pairs(
    config: Config,
    parts: Iterable[Judged],
    expert: Expert | None,
    round: int,
    trusted: bool = True,
) -> tuple[list[Preference], list[Triplet]]:
    """Pairs of a round, and the rows that the expert wrote for them.

    The expert is asked where the judge wavers between two answers. Where a row was kept and the
    judge agrees, its own opinion is a pair if it is `trusted`, the surest first. Of each part the
    least certain and the surest are kept in memory.
    """
    section = config.reward
    number = min(section.expert_pairs, section.refine_pairs)
    wavering: list[Contest] = []
    sure: list[Contest] = []
    for part in parts:
        found = list(contests_of(part))
        wavering = nsmallest(number, [*wavering, *(c for c, _ in found)], key=lambda c: c.order)
        kept = [own for _, own in found if own is not None and own.gap > 0]
        # Those that the expert is asked about may be among the surest.
        sure = nlargest(section.refine_pairs + number, [*sure, *kept], key=lambda c: c.order)
    new = [row for contest in wavering for row in contest.rows]
    made, pairs = _ask(expert, new, number, config.seed, round) if expert else ([], [])
    asked = {contest.best.question_key for contest in wavering} if expert else set()
    left = [contest for contest in sure if contest.best.question_key not in asked]
    wanted = max(section.refine_pairs - len(pairs), 0) if trusted else 0
    for contest in left[:wanted]:
        pairs.append(
            preference(contest.best, contest.rival, "factuality", "perturbed", "judge", False)
        )
    return pairs, made


def _ask(
    expert: Expert, rows: list[Triplet], number: int, seed: int, round: int
) -> tuple[list[Triplet], list[Preference]]:
    """The rows that the expert wrote beside `rows`, and what it thinks of them all."""
    if not rows:
        return [], []
    made, pairs = expert.pairs(rows, number, seed + round)
    known = {r.id for r in rows}
    return [m for m in made if m.id not in known], [replace(p, round=round) for p in pairs]
