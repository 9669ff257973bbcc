"""Which pairs refine a judge, and whether it stays refined or is rolled back.

The expert decides the least certain pairs, the surest teach themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest

from engine.config import Config
from engine.records import Judgement, Preference, Triplet
from reward_model.experts import asked_of
from reward_model.experts.expert import Expert
from reward_model.preferences import in_holdout, preference
from reward_model.threshold import answer_key

MARGIN = 2.0  # log-odds between two answers from which the judge's own opinion may teach it


@dataclass(frozen=True, slots=True)
class Contest:
    """The best answer to a question, the best other one, and how far apart the judge finds them."""

    gap: float
    best: Triplet
    rival: Triplet
    rows: tuple[Triplet, ...]  # all that were judged

    @property
    def order(self) -> tuple[float, str]:
        return self.gap, self.best.id

    @property
    def teaches(self) -> bool:
        """Whether the judge is sure, and most samples agree with it."""
        votes = sum(answer_key(row) == answer_key(self.best) for row in self.rows)
        return self.gap >= MARGIN and votes * 2 > len(self.rows)


def contests_of(
    triplets: Iterable[Triplet], judged: Mapping[str, Judgement], frozen: float
) -> Iterator[Contest]:
    """The contests among the judged answers to each question, by the questions' keys.

    Images of the `frozen` share, the holdout, are left out.
    """
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in triplets:
        if triplet.id in judged and not in_holdout(triplet.image_id, frozen):
            questions[triplet.question_key].append(triplet)
    for key in sorted(questions):
        rows = sorted(questions[key], key=lambda t: (-judged[t.id].overall, t.id))
        rival = next((r for r in rows if answer_key(r) != answer_key(rows[0])), None)
        if rival is not None:
            gap = judged[rows[0].id].overall - judged[rival.id].overall
            yield Contest(gap, rows[0], rival, tuple(questions[key]))


def new_pairs(
    config: Config,
    parts: Iterable[tuple[list[Triplet], Mapping[str, Judgement]]],
    expert: Expert | None,
    round: int,
    trusted: bool = True,
) -> tuple[list[Preference], list[Triplet]]:
    """Pairs of this round: the expert decides the least certain, the surest teach themselves.

    The expert is asked where the judge wavers between two answers; where it is far apart and the
    samples agree with it, its own opinion is a pair where it is `trusted`. `parts` are triplets
    with the judgements of them, all of a question in one part; of each the least certain and the
    surest are kept in memory.
    """
    section, frozen = config.reward, asked_of(config).holdout
    number = min(section.expert_pairs, section.refine_pairs)
    wavering: list[Contest] = []
    sure: list[Contest] = []
    for triplets, judged in parts:
        found = list(contests_of(triplets, judged, frozen))
        wavering = nsmallest(number, [*wavering, *found], key=lambda c: c.order)
        teaching = [c for c in found if c.teaches]
        # Those that the expert is asked about may be among the surest.
        sure = nlargest(section.refine_pairs + number, [*sure, *teaching], key=lambda c: c.order)
    new = [row for contest in wavering for row in contest.rows]
    made, pairs = _ask(expert, new, number, config.seed, round) if expert else ([], [])
    asked = {contest.best.id for contest in wavering}
    left = [contest for contest in sure if contest.best.id not in asked]
    wanted = max(section.refine_pairs - len(pairs), 0) if trusted else 0
    for contest in left[:wanted]:
        pairs.append(
            preference(contest.best, contest.rival, "factuality", "perturbed", "judge", False)
        )
    return pairs, made


def no_worse(before: float | None, after: float | None, tolerance: float) -> bool:
    """Whether an AUC fell by no more than `tolerance`; one that was not measured is worse."""
    return before is not None and after is not None and after >= before - tolerance


def _ask(
    expert: Expert, rows: list[Triplet], number: int, seed: int, round: int
) -> tuple[list[Triplet], list[Preference]]:
    """The rows that the expert wrote beside `rows`, and what it thinks of them all."""
    if not rows:
        return [], []
    made, pairs = expert.pairs(rows, number, seed + round)
    known = {r.id for r in rows}
    return [m for m in made if m.id not in known], [replace(p, round=round) for p in pairs]
