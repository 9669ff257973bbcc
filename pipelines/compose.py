"""Compose: questions of several steps about training images, computed from what is known of them.

Facts are kept rows of this round and before, the expert's own and corrected rows and, where
`compose.facts` names them, labels, a phantom's truth, a segmentation's measures. A composed row is
not judged: its answer is computed from rows that were, and it carries the least confidence of its
facts as its decision's score. It is right where all of its facts are, so that is the most that can
be said; a promise that selection makes of its rows is none of these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from engine.config.compose import Compose
from engine.errors import TriptychError
from engine.records import Decision, Found, Image, Task, Triplet, content_id
from engine.sql import Scan
from engine.workspace import Stage
from generators.compose.balance import Balance
from generators.compose.composer import CONTRADICT
from generators.compose.composer import compose as composed
from generators.compose.facts import of_labels, of_row, of_truth
from generators.compose.measures import measured
from generators.compose.program import Fact
from generators.compose.rows import row_of
from generators.filters import reason as filtered
from generators.found import found_of
from pipelines.context import Context
from pipelines.record import ORDINARY, SOME, known_rows, known_tables, precision
from pipelines.safety import teach
from reward_model.threshold import round_to

KEPT = "composed from facts"


@dataclass
class Known:
    """What is known of one image: facts, how wide it is, and what was composed of it before."""

    image: Image
    facts: list[Fact] = field(default_factory=list)
    width_mm: float | None = None
    asked: set[str] = field(default_factory=set)


def compose(context: Context, stage: Stage) -> None:
    """Compose the round's questions, or none where none are wanted or facts do not allow any.

    Rows that teach safety are written here too (`pipelines.safety`): they are of the same kind, by
    rule, from what is known of images after a selection, and not judged.
    """
    section = context.config.compose
    taught = teach(context, stage)
    if not section.questions:
        stage.metrics = taught or {"skipped": "compose.questions is 0"}
        return
    rules_id = content_id("compose", section.model_dump())
    rows: list[Triplet] = []
    decisions: list[Decision] = []
    tasks: dict[str, Task] = {}
    refused: Counter[str] = Counter()
    told: dict[str, Counter[str]] = {key: Counter() for key in ("steps", "forms", "facts")}
    balance = Balance()
    looked_at = 0
    for known in what_is_known(context, stage.round):
        if len(rows) >= section.questions:
            break
        looked_at += 1
        wanted = min(section.per_image, section.questions - len(rows))
        seed = [context.config.seed, stage.round, int(known.image.id[:8], 16)]
        made, why = composed(
            known.facts,
            known.width_mm,
            wanted,
            section.steps,
            balance,
            np.random.default_rng(seed),
            known.asked,
        )
        if why:
            refused[CONTRADICT if why.startswith(CONTRADICT) else why] += 1
        for number, one in enumerate(made):
            row, task = row_of(known.image, one, context.config.seed, number, stage.round)
            problem = filtered(row, context.config.generator.filters)
            if problem:
                refused[problem] += 1
                continue
            rows.append(row)
            decisions.append(_decision(row, rules_id, stage.round, one.confidence))
            tasks[task.id] = task
            told["steps"][str(one.steps)] += 1
            told["forms"][one.form] += 1
            told["facts"].update(fact.kind for fact in one.program.facts)
        context.display.advance(len(rows), section.questions, "questions")
    stage.write_all(Triplet, rows)
    stage.write_all(Decision, decisions)
    stage.write(Task, tasks.values())
    steps = {row.question_key: tasks[row.task_id].steps for row in rows}
    stage.write_all(Found, found_of(rows, {}, steps))
    stage.metrics = {
        "composed": len(rows),
        "images": looked_at,
        "refused": dict(sorted(refused.items())),
        "precision": precision(context, rows),
    } | {key: dict(sorted(counts.items())) for key, counts in told.items()}
    stage.metrics |= taught
    if len(rows) < section.questions:
        why_not = ", ".join(f"{reason} {n} times" for reason, n in refused.most_common())
        context.display.warn(
            f"compose, round {stage.round}: {len(rows)} of {section.questions} questions, from "
            f"{looked_at} images with facts" + (f" ({why_not})" if why_not else "")
        )


def _decision(row: Triplet, rules_id: str, round: int, confidence: float) -> Decision:
    return Decision(
        id=content_id("decision", row.id, rules_id, round),
        triplet_id=row.id,
        rules_id=rules_id,
        round=round,
        keep=True,
        reason=KEPT,
        score=round_to(confidence),
        threshold=0.0,
    )


def what_is_known(context: Context, round: int) -> Iterator[Known]:
    """Training images of which something is known, in an order that each round draws anew."""
    section = context.config.compose
    with context.scan(Image) as scan:
        known_tables(context, scan)
        scan.table("composed", Triplet, context.shards(Triplet, "compose"))
        query = (
            f"SELECT id FROM images WHERE split = 'train' AND {ORDINARY} ORDER BY md5(id || ?), id"
        )
        ids = [image_id for (image_id,) in scan.values(query, [str(round)])]
        for low in range(0, len(ids), SOME):
            yield from _of_images(context, section, scan, ids[low : low + SOME], round)


def _of_images(
    context: Context, section: Compose, scan: Scan, ids: list[str], round: int
) -> Iterator[Known]:
    """What is known of some images, in their order; those of which nothing is are left out."""
    query = "SELECT * FROM images WHERE id IN (SELECT unnest(?::VARCHAR[]))"
    known = {image.id: Known(image) for image in scan.rows(Image, query, [ids])}
    query = "SELECT * FROM composed WHERE image_id IN (SELECT unnest(?::VARCHAR[]))"
    for row in scan.rows(Triplet, query, [ids]):
        known[row.image_id].asked.add(row.question)
    for row, kind, confidence in known_rows(scan, ids, round, section.facts):
        _add(known, of_row(row, kind, confidence), row)
    for image_id in ids:
        one = known[image_id]
        one.facts += of_labels(one.image) if "labels" in section.facts else ()
        one.facts += of_truth(one.image) if "truth" in section.facts else ()
        if "segmentation" in section.facts:
            _add_measures(context, one)
        if one.facts:
            yield one


def _add(known: dict[str, Known], fact: Fact | None, row: Triplet) -> None:
    if fact is not None:
        known[row.image_id].facts.append(fact)


def _add_measures(context: Context, known: Known) -> None:
    """What the segmentation beside a phantom measures, where there is one that can be read."""
    path = context.workspace.root / "segmentations" / known.image.source
    if not (known.image.is_synthetic and path.is_file()):
        return
    try:
        found = measured(path)
    except TriptychError as error:
        context.display.warn(f"compose: {error}; its measures are left out")
        return
    if found:
        known.facts += found.facts(known.image.id)
        known.width_mm = found.width_mm
