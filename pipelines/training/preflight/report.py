"""All that preflight says of a configuration, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.config import Config
from engine.errors import TriptychError
from pipelines.training.preflight.cost import rates
from pipelines.training.preflight.disk import disk_of
from pipelines.training.preflight.hours import Timed, timed, without_checkpoints
from pipelines.training.preflight.images import Pictures, pictures
from pipelines.training.preflight.lengths import Longest, longest
from pipelines.training.preflight.memory import GIB, SPARE, Parts
from pipelines.training.preflight.models import Described, describe
from pipelines.training.preflight.sizes import works
from pipelines.training.preflight.stages import Machine, Reckoned, Stage, stages
from reward_model.experts import reads_journal

ACTORS = {
    "generate": "generator.actors",
    "judge": "reward.actors",
    "evaluate": "evaluate.actors",
    "verify": "verify.actors",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What is known of the images: how many, sizes (width, height) of some, and who says."""

    number: int | None = None
    sizes: Sequence[tuple[int, int]] = ()
    source: str = ""


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run takes. `problems` are why it cannot run, `unknown` is what is not told."""

    config: Config
    machine: Machine
    images: Images
    models: dict[str, Described] = field(default_factory=dict)
    picture: Pictures | None = None
    prompts: list[Longest] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    works: list[Timed] = field(default_factory=list)
    disk: Parts = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def gpu_hours(self) -> float | None:
        """Of all stages whose time is known; None where none is."""
        return _sum(timed.gpu_hours for timed in self.works)

    @property
    def hours(self) -> float | None:
        return _sum(timed.hours for timed in self.works)

    @property
    def paid_hours(self) -> float | None:
        """GPU-hours that are paid for: all GPUs that there are, while any works."""
        if self.hours is None or not self.machine.gpus:
            return self.gpu_hours
        return self.hours * self.machine.gpus


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def report(config: Config, machine: Machine, images: Images, disk: float | None = None) -> Report:
    """Everything; `disk` is what the workspace's place has left, in bytes, where that is asked.

    Raises TriptychError where the configuration has nobody to ask.
    """
    told = Report(config=config, machine=machine, images=images)
    told.works = [Timed(work=work) for work in works(config)]
    _models(told)
    if "policy" in told.models:
        _lengths(told)
        _memory(told)
        _disk(told, disk)
    told.warnings += without_checkpoints(told.works)
    _caveats(told)
    return told


def _models(told: Report) -> None:
    for role, name in roles(told.config).items():
        try:
            told.models[role] = describe(name)
        except TriptychError as error:
            if (line := str(error)) not in told.unknown:
                told.unknown.append(line)


def roles(config: Config) -> dict[str, str]:
    """By role the model that a run begins with; a server's is not among them."""
    base, section = config.base_model(), config.generator
    judge = config.reward.model
    found = {"policy": base}
    if section.backend.weights_known:
        found["generator"] = section.model or base
    found["judge"] = base if judge in (None, "generator") else judge
    if config.verify.rubric and config.verify.rubric.backend.weights_known:
        found["verifier"] = config.verify.rubric.model
    return found


def _lengths(told: Report) -> None:
    policy, config = told.models["policy"], told.config
    told.picture = pictures(policy.processor, config.max_pixels, told.images.sizes)
    told.prompts = longest(config, told.picture.most, policy.count)
    over: dict[str, Longest] = {}
    for prompt in told.prompts:
        if prompt.limit is not None and prompt.whole > prompt.limit:
            over[prompt.named] = max(prompt, over.get(prompt.named, prompt), key=lambda p: p.whole)
    for named, prompt in over.items():
        told.problems.append(
            f"{prompt.what}: a prompt of {prompt.prompt:,} tokens and a reply of {prompt.reply:,} "
            f"are {prompt.whole - (prompt.limit or 0):,} more than {named} {prompt.limit:,}: set "
            f"{named}={-(-prompt.whole // 256) * 256}"
        )


