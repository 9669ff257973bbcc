"""What experts said as what a judge learns from: single rows that are right or not, and pairs.

A verdict is an absolute example. Accepted: right by every criterion that the row speaks of.
Rejected: wrong by the criteria of its reasons (without any by factuality), and nothing is said of
the others. Readers who disagree give a target between. A preference is a pair; of a tie the target
is one half, and of "both bad" there are two rejected rows. Who cannot tell, and who is asked again
for self-agreement, teaches nothing.

An accepted or corrected answer says more at no cost: where it is one of options, or yes or no,
other samples of the question that answer otherwise are wrong, and it comes before each of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from engine.answers.matching import is_correct, is_valid
from engine.answers.spelling import normalise
from engine.records import Preference, Triplet, Verdict
from reward_model.criteria import CRITERIA
from reward_model.preferences import TIERS
from reward_model.threshold import answer_key
from reward_model.verdicts import ACCEPT, BETTER, BOTH_BAD, CANNOT_TELL, REASONS, REJECT, TIE

FACTUALITY, REASONING, RELEVANCE = CRITERIA
SAID, IMPLIED = "said", "implied"  # by experts, or what follows from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row and how likely it is right, or two of an image and how likely the first is better.

    `targets` are in [0, 1], by the criteria that are spoken of; `tiers` in [-6, 10]. `accepted` is
    the share of readers who accept the row, where they gave verdicts. `sources` are the ids of the
    verdicts or the preference that it was made of.
    """

    first: Triplet
    second: Triplet | None = None
    targets: Mapping[str, float]
    tiers: tuple[float, float] = (0.0, 0.0)
    accepted: float | None = None
    stream: str = ""  # of verdicts: why they were asked for
    round: int
    kind: str = SAID
    sources: tuple[str, ...]


def examples_of(
    verdicts: Iterable[Verdict], preferences: Iterable[Preference], rows: Iterable[Triplet]
) -> tuple[list[Example], Counter[str]]:
    """All that follows from what was said about `rows`, and how much was left out, by why.

    `rows` are those that were spoken of, and what else was sampled for the same questions.
    """
    known = {row.id: row for row in rows}
    left_out: Counter[str] = Counter()
    counted = [v for v in verdicts if _counts(v, v.verdict, (v.triplet_id,), known, left_out)]
    said = [
        p
        for p in preferences
        if _counts(p, p.outcome, (p.chosen_id, p.rejected_id), known, left_out)
    ]
    by_row: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in counted:
        by_row[verdict.triplet_id].append(verdict)
    found = [_of_verdicts(known[name], some) for name, some in by_row.items()]
    found += [example for p in said for example in _of_preference(p, known)]
    return [*found, *_implied(by_row, known, left_out)], left_out


def _counts(
    row: Verdict | Preference,
    said: str,
    about: tuple[str, ...],
    known: Mapping[str, Triplet],
    left_out: Counter[str],
) -> bool:
    """Whether an opinion teaches; where it does not, that is counted."""
    if row.repeat:
        why = "asked again"
    elif said == CANNOT_TELL:
        why = CANNOT_TELL
    elif not all(name in known for name in about):
        why = "the row is gone"
    else:
        return True
    left_out[why] += 1
    return False


def _of_verdicts(row: Triplet, verdicts: list[Verdict]) -> Example:
    """One row by all who gave a verdict on it."""
    spoken: dict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        for criterion in _criteria(row, verdict):
            spoken[criterion].append(float(verdict.verdict == ACCEPT))
    return Example(
        first=row,
        targets={
            criterion: fmean(spoken[criterion]) for criterion in CRITERIA if spoken[criterion]
        },
        accepted=fmean(v.verdict == ACCEPT for v in verdicts),
        stream=verdicts[0].stream,
        round=verdicts[0].round,
        sources=tuple(v.id for v in verdicts),
    )


def _criteria(row: Triplet, verdict: Verdict) -> set[str]:
    """Of which criteria a verdict speaks."""
    if verdict.verdict == REJECT:
        return {REASONS[r] for r in verdict.reasons if r in REASONS} or {FACTUALITY}
    return {FACTUALITY, RELEVANCE, *([REASONING] if row.rationale else [])}


def _of_preference(said: Preference, known: Mapping[str, Triplet]) -> Iterator[Example]:
    chosen, rejected = known[said.chosen_id], known[said.rejected_id]
    if said.outcome == BOTH_BAD:
        for row in (chosen, rejected):
            yield Example(
                first=row, targets={said.criterion: 0.0}, round=said.round, sources=(said.id,)
            )
    elif said.outcome in (BETTER, TIE):
        yield Example(
            first=chosen,
            second=rejected,
            targets={said.criterion: 1.0 if said.outcome == BETTER else 0.5},
            tiers=(said.tier_chosen, said.tier_rejected),
            round=said.round,
            sources=(said.id,),
        )


def _implied(
    by_row: Mapping[str, list[Verdict]], known: Mapping[str, Triplet], left_out: Counter[str]
) -> Iterator[Example]:
    """Pairs of answers to a question whose right one is known: a pair for each wrong answer."""
    golds: dict[str, list[tuple[Triplet, tuple[Verdict, ...]]]] = defaultdict(list)
    for name, verdicts in by_row.items():
        for told in _right_answers(known[name], verdicts):
            golds[told[0].question_key].append(told)
    samples: dict[str, dict[str, Triplet]] = defaultdict(dict)
    for row in sorted(known.values(), key=lambda row: row.id):
        if row.problem is None and row.question_key in golds:
            samples[row.question_key].setdefault(answer_key(row), row)
    for key, answers in golds.items():
        right, by = answers[0]
        if len({answer_key(gold) for gold, _ in answers}) > 1:
            left_out["two right answers to one question"] += 1
        elif _closed(right):
            for wrong in samples[key].values():
                if _is_wrong(wrong, right):
                    yield _before(right, wrong, by)


def _right_answers(
    row: Triplet, verdicts: list[Verdict]
) -> Iterator[tuple[Triplet, tuple[Verdict, ...]]]:
    """A row with the right answer, by the verdicts that say so: accepted by all, or corrected."""
    if row.problem is None and all(v.verdict == ACCEPT for v in verdicts):
        yield row, tuple(verdicts)
    for verdict in verdicts:
        if verdict.correction and is_valid(verdict.correction, row.options):
            corrected = replace(row, answer=verdict.correction, rationale="", problem=None)
            yield corrected, (verdict,)


def _closed(row: Triplet) -> bool:
    """Whether every answer but the right one is wrong, and not the same in other words."""
    return bool(row.options) or normalise(row.answer) in ("yes", "no")


def _is_wrong(row: Triplet, right: Triplet) -> bool:
    kind = bool(right.options) or normalise(row.answer) in ("yes", "no")
    valid = kind and is_valid(row.answer, right.options)
    return valid and not is_correct(row.answer, right.answer, right.options)


def _before(right: Triplet, wrong: Triplet, verdicts: tuple[Verdict, ...]) -> Example:
    """The right answer before a wrong one; with reasoning only where both have it."""
    if not (right.rationale and wrong.rationale):
        right, wrong = replace(right, rationale=""), replace(wrong, rationale="")
    return Example(
        first=right,
        second=wrong,
        targets={FACTUALITY: 1.0},
        tiers=(TIERS["expert"], TIERS["perturbed"]),
        round=verdicts[0].round,
        kind=IMPLIED,
        sources=tuple(v.id for v in verdicts),
    )
