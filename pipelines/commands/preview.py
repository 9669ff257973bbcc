"""Preview: a few triplets with their scores, generated and judged as a run would, not recorded."""

from __future__ import annotations

import json

from rich.panel import Panel

from engine.answers.parsing import render_completion
from engine.caveats import at_chance
from engine.records import Judgement, Triplet
from generators.proposer import make_proposer
from generators.tasks import draw_tasks, uniform_mix
from pipelines.context import Context
from pipelines.progress import verbatim
from pipelines.proposals import proposing
from pipelines.record import generator_of, shown
from reward_model.scoring import Judge
from reward_model.threshold import choose


def show(context: Context, number: int) -> None:
    """Print `number` questions with their chosen answers and scores."""
    context.require("preview", [("reward", 0)])
    config, section = context.config, context.config.generator
    mix = uniform_mix(modality for _, modality in shown(context, "train"))
    pairs = draw_tasks(shown(context, "train"), mix, section.styles, number, config.seed)
    model, judge = generator_of(context), context.model("judge")
    propose = make_proposer(proposing(context, model, 0))
    rows = propose("preview", [{"image_id": i, "task": t.to_dict()} for i, t in pairs])
    triplets: list[Triplet] = list(rows[Triplet])
    parsed = [t for t in triplets if t.problem is None]
    score = Judge(context.path_of(judge), judge.id, config.cluster.threads)
    judged = {j.triplet_id: j for j in score.judge(parsed, context.pixels)}
    _print(context, triplets, judged, not at_chance(json.loads(judge.metrics)))


def _print(
    context: Context, triplets: list[Triplet], judged: dict[str, Judgement], trusted: bool
) -> None:
    groups: dict[str, list[Triplet]] = {}
    for triplet in triplets:
        if triplet.problem is None:
            groups.setdefault(triplet.question_key, []).append(triplet)
    for rows in groups.values():
        choice = choose(rows, judged, context.config.select, trusted)
        if choice is None:
            context.display.say(f"no finite score: {rows[0].question}")
            continue
        row = choice.triplet
        said = render_completion(row.rationale, row.answer)
        options = f"\noptions: {' | '.join(row.options)}" if row.options else ""
        told = verbatim(
            f"{row.question}{options}\n{said}\nconfidence {choice.confidence:.3f}, "
            f"probability {choice.probability:.3f}, {len(rows)} samples"
        )
        context.display.console.print(Panel(told, title=f"image {row.image_id[:12]}"))
    failed = [t for t in triplets if t.problem is not None]
    for row in failed:
        context.display.say(f"not parsed ({row.problem}): {row.raw[:100]}")