def _memory(told: Report) -> None:
    """What stages hold where pictures are the largest, and their hours with pictures on average."""
    assert told.picture
    mean = round(told.picture.mean)
    told.stages = list(stages(_reckoned(told, told.picture.most, told.prompts)))
    on_average = longest(told.config, mean, told.models["policy"].count)
    every = [one.work for one in told.works]
    told.works = timed(_reckoned(told, mean, on_average), told.stages, every)
    for stage in told.stages:
        told.problems += stage.problems
        told.problems += _of_gpus(told, stage)
        told.problems += _of_host(told, stage)


def _reckoned(told: Report, image: int, prompts: Sequence[Longest]) -> Reckoned:
    return Reckoned(
        config=told.config,
        machine=told.machine,
        models=told.models,
        image=image,
        prompts={prompt.what: prompt for prompt in prompts},
    )


def _disk(told: Report, free: float | None) -> None:
    assert told.picture
    pixels = (told.images.number or 0) * told.picture.pixels
    told.disk = disk_of(told.config, told.models, [one.work for one in told.works], pixels)
    total = sum(told.disk.values())
    if free is not None and total > free:
        told.problems.append(
            f"disk: {total / GIB:.0f} GiB, {(total - free) / GIB:.0f} more than the workspace's "
            "place has left: set --workspace to another place, or lower rounds"
        )


def _of_gpus(told: Report, stage: Stage) -> list[str]:
    there = told.machine.gpus
    if there is None or stage.all_gpus <= there:
        return []
    setting = ACTORS.get(stage.name, f"{stage.name}.workers")
    fits = int(there // stage.gpus)
    to = f"set {setting}={fits}" if fits else f"{stage.gpus:g} a process are more than there are"
    return [
        f"{stage.name}: {stage.processes} processes of {stage.gpus:g} GPUs are "
        f"{stage.all_gpus:g}, and there are {there}: {to}"
    ]


def _of_host(told: Report, stage: Stage) -> list[str]:
    """A process that no node holds is refused; all together may be spread over nodes."""
    if told.machine.host_memory is None or not stage.gpus:
        return []
    has, one = told.machine.host_memory * GIB, stage.host / stage.processes
    if one > has:
        return [
            f"{stage.name}: a process takes {one / GIB:.0f} GiB of the host's memory, "
            f"{(one - has) / GIB:.0f} more than it has: a smaller model, or a larger host"
        ]
    if stage.host > has:
        told.warnings.append(
            f"{stage.name}: {stage.processes} processes take {stage.host / GIB:.0f} GiB of the "
            f"host's memory, and a node has {has / GIB:.0f}: spread them over nodes, or lower "
            f"{ACTORS.get(stage.name, f'{stage.name}.workers')}"
        )
    return []


def _caveats(told: Report) -> None:
    config, machine = told.config, told.machine
    on_gpus = any(stage.gpus for stage in told.stages)
    if on_gpus and machine.gpu_memory is None:
        told.unknown.append(
            "a GPU's memory: no stage is held to one; give --gpu-memory, or set cluster.gpu_memory"
        )
    if told.picture and not told.picture.seen:
        told.unknown.append(
            "the images' sizes: every picture is taken to have the most tokens that max_pixels "
            "allows"
        )
    policy = told.models.get("policy")
    if policy and not policy.tokenizer:
        told.unknown.append("the tokenizer: 4 letters are taken for a token")
    if not config.generator.backend.weights_known:
        told.unknown.append(f"what the server of {config.generator.model} takes, and its time")
    if config.generator.knowledge:
        told.unknown.append("how long generator.knowledge is: prompts do not count it")
    if told.gpu_hours is None:
        told.unknown.append("time: no rate was measured without a GPU")
    else:
        told.unknown.append(
            f"time as it will be: the rates are of one {rates()['card']} and random weights "
            f"({rates()['page']}), scaled by operations; several GPUs, vLLM on a GPU and other "
            "cards were not measured; replies are taken to have max_tokens"
        )
    if told.stages and machine.gpu_memory is not None and on_gpus:
        told.unknown.append(
            f"what CUDA and its allocator take: {SPARE:.0%} of a GPU is left to them"
        )
    if reads_journal(config):
        told.unknown.append("how long readers take: it is in no time here")
