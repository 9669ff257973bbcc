"""Plan: what a round asks for, evenly at first, then more of what the policy got wrong."""

from __future__ import annotations

from collections.abc import Iterator

from engine.records import Assignment, Evaluation, Task, content_id
from engine.workspace import Stage
from generators import plan as planner
from generators.tasks import draw_tasks, uniform_mix
from pipelines.context import Context
from pipelines.proposals import write_tasks
from pipelines.record import shown


def plan(context: Context, stage: Stage) -> None:
    """What this round asks for: evenly at first, then more of what the policy got wrong.

    Only validation questions are looked at; test images never steer the loop.
    """
    mix = uniform_mix(modality for _, modality in shown(context, "train"))
    if stage.round > 1:
        previous = [c for c in context.workspace.commits() if c["stage"] == "plan"]
        mix = previous[-1]["metrics"]["mix"]
        answered = [
            e
            for e in context.rows(Evaluation, "evaluate", stage.round - 1)
            if e.arm == "policy" and e.split == "val"
        ]
        mix = planner.next_mix(mix, answered)
    generator = context.config.generator
    seed = int(content_id(context.config.seed, "tasks", stage.round)[:8], 16)
    drawn: dict[str, Task] = {}

    def assignments() -> Iterator[Assignment]:
        images = shown(context, "train")
        pairs = draw_tasks(images, mix, generator.styles, generator.tasks, seed)
        for place, (image_id, task) in enumerate(pairs):
            drawn.setdefault(task.id, task)
            yield Assignment.make(image_id, task.id, stage.round, place)

    stage.write_all(Assignment, assignments())
    write_tasks(stage, generator, drawn.values())
    stage.metrics = {"mix": mix}
