"""The expert's part: seed rows to imitate, then preferences between candidates."""

from __future__ import annotations

from engine.errors import TriptychError
from engine.records import Image, Preference, Task, Triplet, content_id, unique
from engine.workspace import Stage
from generators.tasks import draw_tasks, uniform_mix
from pipelines.context import Context
from pipelines.expertise import expert_images, open_expert, own_tasks
from pipelines.generate import generator_of, run_proposer, write_tasks
from pipelines.review import pending
from pipelines.sft import seed_triplets

ALL = 10**6  # rows an image: every question that a benchmark has


def seed(context: Context, stage: Stage) -> None:
    """Expert rows on the seed images, and the tasks that they answer."""
    _check_reviewed(context)
    expert = open_expert(context.config, context.images())
    images, _ = expert_images(context)
    number = context.config.expert.rows_per_image
    rows = [row for i in images for row in expert.rows(i, number, True)]
    if not rows:
        raise TriptychError("the expert has no rows: no training image has a question")
    stage.write(Triplet, unique([row for row, _ in rows]))
    stage.write(Task, unique([task for _, task in rows]))
    check_disjoint(context)
    stage.metrics = {"rows": len(rows), "images": len(images)}


def _check_reviewed(context: Context) -> None:
    """Raise TriptychError where no image can be used before somebody has looked at them."""
    waiting = [] if context.images() else pending(context.workspace)
    if waiting:
        root = context.workspace.root
        raise TriptychError(
            f"all {len(waiting)} images wait for review: look at them (`triptych ingest --review "
            f"-w {root}`), release those that name nobody (`triptych ingest -w {root} --release "
            "ID --by NAME`; ID may be `all`), then run again"
        )


def check_disjoint(context: Context) -> None:
    """No patient group may be in two splits, and no two splits may share an image."""
    for key in ("group", "id"):
        splits: dict[str, set[str]] = {}
        for image in context.images():
            splits.setdefault(getattr(image, key), set()).add(image.split)
        torn = [value for value, found in splits.items() if len(found) > 1]
        if torn:
            raise TriptychError(f"{len(torn)} {key}s are in more than one split, first {torn[0]}")


def asked_pairs(context: Context) -> list[tuple[Image, Task]]:
    """The (image, task) pairs that candidates are generated for, before preferences."""
    config, (_, images) = context.config, expert_images(context)
    number = max(config.expert.pairs, len(images))
    draws = int(content_id(config.seed, "prefer")[:8], 16)
    return draw_tasks(images, uniform_mix(images), config.generator.styles, number, draws)


def prefer(context: Context, stage: Stage) -> None:
    """Candidates from the generator on fresh images, and what the expert thinks of them."""
    config = context.config
    seed_images, images = expert_images(context)
    expert = open_expert(context.config, context.images())
    if config.expert.kind == "phantoms":
        pairs = asked_pairs(context)
        write_tasks(stage, config.generator.prompts, [task for _, task in pairs])
        rows = run_proposer(context, stage, generator_of(context, refresh=False), pairs)
    else:
        gold = [pair for i in seed_images + images for pair in expert.rows(i, ALL)]
        stage.write(Task, unique([task for _, task in gold]))
        rows = [row for row, _ in gold]
    made, preferences = expert.pairs(rows, config.expert.pairs, config.seed)
    free, implied = expert.implied(seed_triplets(context))
    asked = {row.id for row in rows}
    stage.write(Task, own_tasks(context, [m for m in made if m.id not in asked]), "made")
    known = asked if config.expert.kind == "phantoms" else set()  # written as they were generated
    stage.write(Triplet, unique([m for m in made + free if m.id not in known]), "made")
    stage.write(Preference, unique(preferences + implied))
    stage.metrics = {
        "candidates": len(rows),
        "preferences": len(preferences),
        "implied": len(implied),
        "holdout": sum(p.holdout for p in preferences),
    }
