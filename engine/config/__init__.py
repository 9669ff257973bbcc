"""The configuration of a run: one YAML file, checked. A laptop's and a cluster's differ in values.

Unknown keys are refused. `--set section.key=value` overrides a value; the value is read as YAML. A
section of several kinds (`KINDS`) may be given as the plain name of one: `--set expert=none`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from engine.config.cluster import Cluster, Lineage
from engine.config.compose import Compose
from engine.config.evaluate import Evaluate
from engine.config.expert import Expert, Simulated
from engine.config.export import Export
from engine.config.generator import Generator
from engine.config.reward import Reward
from engine.config.safety import Safety
from engine.config.section import Section
from engine.config.select import Select
from engine.config.source import Source
from engine.config.training import Grpo, Sft
from engine.config.verify import Verify
from engine.errors import TriptychError
from engine.yaml_file import read_yaml

MAX_PIXELS = 1280 * 28 * 28  # of a picture as a model is shown it


class Config(Section):
    """A whole run."""

    name: str = Field("demo", pattern=r"^[\w.-]+$")
    seed: int = 0
    model: str = Field(
        "tiny", description="base of policy, generator and judge: `tiny`, folder, Hub id"
    )
    rounds: int = Field(2, ge=1)
    max_pixels: int = Field(
        MAX_PIXELS,
        ge=28 * 28,
        description="a larger picture is shrunk to this for generator, judge and training alike; "
        "Qwen2.5-VL takes a token for 784 pixels",
    )
    licence: str = Field("apache-2.0", description="of the exported dataset")
    source: Source = Source()
    expert: Expert = Simulated()
    generator: Generator = Generator()
    verify: Verify = Verify()
    reward: Reward = Reward()
    select: Select = Select()
    compose: Compose = Compose()
    safety: Safety = Safety()
    sft: Sft = Sft()
    grpo: Grpo = Grpo()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    cluster: Cluster = Cluster()
    lineage: Lineage = Lineage()

    @model_validator(mode="after")
    def _questions_find_their_images(self) -> Config:
        if self.expert.finds_by_name and not self.source.keeps_paths:
            raise ValueError(
                f"expert.kind {self.expert.kind} finds images by their names: set "
                "source.public=true, or source.paths=keep"
            )
        return self

    @model_validator(mode="after")
    def _questions_find_their_columns(self) -> Config:
        kind = f"expert.kind {self.expert.kind}"
        if self.expert.reads_labels and self.source.path is None:
            raise ValueError(f"{kind} reads the table beside a folder of images: set source.path")
        if self.expert.reads_labels and not self.source.labels:
            raise ValueError(f"{kind} asks about labels: name the table's columns as source.labels")
        unknown = sorted(self.expert.columns - set(self.source.labels))
        if unknown:
            raise ValueError(
                f"expert.templates asks about {unknown[0]}, which is none of source.labels"
            )
        return self

    @model_validator(mode="after")
    def _masks_are_written(self) -> Config:
        wanted = self.compose.questions and "segmentation" in self.compose.facts
        if wanted and not self.source.segmentations:
            raise ValueError("compose.facts takes segmentations: set source.segmentations=true")
        return self

    @model_validator(mode="after")
    def _twins_are_drawn(self) -> Config:
        drawn = self.source.twins if self.source.path is None else 0
        for key, wanted in (
            ("expert", getattr(self.expert, "twins", 0)),
            ("reward", self.reward.twins),
        ):
            if wanted and not drawn:
                raise ValueError(
                    f"{key}.twins asks images and their twins, and none are drawn: set "
                    "source.twins, which needs source.path null"
                )
        return self

    @model_validator(mode="after")
    def _a_promise_needs_verdicts(self) -> Config:
        if self.select.guarantee and not self.expert.verdicts.random:
            raise ValueError(
                f"select.guarantee is made from verdicts on rows drawn at random, and expert.kind "
                f"{self.expert.kind} is asked for none: set expert.verdicts.random, of kind "
                "people, table or simulated"
            )
        return self

    @model_validator(mode="after")
    def _a_verifier_is_not_the_writer(self) -> Config:
        rubric, writer = self.verify.rubric, self.generator.model or self.model
        if rubric and rubric.model == writer:
            raise ValueError(
                f"verify.rubric.model {rubric.model} is the generator's own: name another model, "
                "since a writer passes its own faults"
            )
        if self.select.verified.self_consistency and not self.verify.on:
            raise ValueError(
                "select.verified.self_consistency needs what is measured: set verify.pass_rate=true"
            )
        return self

    def base_model(self) -> str:
        """The base as something transformers can load."""
        if self.model != "tiny":
            return self.model
        from engine.vlm.tiny import FOLDER

        return str(FOLDER)

    def folder(self) -> Path:
        """The run's workspace where none is named."""
        return Path("runs") / self.name

    def recorded(self) -> dict[str, Any]:
        """What the record says of a run: all but the cluster and who is told."""
        return self.model_dump(exclude={"cluster", "lineage"})

    def kept(self) -> dict[str, Any]:
        """What a workspace remembers, so that stages run one by one run where the first did."""
        return self.model_dump(exclude={"lineage"})


