"""Which pairs refine a judge: the expert decides the least certain, the surest teach themselves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from engine.config import Config
from engine.records import Judgement, Preference, Triplet
from reward_model.experts import asked_of
from reward_model.experts.expert import Expert
from reward_model.preferences import in_holdout, prefer
from reward_model.threshold import answer_key

MARGIN = 2.0  # log-odds between two answers from which the judge's own opinion may teach it


def new_pairs(
    config: Config,
    triplets: list[Triplet],
    judged: dict[str, Judgement],
    expert: Expert | None,
    round: int,
    trusted: bool = True,
) -> tuple[list[Preference], list[Triplet]]:
    """Pairs of this round: the expert decides the least certain, the surest teach themselves.

    The expert is asked where the judge wavers between two answers; where it is far apart and the
    samples agree with it, its own opinion is a pair where it is `trusted`. Images of the
    frozen holdout are left out.
    """
    section, frozen = config.reward, asked_of(config).holdout
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in triplets:
        if triplet.id in judged:
            questions[triplet.question_key].append(triplet)
    contests = []
    for key in sorted(questions):
        if in_holdout(questions[key][0].image_id, frozen):
            continue
        rows = sorted(questions[key], key=lambda t: (-judged[t.id].overall, t.id))
        rival = next((r for r in rows if answer_key(r) != answer_key(rows[0])), None)
        if rival is not None:
            gap = judged[rows[0].id].overall - judged[rival.id].overall
            contests.append((gap, rows[0], rival, questions[key]))
    contests.sort(key=lambda c: (c[0], c[1].id))
    number = min(section.expert_pairs, section.refine_pairs)
    asked = contests[:number]
    new = [row for *_, rows in asked for row in rows]
    made, pairs = _ask(expert, new, number, config.seed, round) if expert else ([], [])
    wanted = section.refine_pairs - len(pairs) if trusted else 0
    for gap, best, rival, rows in reversed(contests[len(asked) :]):
        votes = sum(answer_key(r) == answer_key(best) for r in rows)
        if wanted <= 0 or gap < MARGIN:
            break
        if votes * 2 > len(rows):
            pairs.append(prefer(best, rival, "factuality", "perturbed", "judge", False))
            wanted -= 1
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
