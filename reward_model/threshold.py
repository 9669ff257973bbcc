"""Select: of the answers to a question the best, of the questions the surest, with the reason.

1. A row that did not parse is out, and one that a filter of form or reasoning finds fault with.
2. Of the answers sampled for one image and question, the judge's and the generator's joint choice
   stays: judge's log-odds + logprob · mean log-probability + agreement · log vote share.
3. Of the samples that give the chosen answer one is kept whose reasoning is sound: no step of it
   contradicts the answer or another step, and the judge's reasoning criterion is at or above what
   `select.reasoning` asks for (`reward_model.process`). Where none is, the question is out: a
   radiologist signs a reply with its reasoning or not at all, and a right answer behind a false
   description would teach to describe falsely.
4. A question is as sure as its choice is: questions below the threshold are out. The threshold is
   the score that keeps the configured share, or where a guarantee is set the certified one of the
   row's group (`reward_model.certificate`), and never below the calibrated floor.
5. Exact duplicates (same image, question and answer) of an earlier round are out.
6. A row is out that stage `verify` found at fault (`generators.filters.refused`): its question is
   answered as well without the image, a verifier does not pass it, or too few samples agree. Where
   that row is the choice, its question is out.
7. A number that is not finite is no number: its row is out, with that as the reason.
8. Beside the choice up to `select.rationales` - 1 further rows of its answer stay whose reasonings
   are sound and told apart (`reward_model.rationales`), each as sure by itself as a question has to
   be. One stays only where the choice does, and is never a question's choice: shares, promises,
   balance and what is asked of experts are of choices.

Where the judge is at chance (`engine.caveats`) it has no say: the answer on which samples agree and
of which the generator is confident stays, and is as sure as its share of that. Of its reasoning too
only the rules decide then.

A threshold on single samples mostly keeps easy rows; choosing among answers is what teaches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.answers.matching import compared
from engine.answers.spelling import normalise_question
from engine.config.select import Select
from engine.reasons import FURTHER
from engine.records import (
    Decision,
    Judgement,
    Row,
    Triplet,
    column_table,
    content_id,
    from_arrow,
    schema_of,
)
from reward_model.process import FLAWS, flaw_of
from reward_model.rationales import NOT_FURTHER, SAME, SELF_BELOW, Beside, further

KEPT = "kept"
WORSE = "another answer was judged better"
LESS_AGREED = "samples agree on another answer"
# By another row of its question, whatever becomes of that.
BEATEN = (SAME, WORSE, LESS_AGREED, *NOT_FURTHER)
KEPT_BY_AGREEMENT = "kept by agreement of samples: the judge is at chance"
KEEPS = (KEPT, KEPT_BY_AGREEMENT)  # of choices
BELOW, FLOOR = "below the threshold", "below the probability floor"
UNCERTIFIED = "no threshold is certified"
DUPLICATE = "exact duplicate"
OF_CHOICES = (*KEEPS, BELOW, FLOOR, DUPLICATE, *FLAWS)  # what is said of a question's choice alone
# In ids where not as always.
LATER = (
    "reasoning", "verified", "near_duplicates", "contamination", "balance", "rationales",
)  # fmt: skip
UNJUDGED = "judge: no finite score"
UNSURE = "log-probability: not a finite number"
NOTHING: Mapping[str, str] = MappingProxyType({})
Duplicate = tuple[str, str, str]  # image, question and answer as they are compared


@dataclass(frozen=True, slots=True)
class Choice:
    """A question's chosen answer, its score, and how sure: the score's share among the answers.

    `flaw` is why the reasoning of no sample that gives it is to be taught; None where one is sound.
    `beside` are the other samples that give it, where further reasonings are kept.
    """

    triplet: Triplet
    score: float
    confidence: float
    probability: float
    flaw: str | None = None
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed(Row):
    """A decision before the threshold is known; no table of the record."""

    table: ClassVar[str] = "weighed"
    id: str  # the decision's
    triplet_id: str
    image_id: str
    reason: str
    # Of its question's choice, or of the row that made room for it (`held`); a further row's own.
    confidence: float
    score: float  # the same as it is told, whatever made room
    own: float | None = None  # of its question's choice, where confidence is another row's
    held: str | None = None  # what it waits for between the two
    beside: str | None = None  # of a further row: the choice, by its triplet


def answer_key(triplet: Triplet) -> str:
    """What makes two answers to one question the same."""
    return compared(triplet.answer, triplet.options)


def unusable(triplet: Triplet, opinion: Judgement | None, trusted: bool) -> str | None:
    """Why a row cannot be compared with others; None where it can."""
    if triplet.logprob is not None and not math.isfinite(triplet.logprob):
        return UNSURE
    if trusted and not (opinion and math.isfinite(opinion.overall + opinion.probability)):
        return UNJUDGED
    return None


def choose(
    candidates: list[Triplet],
    judged: Mapping[str, Judgement],
    rules: Select,
    trusted: bool = True,
    logprobs_known: bool = True,
    reasoning: float = -math.inf,
) -> Choice | None:
    """The best answer to one question, None where no row can be compared.

    `reasoning` is the judge's logit from which reasoning is sound, where it has a say in that.

    Samples of one answer pool their evidence: its score is their mean judge score and mean
    log-probability, and the log of its vote share; confidence is the softmax of the scores over the
    different answers, times the calibrated probability of the best. A judge that is not `trusted`
    has no part in either: in the place of its probability stands the generator's own, the geometric
    mean over the answer's tokens, if `logprobs_known`. Where a log-probability is not known, no
    answer's counts.
    """
    rows = [t for t in candidates if unusable(t, judged.get(t.id), trusted) is None]
    answers: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in rows:
        answers[answer_key(triplet)].append(triplet)
    if not answers:
        return None
    merit = {t.id: judged[t.id].overall if trusted else t.logprob or 0.0 for t in rows}
    own = _own_logprob(answers, rules)
    # What is left without the judge must not be nothing.
    agreement = rules.agreement or float(not trusted and not any(own.values()))
    scores = {}
    for key, same in answers.items():
        opinion = _mean([merit[t.id] for t in same]) if trusted else 0.0
        scores[key] = opinion + own[key] + agreement * np.log(len(same) / len(rows))
    best = max(sorted(scores), key=lambda k: scores[k])
    odds = np.array(list(scores.values()))
    certainty = 1 / np.exp(odds - scores[best]).sum()
    flaws = {
        t.id: flaw_of(t, judged.get(t.id) if trusted else None, reasoning)
        if rules.reasoning
        else None
        for t in answers[best]
    }
    top = max(answers[best], key=lambda t: (flaws[t.id] is None, merit[t.id], t.id))
    chance = _probability(answers[best], judged)

    def sure(probability: float, logprob: float) -> float:
        own_chance = np.exp(min(logprob, 0.0)) if logprobs_known else 1.0
        return float(certainty * (probability if trusted else own_chance))

    def alone(row: Triplet) -> Beside:
        probability, logprob = _probability([row], judged), _own_logprob({"": [row]}, rules)[""]
        return Beside(row, sure(probability, logprob), probability, flaws[row.id])

    others = [row for row in answers[best] if row.id != top.id] if rules.rationales > 1 else []
    confidence = sure(chance, own[best])
    beside = tuple(map(alone, others))
    return Choice(top, float(scores[best]), confidence, chance, flaws[top.id], beside)


def _own_logprob(answers: dict[str, list[Triplet]], rules: Select) -> dict[str, float]:
    """By answer, its mean log-probability times its weight; 0 for all where one is not known."""
    if any(t.logprob is None for same in answers.values() for t in same):
        return dict.fromkeys(answers, 0.0)
    return {key: rules.logprob * _mean([t.logprob for t in same]) for key, same in answers.items()}


def _probability(rows: list[Triplet], judged: Mapping[str, Judgement]) -> float:
    """The mean calibrated probability that an expert accepts; 0 where a row has none."""
    found = [judged[t.id].probability if t.id in judged else 0.0 for t in rows]
    return _mean(found) if all(map(math.isfinite, found)) else 0.0


def _mean(values: Sequence[Any]) -> float:
    """What `np.mean` gives, to the last bit, in a third of its time for so few values."""
    return float(np.add.reduce(np.array(values, float)) / len(values))


def decide(
    triplets: list[Triplet],
    judged: Mapping[str, Judgement],
    rules: Select,
    round: int,
    seen: Collection[Duplicate] = (),
    trusted: bool = True,
    reasoning: float = -math.inf,
) -> list[Decision]:
    """One decision for each triplet, in order; without the judge where it is not `trusted`."""
    logprobs_known = all(t.logprob is not None for t in triplets if t.problem is None)
    choices = choices_of(triplets, judged, rules, trusted, logprobs_known, reasoning)
    found = weighed(triplets, judged, choices, rules, round, seen, trusted)
    least = threshold(confidences(found), rules.keep)
    return from_arrow(Decision, decisions(found, least, rules, round, trusted))


def choices_of(
    triplets: Iterable[Triplet],
    judged: Mapping[str, Judgement],
    rules: Select,
    trusted: bool,
    logprobs_known: bool,
    reasoning: float = -math.inf,
) -> dict[str, Choice]:
    """The choice of each question that has one, by its key; `reasoning` is as `choose` has it.

    Without a `trusted` judge the generator's log-probability ranks the questions, if it is known of
    every row (`logprobs_known`): of a question without it, it would be the highest there is.
    """
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in triplets:
        if triplet.problem is None:
            questions[triplet.question_key].append(triplet)
    found = {
        key: choose(rows, judged, rules, trusted, logprobs_known, reasoning)
        for key, rows in questions.items()
    }
    return {key: choice for key, choice in found.items() if choice is not None}


def threshold(confidence: Sequence[float] | np.ndarray, keep: float) -> float:
    """How sure a question has to be, that the share `keep` of all is: the surest, at least one."""
    sure = np.sort(np.asarray(confidence, float))[::-1]
    kept = max(int(np.ceil(keep * len(sure) - 1e-9)), 1)
    return float(sure[kept - 1]) if len(sure) else 0.0


def weighed(
    triplets: list[Triplet],
    judged: Mapping[str, Judgement],
    choices: Mapping[str, Choice],
    rules: Select,
    round: int,
    seen: Collection[Duplicate] = (),
    trusted: bool = True,
    refused: Mapping[str, str] = NOTHING,
) -> pa.Table:
    """What is decided of each triplet, in order, where its question is above the threshold.

    A table of `Weighed`.

    `triplets` are all of their images, `choices` those of their questions, and `seen` what was kept
    of the images before. `refused` are by id rows that are out by what was measured of their
    question, with the reason. The threshold changes no more than whether a choice is above it:
    surer questions come first, so that no duplicate of a row that it keeps out is kept.
    """
    rules_id = _rules_id(rules, trusted)
    known = set(seen)
    keys = {t.id: t.question_key for t in triplets if t.problem is None}
    choice_of = {i: choices[key] for i, key in keys.items() if key in choices}
    reasons: dict[str, str] = {}
    more = _further(choices, rules, refused)
    for triplet in sorted(triplets, key=lambda t: _rank(t, choice_of.get(t.id))):
        if triplet.problem is None and triplet.id in refused:
            reasons[triplet.id] = refused[triplet.id]
            continue
        no_number = unusable(triplet, judged.get(triplet.id), trusted)
        reasons[triplet.id] = (
            _reason(triplet, choice_of.get(triplet.id), rules, known, trusted)
            if triplet.problem or no_number is None
            else no_number
        )
        if reasons[triplet.id] in KEEPS:
            known.add(duplicate_key(triplet))
        elif reasons[triplet.id] == SAME:
            reasons[triplet.id] = more.get(triplet.id, SAME)
    confidence: list[float] = []
    beside: list[str | None] = []
    for triplet in triplets:
        choice = choice_of.get(triplet.id)
        sure, chosen = choice.confidence if choice else 0.0, None
        if choice and reasons[triplet.id] == FURTHER:
            sure = next(b.confidence for b in choice.beside if b.row.id == triplet.id)
            chosen = choice.triplet.id
        confidence.append(sure)
        beside.append(chosen)
    told = {sure: round_to(sure) for sure in confidence}
    columns: dict[str, list[Any]] = {
        "id": [content_id("decision", triplet.id, rules_id, round) for triplet in triplets],
        "triplet_id": [triplet.id for triplet in triplets],
        "image_id": [triplet.image_id for triplet in triplets],
        "reason": [reasons[triplet.id] for triplet in triplets],
        "confidence": confidence,
        "score": [told[sure] for sure in confidence],
        "beside": beside,
    }
    return column_table(Weighed, columns)


def _further(
    choices: Mapping[str, Choice], rules: Select, refused: Mapping[str, str]
) -> dict[str, str]:
    """What becomes of the rows that stand beside choices, by id; `refused` take no place."""
    found: dict[str, str] = {}
    for choice in choices.values():
        beside = [one for one in choice.beside if one.row.id not in refused]
        found |= further(choice.triplet, beside, rules.rationales, rules.min_probability)
    return found


def confidences(found: pa.Table) -> np.ndarray:
    """How confident each question's choice is: float64, one a question, of a table of `Weighed`."""
    chosen = found.filter(pc.is_in(found["reason"], pa.array(OF_CHOICES)))
    return np.asarray(_own(chosen).to_numpy())


