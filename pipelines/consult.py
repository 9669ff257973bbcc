"""Consult: what experts are asked, before the first judge and of each round.

Before the first judge they see candidates of the generator on training images, from which it
learns, and questions on validation and test images, which they verify. Of a round they see rows
drawn evenly of those that selection chooses from, and rows of which the judge is least sure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from engine.config.expert import Verdicts
from engine.records import Image, Item, Judgement, Triplet
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.record import held_out_shares, images_of, triplets_by_id
from pipelines.weighing import weigh
from reward_model.experts import asked_of
from reward_model.experts.expert import EXPERT
from reward_model.patient_sets import TRAIN, set_of
from reward_model.process import UNSOUND
from reward_model.streams import in_turn, placed, rivals, teaching_items, verdict_items
from reward_model.threshold import FLOOR, KEEPS, Weighed, choices_of
from reward_model.verdicts import RANDOM, TEST


def consult(context: Context, stage: Stage) -> None:
    """The round's items, in the order in which they are shown."""
    asked = asked_of(context.config).verdicts
    items = items_of_round(context, stage, asked) if stage.round else first_items(context, asked)
    stage.write(Item, placed(items, context.config.seed))
    stage.metrics = dict(Counter(item.stream for item in items))


def first_items(context: Context, asked: Verdicts) -> list[Item]:
    """Of the candidates: what the first judge learns from and is measured by, and a test set."""
    if not asked.first and not asked.test:
        return []
    there = context.rows(Triplet, "compare")
    rows = [t for t in there if not (t.problem or t.derived_from or t.generator_id == EXPERT)]
    known = all(row.logprob is not None for row in rows)
    choices = choices_of(rows, {}, context.config.select, False, known)
    images = images_of(context, [row.image_id for row in rows])
    by_split: dict[str, dict[str, Triplet]] = defaultdict(dict)
    for key, choice in choices.items():
        by_split[images[choice.triplet.image_id].split][key] = choice.triplet

    def some(split: str, number: int) -> list[Triplet]:
        chosen = by_split[split]
        return [chosen[key] for key in in_turn(chosen, context.config.seed)[:number]]

    picked, readers = some("train", asked.first), asked.readers
    teach = [row for row in picked if set_of(images[row.image_id].group) == TRAIN]
    measure = [row for row in picked if set_of(images[row.image_id].group) != TRAIN]
    others = rivals(rows, by_split["train"])
    items = teaching_items(teach, others, asked.preferences, 0, readers)
    items += verdict_items(measure, RANDOM, 0, readers)
    for split, number in held_out_shares(context, asked.test).items():
        items += verdict_items(some(split, number), TEST, 0, asked.test_readers)
    return items


def items_of_round(context: Context, stage: Stage, asked: Verdicts) -> list[Item]:
    """Of a round's chosen rows: some drawn evenly, one a patient, and the least sure ones."""
    if not asked.random and not asked.informative:
        return []
    weighing = weigh(context, stage)
    with context.scan(Image) as scan:
        scan.table("weighed", Weighed, list(weighing.files.values()))
        scan.table("judgements", Judgement, context.shards(Judgement, "judge", stage.round))
        asked_for = [[*KEEPS], f"{context.config.seed}", asked.random]
        drawn = {name: None for (name,) in scan.values(_DRAWN, asked_for)}
        least: list[str] = []
        asked_about = [*KEEPS, FLOOR, UNSOUND]  # where the judge errs, too, it can be told so
        for triplet_id, group in scan.values(_LEAST_SURE, [asked_about, weighing.job.trusted]):
            if len(least) >= asked.informative:
                break
            if set_of(group) == TRAIN and triplet_id not in drawn:
                least.append(triplet_id)
    rows, round, readers = triplets_by_id(context, [*drawn, *least]), stage.round, asked.readers
    unsure = [rows[name] for name in least]
    others = rivals(_rows_about(context, unsure, round), {t.question_key: t for t in unsure})
    return [
        *verdict_items([rows[name] for name in drawn], RANDOM, round, readers),
        *teaching_items(unsure, others, asked.preferences, round, readers),
    ]


def _rows_about(context: Context, rows: list[Triplet], round: int) -> Iterator[Triplet]:
    """What was generated in a round about the images of rows."""
    with context.scan() as scan:
        scan.table("triplets", Triplet, context.shards(Triplet, "generate", round))
        query = "SELECT * FROM triplets WHERE image_id IN (SELECT unnest(?::VARCHAR[]))"
        yield from scan.stream(Triplet, query, [sorted({row.image_id for row in rows})])


# Rows in an order that follows from their ids alone; of each patient the first.
_DRAWN = """
WITH chosen AS (
    SELECT w.triplet_id, i."group", md5(w.triplet_id || $2) AS turn
    FROM weighed w JOIN images i ON i.id = w.image_id
    WHERE w.reason IN (SELECT unnest($1::VARCHAR[]))
)
SELECT triplet_id FROM chosen
QUALIFY row_number() OVER (PARTITION BY "group" ORDER BY turn) = 1 ORDER BY turn LIMIT $3
"""
# Of each image the row that is nearest to even odds, by the judge or, without it, by agreement.
_LEAST_SURE = """
WITH chosen AS (
    SELECT w.triplet_id, w.image_id, i."group",
        abs(CASE WHEN $2 THEN j.probability ELSE w.confidence END - 0.5) AS sure
    FROM weighed w JOIN images i ON i.id = w.image_id
    LEFT JOIN judgements j ON j.triplet_id = w.triplet_id
    WHERE w.reason IN (SELECT unnest($1::VARCHAR[]))
)
SELECT triplet_id, "group" FROM chosen
QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY sure, triplet_id) = 1
ORDER BY sure, triplet_id
"""
