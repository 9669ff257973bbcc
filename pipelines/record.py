"""Questions to the record: which rows a stage works on, by what earlier stages committed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from engine.config.evaluate import VALIDATION_SHARE
from engine.errors import TriptychError
from engine.reasons import FURTHER
from engine.records import (
    Decision,
    Image,
    Model,
    Preference,
    Refusal,
    Review,
    Task,
    Triplet,
    Verdict,
    unique,
)
from engine.sql import WRITTEN, Scan
from engine.workspace import Workspace
from generators.phantoms.oracle import share_true
from generators.safety.rows import TEXT
from generators.tasks import Shown
from pipelines.context import Context
from reward_model.experts import asked_of, open_expert
from reward_model.experts.expert import EXPERT, Exemplar, Expert
from reward_model.verdicts import REJECT


def kept_triplets(context: Context, rounds: int) -> list[Triplet]:
    """What select kept, compose made and was drawn with its image, in rounds 1 to `rounds`."""
    return list(each_kept(context, rounds))


def each_kept(context: Context, rounds: int, further: bool = True) -> Iterator[Triplet]:
    """As `kept_triplets`, a few at a time; without `further` reasonings a row a question."""
    with context.scan(Decision) as scan:
        stages = ("plan", "generate", "compose")
        written = [path for s in stages for path in context.shards(Triplet, s)]
        scan.table("triplets", Triplet, written)
        query = (
            "SELECT * FROM triplets WHERE id IN "
            "(SELECT triplet_id FROM decisions WHERE keep AND round <= ? "
            f"AND (? OR reason <> '{FURTHER}')) ORDER BY {WRITTEN}"
        )
        yield from scan.stream(Triplet, query, [rounds, further])


def further_ids(context: Context, rounds: int) -> set[str]:
    """The ids of rows of rounds 1 to `rounds` that are kept beside the chosen one."""
    with context.scan(Decision) as scan:
        query = "SELECT triplet_id FROM decisions WHERE keep AND round <= ? AND reason = ?"
        return {name for (name,) in scan.values(query, [rounds, FURTHER])}


def known_tables(context: Context, scan: Scan) -> None:
    """Tables for `known_rows`: what was generated and what seeds and experts wrote, decisions,
    verdicts."""
    for row_type in (Decision, Verdict):
        scan.table(row_type.table, row_type, context.shards(row_type))
    scan.table("generated", Triplet, context.shards(Triplet, "generate"))
    written = [path for s in ("seed", COLLECT) for path in context.shards(Triplet, s)]
    scan.table("written", Triplet, written)


def known_rows(
    scan: Scan, ids: list[str], round: int, sources: Collection[str]
) -> Iterator[tuple[Triplet, str, float]]:
    """Rows about images that are held to be right: (row, expert, corrected or kept, how surely).

    `sources` names expert (own and corrected rows), kept (by selections up to a round), or both.
    What an expert rejected, or made a row of their own of, is no longer held to be.
    """
    of_these = "SELECT * FROM {} WHERE image_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY id"
    experts = scan.rows(Triplet, of_these.format("written"), [ids])
    experts = [row for row in experts if row.generator_id == EXPERT]
    if "expert" in sources:
        for row in experts:
            yield row, "corrected" if row.derived_from else "expert", 1.0
    if "kept" in sources:
        gone = {source for row in experts for source in row.derived_from}
        query = "SELECT triplet_id FROM verdicts WHERE verdict = ? AND NOT repeat"
        gone |= {name for (name,) in scan.values(query, [REJECT])}
        scores = dict(
            scan.values(
                "SELECT triplet_id, max(score) FROM decisions WHERE keep AND round <= ? "
                f"AND reason <> '{FURTHER}' AND triplet_id IN "
                "(SELECT id FROM generated WHERE image_id IN "
                "(SELECT unnest(?::VARCHAR[]))) GROUP BY triplet_id",
                [round, ids],
            )
        )
        for row in scan.rows(Triplet, of_these.format("generated"), [ids]):
            if row.id in scores and row.id not in gone:
                yield row, "kept", scores[row.id]


def fresh_triplets(context: Context, kept: Iterable[Triplet]) -> list[Triplet]:
    """Of the kept rows those left to GRPO."""
    return [row for row in kept if left_to_grpo(context, row)]


def left_to_grpo(context: Context, row: Triplet) -> bool:
    """Whether a row's question is left to GRPO: in every round, or in none."""
    share = context.config.grpo.share if context.config.grpo.steps else 0.0
    return int(row.question_key[:8], 16) < share * 2**32


