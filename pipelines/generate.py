"""Plan and generate: tasks by the mix, then triplets on Ray Data, one shard a batch of tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from engine import cluster
from engine.config import Generator
from engine.records import Evaluation, Image, Model, Prompt, Task, Triplet, content_id, unique
from engine.vlm import open_vlm
from engine.workspace import Stage
from generators import planner, proposer
from generators.proposer import Plan
from generators.tasks import draw_tasks, uniform_mix
from pipelines.context import Context
from pipelines.sft import training_images


def plan(context: Context, stage: Stage) -> None:
    """What this round asks for: evenly at first, then more of what the policy got wrong.

    Only validation questions are looked at; test images never steer the loop.
    """
    mix = uniform_mix(training_images(context))
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
    pairs = draw_tasks(training_images(context), mix, generator.styles, generator.tasks, seed)
    write_tasks(stage, generator.prompts, [task for _, task in pairs])
    stage.metrics = {"mix": mix, "pairs": [[image.id, task.id] for image, task in pairs]}


def write_tasks(stage: Stage, words: str, tasks: list[Task]) -> None:
    """Record tasks and the prompts that ask for them."""
    tasks = unique(tasks)
    stage.write(Task, tasks)
    stage.write(Prompt, unique([proposer.prompt_of(words, task) for task in tasks]))


def make_proposer(
    model: str, section: dict[str, Any], plan: Plan, threads: int, max_pixels: int
) -> Callable[[str, cluster.Rows], cluster.Rows]:
    """A Ray Data worker: rows of (image, task) in, triplets out. Seeded by the shard's name."""
    generator = Generator.model_validate(section)
    vlm = open_vlm(
        model,
        generator.backend,
        generator.url,
        generator.max_model_len,
        threads,
        generator.gpus,
        max_pixels,
    )

    def work(shard: str, rows: cluster.Rows) -> cluster.Rows:
        from dataclasses import replace

        seeded = replace(plan, seed=int(content_id(plan.seed, shard)[:7], 16))
        pairs = [(Image.from_dict(r["image"]), Task.from_dict(r["task"])) for r in rows]
        return [t.to_dict() for t in proposer.propose(vlm, pairs, seeded)]

    return work


def proposer_arguments(context: Context, model: Model, round: int) -> dict[str, Any]:
    """What `make_proposer` is given in a round."""
    config, section = context.config, context.config.generator
    plan = Plan(
        model.id,
        section.prompts,
        section.samples,
        section.ask_temperature,
        section.temperature,
        section.max_tokens,
        config.seed * 1000 + round,
        round,
    )
    return {
        "model": context.path_of(model),
        "section": section.model_dump(),
        "plan": plan,
        "threads": config.cluster.threads,
        "max_pixels": config.max_pixels,
    }


def run_proposer(
    context: Context, stage: Stage, model: Model, pairs: list[tuple[Image, Task]]
) -> list[Triplet]:
    """Generate for pairs, one Parquet shard a batch; whole shards of an earlier try are kept."""
    config, section = context.config, context.config.generator
    shards = {
        f"{low // section.batch:05d}": [
            {"image": i.to_dict(), "task": t.to_dict()} for i, t in pairs[low : low + section.batch]
        ]
        for low in range(0, len(pairs), section.batch)
    }
    done = {name.rpartition("-")[2] for name in stage.done() if name.startswith("triplets-")}
    todo = {name: rows for name, rows in shards.items() if name not in done}
    arguments = proposer_arguments(context, model, stage.round)
    finished = len(pairs) - sum(len(rows) for rows in todo.values())
    for name, rows in cluster.map_shards(
        make_proposer, arguments, todo, section.actors, config.cluster.threads, section.gpus
    ):
        stage.write(Triplet, unique([Triplet.from_dict(r) for r in rows]), name)
        finished += len(todo[name])
        context.display.advance(
            finished * section.samples, len(pairs) * section.samples, "triplets"
        )
    return read_shards(stage)


def read_shards(stage: Stage) -> list[Triplet]:
    """Triplets of a stage's shards, in the shards' order."""
    import pyarrow.parquet as pq

    from engine.records import from_arrow

    rows: list[Triplet] = []
    for path in sorted(stage.folder.glob("triplets-[0-9]*.parquet")):
        rows += from_arrow(Triplet, pq.read_table(path))
    return rows


def generator_of(context: Context, refresh: bool = True) -> Model:
    """Who generates: the model named in the configuration, else the tuned one, later the policy."""
    named = context.config.generator.model
    if named:
        return context.outside("generator", named)
    if refresh and context.config.generator.refresh and context.has("sft"):
        return context.model("policy")
    return context.model("generator")


def planned_pairs(context: Context, round: int) -> list[tuple[Image, Task]]:
    """The (image, task) pairs that a round's plan named, without images withdrawn since."""
    images = {i.id: i for i in context.images()}
    tasks = {t.id: t for t in context.rows(Task, "plan")}
    commit = next(
        c for c in context.workspace.commits() if (c["stage"], c["round"]) == ("plan", round)
    )
    return [(images[i], tasks[t]) for i, t in commit["metrics"]["pairs"] if i in images]


def generate(context: Context, stage: Stage) -> None:
    """A round's triplets, those that did not parse among them, each with its reason."""
    started = time.time()
    rows = run_proposer(context, stage, generator_of(context), planned_pairs(context, stage.round))
    stage.metrics = {
        "rows": len(rows),
        "unparsed": sum(r.problem is not None for r in rows),
        "rows_per_second": round(len(rows) / (time.time() - started), 1),
    }
