"""Models of the record asked questions on Ray Data, as several stages do it."""

from __future__ import annotations

from pathlib import Path

from engine.records import Evaluation, Model, Triplet
from engine.vlm.protocol import Sampling
from pipelines.context import Context
from pipelines.evaluation.examination import Examination, ask, marked
from pipelines.record import images_of
from reward_model.experts.expert import Exemplar


def ask_arms(
    context: Context,
    arms: dict[str, tuple[Model, list[Triplet]]],
    sampling: Sampling,
    folder: Path,
) -> dict[str, list[tuple[str, ...]]]:
    """Each arm's model asked its questions; what `folder` has of the replies is not asked again."""
    config = context.config
    job = Examination(
        context.workspace.root.absolute(),
        {arm: context.path_of(model) for arm, (model, _) in arms.items()},
        config.evaluate,
        config.generator.prompts,
        sampling,
        config.cluster.threads,
        config.max_pixels,
    )
    asked = {arm: questions for arm, (_, questions) in arms.items()}
    return ask(job, asked, folder, lambda n, m: context.display.advance(n, m, "questions"))


def examine(
    context: Context,
    arms: dict[str, tuple[Model, list[Exemplar]]],
    round: int,
    folder: Path,
) -> list[Evaluation]:
    """Ask each arm's model its questions greedily and mark the answers; `folder` as above."""
    images = images_of(context, [q.image_id for _, rows in arms.values() for q, _ in rows])
    wanted = {arm: (model, [q for q, _ in rows]) for arm, (model, rows) in arms.items()}
    greedy = Sampling(1, 0.0, context.config.evaluate.max_tokens)
    replies = ask_arms(context, wanted, greedy, folder)
    return [
        marked(q, task.question_type, images[q.image_id], model, arm, round, texts[0])
        for arm, (model, questions) in arms.items()
        for (q, task), texts in zip(questions, replies[arm])
    ]
