"""The MedGR2 loop: one line an arrow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.config import Config, deciding
from pipelines import (
    collect,
    compare,
    compose,
    consult,
    evaluate,
    generate,
    grpo,
    ingest,
    judge,
    plan,
    refine,
    renew,
    reward,
    seed,
    select,
    sft,
    tune,
    verify,
)
from pipelines.commands import export
from pipelines.context import Body, Context, run_stage

Need = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Arrow:
    """A stage: what it runs, which sections of the configuration decide it, what it builds on.

    `same` are stages of the same round, `before` of the round before, `once` of round 0.
    """

    body: Body
    sections: tuple[str, ...]
    once: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    def needs(self, round: int) -> list[Need]:
        earlier = [(name, round - 1) for name in self.before] if round > 1 else []
        return [(n, 0) for n in self.once] + earlier + [(n, round) for n in self.same]


ONCE = {
    "ingest": Arrow(ingest.ingest, ("source", "expert")),
    "seed": Arrow(seed.seed, ("expert",), once=("ingest",)),
    "tune": Arrow(tune.tune, ("model", "max_pixels", "sft", "generator"), once=("seed",)),
    "compare": Arrow(compare.compare, ("max_pixels", "expert", "generator"), once=("tune",)),
    "consult": Arrow(consult.consult, ("expert", "select"), once=("compare",)),
    "collect": Arrow(collect.collect, ("expert",), once=("consult",)),
    "reward": Arrow(reward.reward, ("model", "max_pixels", "reward"), once=("compare", "collect")),
}
ROUND = {
    "plan": Arrow(
        plan.plan, ("generator",), once=("reward",), before=("evaluate", "refine", "renew")
    ),
    "generate": Arrow(generate.generate, ("max_pixels", "generator"), same=("plan",)),
    "verify": Arrow(verify.verify, ("max_pixels", "generator", "verify"), same=("generate",)),
    "judge": Arrow(judge.judge, ("reward",), same=("generate",)),
    "consult": Arrow(consult.consult, ("expert", "select"), same=("verify", "judge")),
    "collect": Arrow(collect.collect, ("expert",), same=("consult",)),
    "select": Arrow(select.select, ("select",), same=("verify", "judge", "collect")),
    "compose": Arrow(compose.compose, ("compose", "safety", "generator"), same=("select",)),
    "sft": Arrow(sft.sft, ("model", "max_pixels", "sft", "grpo"), same=("compose",)),
    "grpo": Arrow(grpo.grpo, ("max_pixels", "grpo"), same=("sft",)),
    "evaluate": Arrow(evaluate.evaluate, ("max_pixels", "evaluate"), same=("grpo",)),
    "refine": Arrow(refine.refine, ("max_pixels", "reward"), same=("select", "evaluate")),
    "renew": Arrow(renew.renew, ("max_pixels", "generator", "select"), same=("grpo", "refine")),
}


def stages_of(config: Config) -> dict[str, Arrow]:
    """A round's stages, in order; `verify` and `renew` where something is measured in them."""
    off = {"verify": not config.verify.on, "renew": config.generator.refine is None}
    return {name: arrow for name, arrow in ROUND.items() if not off.get(name)}


def step(context: Context, name: str, round: int = 0) -> dict[str, Any]:
    """Run one stage, or skip it where it is done."""
    arrow = (ROUND if round else ONCE)[name]
    config = deciding(context.config.recorded())
    settings = {section: config[section] for section in arrow.sections}
    there = {*ONCE, *stages_of(context.config)}
    needs = [need for need in arrow.needs(round) if need[0] in there]
    return run_stage(context, name, round, arrow.body, needs, settings)


def next_round(context: Context, name: str) -> int:
    """The first round in which a stage was not run; 0 before the first round."""
    rounds = [0] if name in ONCE else []
    rounds += range(1, context.config.rounds + 1) if name in ROUND else []
    return next((r for r in rounds if not context.has(name, r)), rounds[-1])


def run(context: Context) -> None:
    """The whole loop, from images to a trained policy, a dataset and a report."""
    for name in ONCE:
        step(context, name)
    for round in range(1, context.config.rounds + 1):
        for name in stages_of(context.config):
            step(context, name, round)
    export.export(context.workspace, context.display)
    export.report(context.workspace, context.display)
