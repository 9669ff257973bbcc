"""Select: of the answers to a question the best, of the questions the surest, with the reason.

1. A row that did not parse is out.
2. Of the answers sampled for one image and question, the judge's and the generator's joint choice
   stays: judge's log-odds + confidence · mean log-probability + agreement · log vote share.
3. A question is as sure as its choice is: questions below the threshold are out. The threshold is
   the score that keeps the configured share, and never below the calibrated floor.
4. Exact duplicates (same image, question and answer) of an earlier round are out.

A threshold on single samples mostly keeps easy rows; choosing among answers is what teaches.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from engine.answers import normalise, resolve
from engine.config import Select
from engine.records import Decision, Judgement, Triplet, content_id
from engine.workspace import Stage
from generators.expert import is_true
from pipelines.context import Context

KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Choice:
    """A question's chosen answer, its score, and how sure: the score's share among the answers."""

    triplet: Triplet
    score: float
    sureness: float
    probability: float


def answer_key(triplet: Triplet) -> str:
    """What makes two answers to one question the same."""
    return normalise(resolve(triplet.answer, triplet.options) or triplet.answer)


def choose(candidates: list[Triplet], judged: dict[str, Judgement], rules: Select) -> Choice:
    """The best answer to one question. Samples of one answer pool their evidence.

    An answer's score is its samples' mean judge score and mean log-probability, and the log of its
    vote share; sureness is the softmax of the scores over the different answers, times the
    calibrated probability of the best.
    """
    answers: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in candidates:
        answers[answer_key(triplet)].append(triplet)
    # Known of some samples only, log-probabilities compare nothing: they count for none of them.
    known = all(t.logprob is not None for t in candidates)
    scores = {}
    for key, rows in answers.items():
        opinion = float(np.mean([judged[t.id].overall for t in rows]))
        confidence = float(np.mean([t.logprob for t in rows])) if known else 0.0
        share = len(rows) / len(candidates)
        scores[key] = opinion + rules.confidence * confidence + rules.agreement * np.log(share)
    best = max(sorted(scores), key=lambda k: scores[k])
    odds = np.array(list(scores.values()))
    certainty = 1 / np.exp(odds - scores[best]).sum()
    top = max(answers[best], key=lambda t: (judged[t.id].overall, t.id))
    chance = float(np.mean([judged[t.id].probability for t in answers[best]]))
    return Choice(top, float(scores[best]), float(certainty * chance), chance)


def decide(
    triplets: list[Triplet],
    judged: dict[str, Judgement],
    rules: Select,
    round: int,
    seen: set[tuple[str, str, str]] | None = None,
) -> list[Decision]:
    """One decision for each triplet, in order."""
    rules_id = content_id("select", rules.model_dump())
    questions: dict[str, list[Triplet]] = defaultdict(list)
    for triplet in triplets:
        if triplet.problem is None:
            questions[triplet.question_key].append(triplet)
    choices = {key: choose(rows, judged, rules) for key, rows in questions.items()}
    sure = sorted((c.sureness for c in choices.values()), reverse=True)
    kept = max(int(np.ceil(rules.keep * len(sure) - 1e-9)), 1)
    threshold = sure[kept - 1] if sure else 0.0
    known = set(seen or ())
    reasons: dict[str, str] = {}
    for triplet in sorted(triplets, key=lambda t: _rank(t, choices)):
        choice = choices.get(triplet.question_key) if triplet.problem is None else None
        reasons[triplet.id] = _reason(triplet, choice, threshold, rules, known)
        if reasons[triplet.id] == KEPT:
            known.add(duplicate_key(triplet))
    decisions = []
    for triplet in triplets:
        choice = choices.get(triplet.question_key) if triplet.problem is None else None
        reason = reasons[triplet.id]
        decisions.append(
            Decision(
                id=content_id("decision", triplet.id, rules_id, round),
                triplet_id=triplet.id,
                rules_id=rules_id,
                round=round,
                keep=reason == KEPT,
                reason=reason,
                score=round_to(choice.sureness) if choice else 0.0,
                threshold=round_to(threshold),
            )
        )
    return decisions


def _rank(triplet: Triplet, choices: dict[str, Choice]) -> tuple[float, str]:
    """Surer questions first, so that of duplicates the surest stays whatever the rows' order."""
    choice = choices.get(triplet.question_key) if triplet.problem is None else None
    return (-choice.sureness if choice else 0.0, triplet.id)


def duplicate_key(triplet: Triplet) -> tuple[str, str, str]:
    """Rows equal in this are exact duplicates."""
    return triplet.image_id, normalise(triplet.question), answer_key(triplet)


def round_to(value: float) -> float:
    """Six decimals: enough to explain a decision."""
    return float(f"{value:.6f}")


def _reason(
    triplet: Triplet,
    choice: Choice | None,
    threshold: float,
    rules: Select,
    known: set[tuple[str, str, str]],
) -> str:
    if triplet.problem is not None or choice is None:
        return f"form: {triplet.problem}"
    if choice.triplet.id != triplet.id:
        same = answer_key(choice.triplet) == answer_key(triplet)
        return "same answer as the chosen row" if same else "another answer was judged better"
    if choice.sureness < threshold:
        return "below the threshold"
    if choice.probability < rules.min_probability:
        return "below the probability floor"
    return "exact duplicate" if duplicate_key(triplet) in known else KEPT


def select(context: Context, stage: Stage) -> None:
    """Decide on every triplet of the round; where truth is known, measure purity."""
    triplets = context.rows(Triplet, "generate", stage.round)
    judged = {j.triplet_id: j for j in context.rows(Judgement, "judge", stage.round)}
    earlier = {d.triplet_id for d in context.rows(Decision) if d.keep}
    seen = {duplicate_key(t) for t in context.rows(Triplet, "generate") if t.id in earlier}
    decisions = decide(triplets, judged, context.config.select, stage.round, seen)
    stage.write(Decision, decisions)
    stage.metrics = selection_metrics(context, triplets, decisions)


def selection_metrics(
    context: Context, triplets: list[Triplet], decisions: list[Decision]
) -> dict[str, object]:
    """Counts by reason, kept share of questions, and purity before and after (phantoms only)."""
    parsed = {t.id: t for t in triplets if t.problem is None}
    kept = [d.triplet_id for d in decisions if d.keep]
    questions = {t.question_key for t in parsed.values()}
    return {
        "kept": len(kept),
        "rejected": len(decisions) - len(kept),
        "kept_fraction": round(len(kept) / max(len(questions), 1), 4),
        "questions": len(questions),
        "reasons": dict(Counter(d.reason for d in decisions if not d.keep).most_common()),
        "purity_before": purity(context, list(parsed.values())),
        "purity_after": purity(context, [parsed[i] for i in kept]),
    }


def purity(context: Context, rows: list[Triplet]) -> float | None:
    """Share in [0, 1] of rows that are right on their image; None where truth is not known."""
    images = {i.id: i for i in context.images()}
    truths = [is_true(images[row.image_id], row) for row in rows]
    known = [truth for truth in truths if truth is not None]
    return round(float(np.mean(known)), 4) if known else None