def seed_triplets(context: Context) -> list[Triplet]:
    """The expert's own rows on training images, and what it corrected or accepted so far."""
    written, gold = (
        [t for t in context.rows(Triplet, stage) if t.generator_id == EXPERT]
        for stage in ("seed", COLLECT)
    )
    images = images_of(context, [t.image_id for t in gold]) if gold else {}
    return written + [t for t in gold if images[t.image_id].split == "train"]


def pending(workspace: Workspace) -> list[Refusal]:
    """What is quarantined and not decided, each picture once."""
    decided = {review.image_id for review in workspace.read(Review)}
    waiting = [r for r in workspace.read(Refusal) if r.status == "quarantined"]
    return [*{r.image_id: r for r in waiting if r.image_id not in decided}.values()]


def check_reviewed(context: Context) -> None:
    """Raise TriptychError where no image can be used before somebody has looked at them."""
    waiting = [] if any(context.images()) else pending(context.workspace)
    if waiting:
        root = context.workspace.root
        raise TriptychError(
            f"all {len(waiting)} images wait for review: look at them (`triptych ingest --review "
            f"-w {root}`), release those that name nobody (`triptych ingest -w {root} --release "
            "ID --by NAME`; ID may be `all`), then run again"
        )


def shown(context: Context, split: str) -> Iterator[Shown]:
    """A split's images as ids, modalities and anatomies, in order of id, a few at a time.

    Without those that a text was written into: nothing more is asked about them.
    """
    with context.scan(Image) as scan:
        query = (
            f"SELECT id, modality, anatomy FROM images WHERE split = ? AND {ORDINARY} ORDER BY id"
        )
        yield from scan.values(query, [split])


def images_of(context: Context, ids: Iterable[str]) -> dict[str, Image]:
    """What is known of images, by id, in the order asked for."""
    wanted = list(dict.fromkeys(ids))
    with context.scan(Image) as scan:
        query = "SELECT * FROM images WHERE id IN (SELECT unnest(?::VARCHAR[]))"
        found = {image.id: image for image in scan.rows(Image, query, [wanted])}
    return {name: found[name] for name in wanted if name in found}


def triplets_of(
    context: Context, pairs: Iterable[Preference], verdicts: Iterable[Verdict]
) -> dict[str, Triplet]:
    """The triplets that preferences compare and verdicts are of, by id.

    Of verdicts also the other samples of their questions.
    """
    judged = {verdict.triplet_id: verdict.image_id for verdict in verdicts}
    compared = {i for pair in pairs for i in (pair.chosen_id, pair.rejected_id)}
    found = triplets_by_id(context, sorted(compared | judged.keys()))
    asked = {found[name].question_key for name in judged if name in found}
    with context.scan(Triplet) as scan:
        query = "SELECT * FROM triplets WHERE image_id IN (SELECT unnest(?::VARCHAR[]))"
        beside = scan.rows(Triplet, query, [sorted(set(judged.values()))]) if judged else []
        return found | {row.id: row for row in beside if row.question_key in asked}


def triplets_by_id(context: Context, ids: Iterable[str]) -> dict[str, Triplet]:
    """Triplets by id; what is in no table is left out."""
    wanted = list(dict.fromkeys(ids))
    with context.scan(Triplet) as scan:
        query = "SELECT * FROM triplets WHERE id IN (SELECT unnest(?::VARCHAR[]))"
        return {row.id: row for row in scan.rows(Triplet, query, [wanted])}


def expert_of(context: Context) -> Expert:
    """The configuration's expert; raises TriptychError where there is nobody to ask."""
    tasks = {task.id: task for task in context.rows(Task, COLLECT)}
    gold = [t for t in context.rows(Triplet, COLLECT) if t.generator_id == EXPERT]
    known = [(row, tasks[row.task_id]) for row in gold]
    return open_expert(context.config, context.images(), context.workspace.root, known)


def own_tasks(context: Context, rows: list[Triplet]) -> list[Task]:
    """The tasks of rows that the expert wrote of its own accord, in no plan and no seed."""
    own = [row for row in rows if row.generator_id == EXPERT and not row.derived_from]
    if not own:
        return []
    expert = expert_of(context)
    images = images_of(context, [row.image_id for row in own])
    told = {
        written.id: task
        for row in own
        for written, task in expert.rows(images[row.image_id], row.sample + 1)
    }
    return unique([told[row.id] for row in own])


