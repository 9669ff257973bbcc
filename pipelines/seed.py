"""The expert's rows on the seed images, to imitate."""

from __future__ import annotations

from engine.errors import TriptychError
from engine.records import Image, Task, Triplet, unique
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.record import check_reviewed, expert_images, expert_of, twins_of
from reward_model.experts import asked_of, styles_of
from reward_model.experts.expert import Exemplar
from reward_model.twins import paired_rows


def seed(context: Context, stage: Stage) -> None:
    """Expert rows on the seed images, and the tasks that they answer."""
    check_reviewed(context)
    expert = expert_of(context)
    if not expert.writes:
        stage.metrics = {"skipped": "the expert writes no rows before they are asked"}
        check_disjoint(context)
        return
    images, _ = expert_images(context, expert)
    number = asked_of(context.config).rows_per_image
    rows = [row for i in images for row in expert.rows(i, number, True)]
    rows += rows_of_twins(context)
    if not rows:
        raise TriptychError("the expert has no rows: no training image has a question")
    stage.write(Triplet, unique([row for row, _ in rows]))
    stage.write(Task, unique([task for _, task in rows]))
    check_disjoint(context)
    stage.metrics = {"rows": len(rows), "images": len(images)}


def rows_of_twins(context: Context) -> list[Exemplar]:
    """Rows in pairs: one question to an image and to its twin, answered differently."""
    number = getattr(context.config.expert, "twins", 0)
    if not number:
        return []
    styles = list(styles_of(context.config))
    both = paired_rows(twins_of(context), number, styles, context.config.seed)
    return [row for rows in both for row in rows]


def check_disjoint(context: Context) -> None:
    """No patient group may be in two splits, and no two splits may share an image."""
    with context.scan(Image) as scan:
        for key in ("group", "id"):
            query = f'SELECT "{key}" FROM images GROUP BY "{key}" HAVING count(DISTINCT split) > 1'
            torn = sorted(value for (value,) in scan.values(query))
            if torn:
                raise TriptychError(
                    f"{len(torn)} {key}s are in more than one split, first {torn[0]}"
                )
