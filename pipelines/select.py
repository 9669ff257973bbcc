"""Select: decide on every row of a round, with the reason (`reward_model.threshold`)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from engine.caveats import at_chance, auc_in_words, of_selection
from engine.records import Decision, Judgement, Triplet
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.record import judge_metrics, purity
from reward_model.threshold import BEATEN, decide, duplicate_key


def select(context: Context, stage: Stage) -> None:
    """Decide on every triplet of the round; where truth is known, measure purity."""
    triplets = context.rows(Triplet, "generate", stage.round)
    judged = {j.triplet_id: j for j in context.rows(Judgement, "judge", stage.round)}
    earlier = {d.triplet_id for d in context.rows(Decision) if d.keep}
    seen = {duplicate_key(t) for t in context.rows(Triplet, "generate") if t.id in earlier}
    judge = judge_metrics(context, judged)
    trusted = not at_chance(judge)
    decisions = decide(triplets, judged, context.config.select, stage.round, seen, trusted)
    stage.write(Decision, decisions)
    stage.metrics = selection_metrics(context, triplets, decisions)
    stage.metrics |= {"by": "judge" if trusted else "agreement", "judge": auc_in_words(judge)}
    for line in of_selection(stage.metrics):
        context.display.warn(f"round {stage.round}: {line}")


def selection_metrics(
    context: Context, triplets: list[Triplet], decisions: list[Decision]
) -> dict[str, Any]:
    """Counts by reason, kept share of questions, and purity before and after (phantoms only)."""
    parsed = {t.id: t for t in triplets if t.problem is None}
    kept = [d.triplet_id for d in decisions if d.keep]
    questions = {t.question_key for t in parsed.values()}
    reasons = Counter(d.reason for d in decisions if not d.keep).most_common()
    return {
        "kept": len(kept),
        "why_none": None if kept else next((r for r, _ in reasons if r not in BEATEN), None),
        "rejected": len(decisions) - len(kept),
        "kept_fraction": round(len(kept) / max(len(questions), 1), 4),
        "questions": len(questions),
        "reasons": dict(reasons),
        "purity_before": purity(context, list(parsed.values())),
        "purity_after": purity(context, [parsed[i] for i in kept]),
    }
