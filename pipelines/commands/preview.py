"""Preview: a few triplets as the next round would choose them; nothing is recorded.

Before there is a judge, and where it is at chance, samples' agreement and the generator's own
log-probability choose. It needs images alone.

triptych preview -w WORKSPACE --html FILE
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from rich.panel import Panel

from engine.answers.parsing import render_completion
from engine.caveats import at_chance, auc_in_words
from engine.errors import TriptychError
from engine.records import Judgement, Model, Task, Triplet, content_id
from generators.proposer import make_proposer
from generators.tasks import uniform_mix
from pipelines.context import Context
from pipelines.progress import verbatim
from pipelines.proposals import proposing, round_of, tell_unfilled
from pipelines.record import check_reviewed, generator_of, shown
from pipelines.report.page import data_uri
from reward_model.process import least_logit
from reward_model.scoring import Judge
from reward_model.threshold import Choice, choices_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A question's rows that could be read, and which of them is chosen; None: no finite score."""

    rows: list[Triplet]
    choice: Choice | None
    judged: bool

    @property
    def answers(self) -> list[tuple[str, int]]:
        """What the samples answer, and how many do, the most first."""
        return Counter(row.answer for row in self.rows).most_common()


def show(context: Context, number: int, html: Path | None = None) -> None:
    """Print `number` questions with their chosen answers, and how these were chosen.

    With `html` also as a page with the pictures in it. Raises TriptychError where there is no image
    to ask about, or no folder to write the page to.
    """
    context.require("preview", [("ingest", 0)])
    check_reviewed(context)
    if html and not html.absolute().parent.is_dir():
        raise TriptychError(f"{html}: there is no folder {html.parent}: make it first")
    judge = _judge(context)
    metrics = json.loads(judge.metrics) if judge else {}
    trusted = judge is not None and not at_chance(metrics)
    how = f"written by {_who(context)}; {_how(judge, metrics)}"
    context.display.say(how)
    triplets, tasks = _proposed(context, number)
    parsed = [t for t in triplets if t.problem is None]
    judged = _judged(context, judge, parsed) if judge else {}
    known = all(t.logprob is not None for t in parsed)
    rules = context.config.select
    sound = least_logit(rules.reasoning, metrics.get("reasoning"))
    choices = choices_of(parsed, judged, rules, trusted, known, sound)
    seen = []
    for key in dict.fromkeys(t.question_key for t in parsed):
        rows = [t for t in parsed if t.question_key == key]
        seen.append(Seen(rows, choices.get(key), judge is not None))
    for one in seen:
        _print(context, one)
    unread = [row for row in triplets if row.problem is not None]
    for row in unread:
        context.display.say(f"not parsed ({row.problem}): {row.raw[:100]}")
    if html:
        html.write_text(_page(context, how, seen, unread, tasks), encoding="utf-8")
        context.display.say(f"page: {html} (with the images: it is as private as they are)")


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


def _proposed(context: Context, number: int) -> tuple[list[Triplet], dict[str, Task]]:
    """The rows, and by id what was asked for."""
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
    return list(rows[Triplet]), {task.id: task for _, task in pairs}


def _judged(context: Context, judge: Model, rows: list[Triplet]) -> dict[str, Judgement]:
    score = Judge(context.path_of(judge), judge.id, context.config.cluster.threads)
    return {j.triplet_id: j for j in score.judge(rows, context.pixels)}


def _print(context: Context, seen: Seen) -> None:
    if seen.choice is None:
        context.display.say(f"no finite score: {seen.rows[0].question}")
        return
    row, choice = seen.choice.triplet, seen.choice
    said = render_completion(row.rationale, row.answer)
    options = f"\noptions: {' | '.join(row.options)}" if row.options else ""
    chance = f"probability {choice.probability:.3f}, " if seen.judged else ""
    told = verbatim(
        f"{row.question}{options}\n{said}\nconfidence {choice.confidence:.3f}, "
        f"{chance}{len(seen.rows)} samples"
    )
    context.display.console.print(Panel(told, title=f"image {row.image_id[:12]}"))


def _page(
    context: Context, how: str, seen: list[Seen], unread: list[Triplet], tasks: dict[str, Task]
) -> str:
    """The page: each picture with what was asked for, what was written, and what was chosen."""
    from jinja2 import Environment, StrictUndefined

    template = resources.files("pipelines.commands").joinpath("preview.html.jinja")
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    shown = {row.image_id for one in seen for row in one.rows} | {row.image_id for row in unread}
    pictures = {image_id: data_uri(context.pixels[image_id]) for image_id in sorted(shown)}
    return jinja.from_string(template.read_text("utf-8")).render(
        how=how, seen=seen, unread=unread, tasks=tasks, pictures=pictures
    )
