"""What each stage of a configuration holds, on a GPU and the host, and what would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.config import Config
from engine.config.backend import Backend
from engine.config.training import Grpo, Optimiser
from pipelines.training.preflight.lengths import Longest
from pipelines.training.preflight.memory import (
    GIB,
    READ_AT_ONCE,
    SPARE,
    Batch,
    Held,
    engine,
    judging,
    rollout,
    stored,
    training,
    writing,
)
from pipelines.training.preflight.models import Described

PROCESS = 4 * GIB  # of a process on a GPU, with torch, transformers and CUDA; assumed
ON_A_CPU = 1 * GIB  # of one without; assumed
LOADER = 1 * GIB  # of a process that prepares batches; assumed
RANK = 64  # of the adapters that are proposed where all weights do not fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is: GPUs, GiB of each and of a node; None where it is not known. And who says."""

    gpus: int | None = None
    gpu_memory: float | None = None
    host_memory: float | None = None
    source: str = ""

    def room(self, gpus: float, processes: int = 1) -> float | None:
        """Bytes that tensors of a process may take; without a GPU it shares the host."""
        if gpus:
            card = self.gpu_memory
            return None if card is None else card * GIB * (1 - SPARE) * min(gpus, 1.0)
        if self.host_memory is None:
            return None
        return max(self.host_memory * GIB * (1 - SPARE) / processes - ON_A_CPU, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage's processes: how many, GPUs and bytes of each, and what all need of the host.

    `problems` say in a line each what does not fit, by how much, and which setting to change.
    """

    name: str
    model: str
    processes: int
    gpus: float
    held: Held
    host: float
    problems: list[str] = field(default_factory=list)

    @property
    def all_gpus(self) -> float:
        return self.processes * self.gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoned:
    """What stages are worked out from: models by role, a picture's tokens, the longest prompts."""

    config: Config
    machine: Machine
    models: Mapping[str, Described]
    image: int
    prompts: Mapping[str, Longest]

    def rewards_by(self) -> Described | None:
        """The judge, where GRPO's reward asks it and it is known."""
        weights = self.config.grpo.reward.weights
        asked = weights["judge"] or weights.get("process")
        return self.models.get("judge") if asked else None

    def batch(self, rows: int, what: str, role: str, scored: int = 0, more: int = 0) -> Batch:
        """Rows of a kind of prompt, with `more` tokens."""
        patches = self.image * self.models[role].processor.merge ** 2
        tokens = self.prompts[what].prompt + more
        return Batch(rows=rows, tokens=tokens, patches=patches, scored=scored)


def stages(told: Reckoned) -> Iterator[Stage]:
    """All stages that hold a model, in their order; without those whose model is not known."""
    config, models = told.config, told.models
    if "policy" in models:
        yield _sft(told)
    if "judge" in models:
        yield _reward(told)
    if "generator" in models:
        samples, section = config.generator.samples, config.generator
        kinds = ("answering", "debating", "a second try", "asking")
        what = max((k for k in kinds if k in told.prompts), key=lambda k: told.prompts[k].prompt)
        yield _asked(
            told, "generate", "generator", section.backend, section.actors, what, section.batch,
            samples,
        )  # fmt: skip
    rubric = config.verify.rubric
    if rubric and "verifier" in models:
        yield _asked(
            told, "verify", "verifier", rubric.backend, config.verify.actors, "judging",
            READ_AT_ONCE, 1,
        )  # fmt: skip
    if "judge" in models:
        yield _judge(told)
    if "policy" in models and config.grpo.steps:
        yield _grpo(told)
    if "policy" in models:
        evaluate = config.evaluate
        yield _asked(
            told, "evaluate", "policy", evaluate.backend, evaluate.actors, "examining",
            evaluate.batch, 1,
        )  # fmt: skip


def _sft(told: Reckoned) -> Stage:
    config, written = told.config, told.config.generator.max_tokens

    def held(section: Optimiser) -> Held:
        batch = told.batch(section.batch, "answering", "policy", written, written)
        return training(told.models["policy"].shape, section, batch, section.gpus > 0, True)

    return _trained(told, "sft", "policy", config.sft, held)


def _reward(told: Reckoned) -> Stage:
    def held(section: Optimiser) -> Held:
        batch = told.batch(2 * section.batch, "judging", "judge")  # both rows of a pair
        return training(told.models["judge"].shape, section, batch, section.gpus > 0, False)

    return _trained(told, "reward", "judge", told.config.reward, held)


def _judge(told: Reckoned) -> Stage:
    actors, gpus = told.config.reward.actors, told.config.reward.gpus
    model = told.models["judge"]
    room = told.machine.room(gpus, actors)
    batch = told.batch(READ_AT_ONCE, "judging", "judge")
    held = judging(model.shape, batch, gpus > 0, room)
    return Stage(
        name="judge",
        model=model.name,
        processes=actors,
        gpus=gpus,
        held=held,
        host=_host(actors, model.shape.weights * (model.shape.bytes if gpus else 4), held, gpus),
        problems=_too_much("judge", held, room, f"{_larger(gpus)}, or another reward.model"),
    )


def _grpo(told: Reckoned) -> Stage:
    config, policy, judge = told.config, told.models["policy"], told.rewards_by()
    asked = told.batch(1, "GRPO", "policy")
    judged = told.batch(1, "judging", "policy")

    def held(section: Optimiser) -> Held:
        assert isinstance(section, Grpo)
        on_gpu = section.gpus > 0
        shape = judge.shape if judge else None
        room = told.machine.room(section.gpus, section.workers)
        return rollout(policy.shape, shape, section, asked, judged, on_gpu, room)

    return _trained(told, "grpo", "policy", config.grpo, held)


def _trained(
    told: Reckoned,
    name: str,
    role: str,
    section: Optimiser,
    held: Callable[[Any], Held],
) -> Stage:
    room = told.machine.room(section.gpus, section.workers)
    found, model = held(section), told.models[role]
    problems = []
    if room is not None and found.total > room:
        problems = [f"{_over(name, found, room)}: {remedy(name, section, held, room)}"]
    loaded = model.shape.weights * stored(model.shape, section, section.gpus > 0)
    loaders = section.workers * section.loaders * LOADER
    return Stage(
        name=name,
        model=model.name,
        processes=section.workers,
        gpus=section.gpus,
        held=found,
        host=_host(section.workers, loaded, found, section.gpus) + loaders,
        problems=problems,
    )


def remedy(name: str, section: Optimiser, held: Callable[[Any], Held], room: float) -> str:
    """Which settings to change and to what: the first that suffice, each beside those before it."""
    words: dict[str, str] = {}
    least = held(section).total
    for values in _changes(section):
        section = section.model_copy(update=values)
        words |= {key: f"{name}.{key}={str(value).lower()}" for key, value in values.items()}
        least = held(section).total
        if least <= room:
            return f"set {' and '.join(words.values())} ({gib(least)} GiB)"
    tried = f"with {' and '.join(words.values())} it still takes" if words else "it takes"
    return f"{tried} {gib(least)} GiB: {_larger(section.gpus)}, or a smaller model"


def _changes(section: Optimiser) -> Iterator[dict[str, Any]]:
    """Values that take less memory, the ones that change least of what is learned first.

    But all weights, whose 16 bytes each no batch makes up for. GRPO draws a step's completions at
    once, so that there fewer a step are left, whole groups of them.
    """
    on_gpu = section.gpus > 0
    if not section.lora_rank:
        yield {"lora_rank": RANK}
    if on_gpu and not section.bf16:
        yield {"bf16": True}
    if section.checkpointing is False or (section.checkpointing is None and not on_gpu):
        yield {"checkpointing": True}
    rows, group = section.batch * section.accumulate, getattr(section, "group", 0)
    while rows:
        for batch in _halved(section.batch):
            if rows % batch == 0 and (batch, rows // batch) != (section.batch, section.accumulate):
                yield {"batch": batch, "accumulate": rows // batch}
        fewer = rows // 2
        rows = fewer if group and fewer and fewer * section.workers % group == 0 else 0


def _halved(number: int) -> Iterator[int]:
    while number:
        yield number
        number //= 2


def _asked(
    told: Reckoned,
    name: str,
    role: str,
    backend: Backend,
    actors: int,
    what: str,
    batch: int,
    samples: int,
) -> Stage:
    """A model that is asked on a backend; one that a server has takes nothing here."""
    model, gpus = told.models[role], backend.gpus
    reply, room = told.prompts[what].reply, told.machine.room(gpus, actors)
    setting = {"generate": "generator", "verify": "verify.rubric"}.get(name, name) + ".backend"
    if backend.takes is not None and gpus:
        card = told.machine.gpu_memory
        card = None if card is None else card * GIB
        longest = backend.max_model_len or told.prompts[what].whole
        held = engine(model.shape, gpus, backend.takes, longest, card)
        problems = _of_engine(setting, model, gpus, backend.takes, longest, card)
    else:
        rows = told.batch(batch, what, role)
        held = writing(model.shape, rows, samples, reply, gpus > 0, room)
        problems = _too_much(name, held, room, f"{_larger(gpus)}, or a smaller model")
    loaded = model.shape.weights * (model.shape.bytes if gpus else 4)
    return Stage(
        name=name,
        model=model.name,
        processes=actors,
        gpus=gpus,
        held=held,
        host=_host(actors, loaded, held, gpus),
        problems=problems,
    )


def _of_engine(
    setting: str, model: Described, gpus: float, share: float, longest: int, card: float | None
) -> list[str]:
    """Why an engine cannot start: heads that cannot be spread, or no room for one sequence."""
    heads = model.shape.text.heads

    def starts(number: int) -> bool:
        fits = card is None or engine(model.shape, number, share, longest, card).rows > 0
        return heads % number == 0 and fits

    if starts(max(int(gpus), 1)):
        return []
    enough = next((n for n in range(1, 65) if starts(n)), None)
    to = f"set {setting}.gpus={enough}" if enough else "a larger GPU, or a smaller model"
    if heads % max(int(gpus), 1):
        return [f"{setting}.gpus: {heads} heads are not spread evenly over {gpus:g} GPUs: {to}"]
    assert card is not None
    held, had = engine(model.shape, gpus, share, longest, card).total, share * card
    return [
        f"{setting}: weights and one sequence of {longest:,} tokens take {gib(held)} GiB of each "
        f"GPU, and vLLM takes {gib(had)}: {to}"
    ]


def _too_much(name: str, held: Held, room: float | None, to: str) -> list[str]:
    if room is None or held.total <= room:
        return []
    return [f"{_over(name, held, room)} with a single row: {to}"]


def _over(name: str, held: Held, room: float) -> str:
    over = held.total - room
    return f"{name}: {gib(held.total)} GiB, {gib(over)} more than the {gib(room)} that can be had"


def gib(size: float) -> str:
    """Bytes as GiB, to a tenth; what is less to two digits."""
    return f"{size / GIB:,.1f}" if size >= GIB / 20 else f"{size / GIB:.2g}"


def _larger(gpus: float) -> str:
    return "a larger GPU" if gpus else "more memory"


def _host(processes: int, loaded: float, held: Held, gpus: float) -> float:
    """Bytes of a node that has all processes: a model passes through the host on its way to a GPU.

    Without a GPU everything is there.
    """
    return processes * (PROCESS + loaded if gpus else ON_A_CPU + held.total)