def known_images(context: Context, expert: Expert, split: str) -> Iterator[str]:
    """The ids of a split's images of which the expert knows something, in order of id."""
    with context.scan(Image) as scan:
        query = f"SELECT id, source FROM images WHERE split = ? AND {ORDINARY} ORDER BY id"
        for image_id, source in scan.values(query, [split]):
            if expert.knows(image_id, source):
                yield image_id


def expert_images(context: Context, expert: Expert) -> tuple[list[Image], list[Image]]:
    """Training images with expert rows, and further ones for preferences; in order of id.

    An expert who compares what a generator wrote can do so on any image.
    """
    asked = asked_of(context.config)
    first = list(islice(known_images(context, expert, "train"), asked.images))
    if expert.compares_generated:
        others: Iterator[str] = (image_id for image_id, *_ in shown(context, "train"))
    else:
        others = known_images(context, expert, "train")
    taken = set(first)
    rest = list(islice((i for i in others if i not in taken), asked.preference_images))
    images = images_of(context, first + rest)
    rows = [images[image_id] for image_id in first]
    return rows, [images[image_id] for image_id in rest] or rows


def twins_of(context: Context) -> list[tuple[Image, Image]]:
    """Training images with their twins: (original, twin), in order of the twins' ids."""
    with context.scan(Image) as scan:
        query = (
            f"SELECT * FROM images WHERE split = 'train' AND twin_of <> '' AND {ORDINARY} "
            "ORDER BY id"
        )
        twins = scan.rows(Image, query)
    originals = images_of(context, [twin.twin_of for twin in twins])
    return [(originals[t.twin_of], t) for t in twins if t.twin_of in originals]


def held_out_shares(context: Context, number: int) -> dict[str, int]:
    """How many of `number` questions on held-out images are of which split: of those that there
    are, VALIDATION_SHARE on validation for one on test."""
    shares = {"val": VALIDATION_SHARE, "test": 1.0}
    there = {split: share for split, share in shares.items() if any(shown(context, split))}
    total = sum(there.values())
    return {split: round(number * share / total) for split, share in there.items()}


def held_out(context: Context, split: str, number: int) -> list[Exemplar]:
    """About `number` expert questions on a split's images, spread evenly over the images."""
    if not any(shown(context, split)):
        return []
    expert = expert_of(context)
    images = sum(1 for _ in known_images(context, expert, split))
    if not images:
        return []
    rows: list[Exemplar] = []
    ids = known_images(context, expert, split)
    while len(rows) < number and (some := list(islice(ids, SOME))):
        for image in images_of(context, some).values():
            rows += expert.rows(image, -(-number // images))
    return rows[:number]


RENEW = "renew"  # the stage that lets a policy generate
# Of images, in SQL: nothing was written into it. JSON in rows has no spaces.
ORDINARY = f"""NOT contains(coalesce(drawn, ''), '"what":"{TEXT}"')"""
COLLECT = "collect"  # the stage that writes what experts said
SOME = 1000  # images looked at together


def validation_questions(context: Context) -> list[Exemplar]:
    """What steers the loop: expert questions on the validation split; none where it is empty."""
    return held_out(context, "val", context.config.evaluate.validation)


def generator_of(context: Context, refresh: bool = True) -> Model:
    """Who generates: the model named in the configuration, else the tuned one, later the policy.

    With `generator.refine` the newest policy that stage renew let take over.
    """
    section = context.config.generator
    if section.model:
        return context.outside("generator", section.model)
    if not (refresh and section.refresh and context.has("sft")):
        return context.model("generator")
    if section.refine is None:
        return context.model("policy")
    renewed = [c["metrics"] for c in context.workspace.commits() if c["stage"] == RENEW]
    taken = [metrics["generator"] for metrics in renewed if metrics["accepted"]][-1:]
    found = [model for model in context.rows(Model) if model.id in taken]
    return found[-1] if found else context.model("generator")


def judge_metrics(context: Context, judges: set[str]) -> dict[str, Any]:
    """What was measured of the judge that gave opinions, of the newest where none did."""
    named = judges or {context.model("judge").id}
    models = [m for m in context.rows(Model) if m.id in named]
    return dict(json.loads(models[-1].metrics)) if models else {}


def precision(context: Context, rows: list[Triplet]) -> float | None:
    """Share in [0, 1] of rows that are right on their image; None where truth is not known."""
    return share_true(images_of(context, [row.image_id for row in rows]), rows)
