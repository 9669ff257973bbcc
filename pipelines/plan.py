"""Plan: what a round asks for, evenly at first, then more of what the policy got wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.records import Assignment, Evaluation, Task, content_id
from engine.workspace import Stage
from generators import plan as planner
from generators.quotas import Unfilled
from generators.tasks import uniform_mix
from pipelines.context import Context
from pipelines.drawing import draw_cells
from pipelines.proposals import round_of, tell_unfilled, write_tasks
from pipelines.record import shown


def plan(context: Context, stage: Stage) -> None:
    """What this round asks for: evenly at first, then more of what the policy got wrong.

    Only validation questions are looked at; test images never steer the loop.
    """
    mix = uniform_mix(modality for _, modality, _ in shown(context, "train"))
    if stage.round > 1:
        previous = [c for c in context.workspace.commits() if c["stage"] == "plan"]
        mix = previous[-1]["metrics"]["mix"]
        answered = [
            e
            for e in context.rows(Evaluation, "evaluate", stage.round - 1)
            if e.arm == "policy" and e.split == "val"
        ]
        mix = planner.next_mix(mix, answered)
    drawn = round_of(context, mix, content_id(context.config.seed, "tasks", stage.round))
    tasks: dict[str, Task] = {}

    def assignments() -> Iterator[Assignment]:
        for place, (image_id, task) in enumerate(drawn.pairs):
            tasks.setdefault(task.id, task)
            yield Assignment.make(image_id, task.id, stage.round, place)

    stage.write_all(Assignment, assignments())
    write_tasks(stage, context.config.generator, tasks.values())
    unfilled = drawn.unfilled
    if context.config.source.draw:
        unfilled = drawn_instead(context, stage, unfilled)
    tell_unfilled(context, unfilled)
    stage.metrics |= {
        "mix": mix,
        "tasks": drawn.number,
        "unfilled": [{"cell": one.cell, "tasks": one.tasks, "why": one.why} for one in unfilled],
    }


def drawn_instead(context: Context, stage: Stage, unfilled: Sequence[Unfilled]) -> list[Unfilled]:
    """Draw what no image can fill; returns what is left, with why it could not be drawn."""
    filled = draw_cells(context, stage, [(one.cell, one.tasks) for one in unfilled])
    return [
        replace(one, tasks=one.tasks - done.drawn, why=f"{one.why}; not drawn: {done.why}")
        for one, done in zip(unfilled, filled)
        if done.drawn < one.tasks
    ]
