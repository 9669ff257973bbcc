"""Refine the judge on what a round added; it takes the old one's place if the gate lets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from engine.caveats import at_chance, of_judge
from engine.records import Decision, Preference, Task, Triplet, Verdict, unique
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.judge_training import add_judge, fit_judge, taught
from pipelines.parts import parts_of
from pipelines.record import expert_of, images_of, own_tasks
from reward_model.experts.expert import Expert
from reward_model.patient_sets import is_frozen
from reward_model.refinement import Judged, new_pairs


def refine(context: Context, stage: Stage) -> None:
    """Train the judge further on all that was said; keep the old one where that made it worse."""
    current = context.model("judge")
    trusted = not at_chance(json.loads(current.metrics))
    pairs, made = pairs_of_round(context, stage.round, trusted)
    stage.write(Triplet, unique(made), "made")
    stage.write(Task, own_tasks(context, made), "made")
    stage.write(Preference, unique(pairs))
    said = _said(context, stage.round)
    if not pairs and not said:
        stage.metrics = {"accepted": False, "why": "nothing new was said"}
        return
    told = taught(context, pairs, made)
    result = fit_judge(context, stage, current, told, context.config.reward.refine_epochs)
    before, after, gate = result.before, result.after, result.gate
    assert before is not None  # a judge is refined
    assert gate is not None
    stage.metrics = {
        "auc_before": before.report.auc,
        "auc_after": (after if gate.passes else before).report.auc,
        "auc_refined": after.report.auc,
        "pairwise_before": before.pairwise,
        "pairwise": after.pairwise,
        "pairs": len(pairs),
        "said": said,
        "accepted": gate.passes,
        "gate_test": gate.to_dict(),
        "ece_before": before.ece,
        "drift": list(before.rounds),
        **told.counts(),
    }
    if gate.passes:
        metrics = result.to_dict()
        for line in of_judge(metrics):
            context.display.warn(line)
        add_judge(context, stage, current, metrics, told)


def _said(context: Context, round: int) -> int:
    """How many verdicts and preferences experts gave in a round."""
    with context.scan(Verdict, Preference) as scan:
        ((verdicts,),) = scan.values("SELECT count(*) FROM verdicts WHERE round = ?", [round])
        query = "SELECT count(*) FROM preferences WHERE round = ? AND item_id <> ''"
        ((preferences,),) = scan.values(query, [round])
    return int(verdicts + preferences)


def _kept(path: Path) -> list[str]:
    """Ids of the triplets that a shard of decisions keeps."""
    found = pq.read_table(path, columns=["triplet_id"], filters=[("keep", "==", True)])
    return list(found["triplet_id"].to_pylist())


def expert_of_new_rows(context: Context) -> Expert | None:
    """The expert, where it can compare new answers."""
    expert = expert_of(context)
    return expert if expert.compares_generated else None


def pairs_of_round(
    context: Context, round: int, trusted: bool = True
) -> tuple[list[Preference], list[Triplet]]:
    """`new_pairs` among what was generated and judged in a round."""
    expert = expert_of_new_rows(context)
    return new_pairs(context.config, judged(context, round), expert, round, trusted)


def judged(context: Context, round: int) -> Iterator[Judged]:
    """A round's rows in parts, with what select kept and which patients are frozen."""
    parts, decided = parts_of(context, round), context.shards(Decision, "select", round)
    whole = len(parts) != len(decided)  # else select decided part by part
    for number, part in enumerate(parts):
        triplets, judgements = part.rows()
        shards = decided if whole else sorted(decided)[number : number + 1]
        kept = {name for path in shards for name in _kept(path)}
        images = images_of(context, (t.image_id for t in triplets))
        frozen = {name for name, image in images.items() if is_frozen(image.group)}
        yield Judged(triplets=triplets, judgements=judgements, kept=kept, frozen=frozen)