def _own(found: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(found["own"], found["confidence"])


def decisions(
    found: pa.Table, threshold: float | np.ndarray, rules: Select, round: int, trusted: bool
) -> pa.Table:
    """The decisions that a threshold makes of a table of `Weighed`, row by row.

    `threshold` is one for all, or (N,), NaN where none is certified: nothing is kept there. A row
    that is above it by itself, and not by what made room for it, is out for what it waits for. A
    further row stays beside a choice that does, which is in the same table, where it is above the
    threshold too.
    """
    least = np.broadcast_to(np.asarray(threshold, float), len(found))
    certified = pa.array(np.isfinite(least))
    chosen = pc.is_in(found["reason"], pa.array(OF_CHOICES))
    above = pc.greater_equal(found["confidence"], pa.array(least))  # not of NaN
    held = pc.and_(pc.is_valid(found["held"]), pc.greater_equal(_own(found), pa.array(least)))
    why = pc.if_else(held, found["held"], pc.if_else(certified, BELOW, UNCERTIFIED))
    reason = pc.if_else(pc.and_(chosen, pc.invert(above)), why, found["reason"])
    kept = found["triplet_id"].filter(pc.is_in(reason, pa.array(KEEPS)))
    stays = pc.is_in(found["beside"], kept.combine_chunks())
    beside = pc.if_else(pc.invert(stays), SAME, pc.if_else(above, FURTHER, SELF_BELOW))
    reason = pc.if_else(pc.equal(found["reason"], FURTHER), beside, reason)
    columns = {
        "id": found["id"],
        "triplet_id": found["triplet_id"],
        "rules_id": pa.repeat(_rules_id(rules, trusted), len(found)),
        "round": pa.repeat(round, len(found)),
        "keep": pc.is_in(reason, pa.array([*KEEPS, FURTHER])),
        "reason": reason,
        "score": found["score"],
        "threshold": pa.array(np.nan_to_num(least, nan=1.0).round(6)),
    }
    schema = schema_of(Decision)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _rules_id(rules: Select, trusted: bool) -> str:
    named = rules.model_dump(exclude_none=True)
    for name in LATER:
        if getattr(rules, name) == Select.model_fields[name].get_default():
            named.pop(name, None)
    return content_id("select", named, *([] if trusted else ["agreement"]))


def _rank(triplet: Triplet, choice: Choice | None) -> tuple[float, str]:
    """Surer questions first, so that of duplicates the surest stays whatever the rows' order."""
    return (-choice.confidence if choice else 0.0, triplet.id)


def duplicate_key(triplet: Triplet) -> Duplicate:
    """Rows equal in this are exact duplicates."""
    return triplet.image_id, normalise_question(triplet.question), answer_key(triplet)


def round_to(value: float) -> float:
    """Six decimals: enough to explain a decision."""
    return float(f"{value:.6f}")


def _reason(
    triplet: Triplet,
    choice: Choice | None,
    rules: Select,
    known: set[Duplicate],
    trusted: bool,
) -> str:
    """Of a row whose numbers are finite. Comparisons are such that one with NaN keeps nothing."""
    if triplet.problem is not None or choice is None:
        return f"form: {triplet.problem}"
    if choice.triplet.id != triplet.id:
        if answer_key(choice.triplet) == answer_key(triplet):
            return SAME
        return WORSE if trusted else LESS_AGREED
    if math.isnan(choice.confidence):
        return BELOW
    if not choice.probability >= rules.min_probability:
        return FLOOR
    if choice.flaw is not None:
        return choice.flaw
    if duplicate_key(triplet) in known:
        return DUPLICATE
    return KEPT if trusted else KEPT_BY_AGREEMENT