# Of a section: where and how fast it runs.
PLACES = {
    "url", "concurrency", "shards", "prices",
    "actors", "gpus", "loaders", "save_steps", "checkpointing", "compile",
}  # fmt: skip


# Sections of several kinds, which a plain string names, by name or by path.
KINDS = {"expert", "backend", "grpo.reward"}


STEP = ("batch", "accumulate", "workers")  # of a training: their product is a step's rows


def deciding(recorded: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of a recorded configuration what decides the rows, by section.

    A run may go on with other `PLACES`, with more rounds, with another `evaluate.batch` or
    `export`, and with other `STEP` of the same product, up to rounding. `generator.batch` decides:
    it is a shard, and a shard has a seed. Inference takes smaller parts of it by itself where
    memory runs out.
    """
    return {
        name: _deciding(name, value) if isinstance(value, dict) else {"": value}
        for name, value in recorded.items()
        if name not in ("rounds", "export")
    }


def _deciding(section: str, values: dict[str, Any]) -> dict[str, Any]:
    left = _without_places(values)
    if section == "evaluate":
        left.pop("batch", None)
    if set(STEP) <= left.keys():
        left[" x ".join(STEP)] = math.prod(left.pop(name) for name in STEP)
    return left


def _without_places(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_places(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in PLACES
    }


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a configuration file and apply `key.path=value` overrides.

    Raises TriptychError with one line a problem: the file, the key, what is wrong.
    """
    if not path.exists():
        raise TriptychError(f"no configuration file {path}")
    values = read_yaml(path, "configuration") or {}
    if not isinstance(values, dict):
        raise TriptychError(f"{path} must hold `key: value` lines")
    return build(values, overrides or [], str(path))


def build(values: dict[str, Any], overrides: list[str], where: str) -> Config:
    """Check values with overrides applied; `where` names them in errors."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise TriptychError(f"--set {override}: write key=value, such as rounds=1")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise TriptychError(f"--set {override}: {text!r} is not a YAML value") from None
        _assign(values, key.strip().split("."), value, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = [_problem(dict(e)) for e in error.errors()]
        raise TriptychError(f"{where}: {'; '.join(problems)}") from None


def _assign(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for n, key in enumerate(keys[:-1], start=1):
        if _has_kinds(keys[:n]) and isinstance(values.get(key), str):
            values[key] = {"kind": values[key]}
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise TriptychError(f"--set {override}: {key} is not a section")
    values[keys[-1]] = value


def _has_kinds(path: list[str]) -> bool:
    return path[-1] in KINDS or ".".join(path) in KINDS


def _problem(error: dict[str, Any]) -> str:
    loc = [str(part) for part in error["loc"]]
    kinds = [n for n in range(1, len(loc)) if _has_kinds(loc[:n])]  # pydantic names the kind there
    key = ".".join(part for n, part in enumerate(loc) if n not in kinds) or "configuration"
    if error["type"] == "extra_forbidden":
        return " ".join([f"unknown key {key}", *(f"of kind {loc[n]}" for n in kinds)])
    return f"{key}: {' '.join(error['msg'].removeprefix('Value error, ').split())}"
