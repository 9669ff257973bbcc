"""Preview: a few triplets as the next round would choose them; nothing is recorded.

Before there is a judge, and where it is at chance, samples' agreement and the generator's own
log-probability choose. It needs images alone.

triptych preview -w WORKSPACE
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from rich.panel import Panel

from engine.answers.parsing import render_completion
from engine.caveats import at_chance, auc_in_words
from engine.errors import TriptychError
from engine.records import Judgement, Model, Triplet, content_id
from generators.proposer import make_proposer
from generators.tasks import uniform_mix
from pipelines.context import Context
from pipelines.progress import verbatim
from pipelines.proposals import proposing, round_of, tell_unfilled
from pipelines.record import check_reviewed, generator_of, shown
from reward_model.process import least_logit
from reward_model.scoring import Judge
from reward_model.threshold import Choice, choices_of


def show(context: Context, number: int) -> None:
    """Print `number` questions with their chosen answers, and how these were chosen.

    Raises TriptychError where there is no image to ask about.
    """
    context.require("preview", [("ingest", 0)])
    check_reviewed(context)
    judge = _judge(context)
    metrics = json.loads(judge.metrics) if judge else {}
    trusted = judge is not None and not at_chance(metrics)
    context.display.say(f"written by {_who(context)}; {_how(judge, metrics)}")
    triplets = _proposed(context, number)
    parsed = [t for t in triplets if t.problem is None]
    judged = _judged(context, judge, parsed) if judge else {}
    known = all(t.logprob is not None for t in parsed)
    rules = context.config.select
    sound = least_logit(rules.reasoning, metrics.get("reasoning"))
    choices = choices_of(parsed, judged, rules, trusted, known, sound)
    for key in dict.fromkeys(t.question_key for t in parsed):
        rows = [t for t in parsed if t.question_key == key]
        _print(context, choices.get(key), rows, judge is not None)
    for row in triplets:
        if row.problem is not None:
            context.display.say(f"not parsed ({row.problem}): {row.raw[:100]}")


def _judge(context: Context) -> Model | None:
    """The newest judge, None before there is one."""
    model = context.model("judge")
    return model if model.role == "judge" else None


def _who(context: Context) -> str:
    model = generator_of(context)
    name = context.config.model if model.role == "base" else model.path
    return f"{name}, the {model.role}"


def _how(judge: Model | None, metrics: dict[str, Any]) -> str:
    """What chose among the answers."""
    alone = "samples' agreement and log-probability choose"
    if judge is None:
        return f"there is no judge yet: {alone}"
    if at_chance(metrics):
        return f"the judge is at chance ({auc_in_words(metrics)}): {alone}"
    return "the judge, samples' agreement and log-probability choose"


def _proposed(context: Context, number: int) -> list[Triplet]:
    modalities = [modality for _, modality, _ in shown(context, "train")]
    if not modalities:
        raise TriptychError("no image is in the training split: give source.split a share for it")
    seed = context.config.seed
    drawn = round_of(context, uniform_mix(modalities), content_id(seed, "preview"))
    tell_unfilled(context, drawn.unfilled)
    some = set(np.random.default_rng(seed).permutation(drawn.number)[:number].tolist())
    pairs = [pair for place, pair in enumerate(drawn.pairs) if place in some]
    propose = make_proposer(proposing(context, generator_of(context), 0))
    rows = propose("preview", [{"image_id": i, "task": t.to_dict()} for i, t in pairs])
    return list(rows[Triplet])


def _judged(context: Context, judge: Model, rows: list[Triplet]) -> dict[str, Judgement]:
    score = Judge(context.path_of(judge), judge.id, context.config.cluster.threads)
    return {j.triplet_id: j for j in score.judge(rows, context.pixels)}


def _print(context: Context, choice: Choice | None, rows: list[Triplet], judged: bool) -> None:
    if choice is None:
        context.display.say(f"no finite score: {rows[0].question}")
        return
    row = choice.triplet
    said = render_completion(row.rationale, row.answer)
    options = f"\noptions: {' | '.join(row.options)}" if row.options else ""
    chance = f"probability {choice.probability:.3f}, " if judged else ""
    told = verbatim(
        f"{row.question}{options}\n{said}\nconfidence {choice.confidence:.3f}, "
        f"{chance}{len(rows)} samples"
    )
    context.display.console.print(Panel(told, title=f"image {row.image_id[:12]}"))
