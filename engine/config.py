"""The configuration of a run: one YAML file, checked. A laptop's and a cluster's differ in values.

Unknown keys are refused. `--set section.key=value` overrides a value; the value is read as YAML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.errors import TriptychError

MAX_PIXELS = 1280 * 28 * 28  # of a picture as a model is shown it


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


PhantomKind = Literal[
    "CT", "CT-chest", "CT-abdomen", "MR", "X-ray", "ultrasound",
    "fundus", "OCT", "dermoscopy", "histology",
]  # fmt: skip
Share = Annotated[float, Field(ge=0)]


class Source(Section):
    """Where images come from: a folder, or phantoms drawn into the workspace where path is null."""

    path: str | None = None
    phantoms: dict[PhantomKind, Annotated[int, Field(ge=0)]] = Field(
        default={"MR": 300, "ultrasound": 300}, description="how many of each kind to draw"
    )
    segmentations: bool = Field(False, description="write the phantoms' masks as DICOM SEG too")
    size: int = Field(128, ge=48, description="side of a drawn phantom in pixels")
    difficulty: float = Field(0.3, ge=0, le=1)
    frames: str = Field("middle", pattern=r"^(middle|all|every:[1-9]\d*)$")
    split: dict[Literal["train", "val", "test"], Share] = Field(
        default={"train": 0.6, "val": 0.1, "test": 0.3}
    )
    key_file: str | None = Field(None, description="secret of the hashes; else TRIPTYCH_KEY")
    public: bool = Field(
        False, description="published images: no key, file names kept, nothing quarantined"
    )
    paths: Literal["hash", "keep"] = Field(
        "hash", description="file names in rows and reports: keyed hashes, or as they are"
    )
    include: list[Literal["black", "constant", "tiny", "aspect", "nan"]] = Field(
        default=[], description="flags with which an image is used all the same"
    )
    table: str | None = Field(
        None, description="CSV, TSV or JSONL in the folder; null: labels.csv, .tsv or .jsonl"
    )
    labels: list[str] = Field(default=[], description="columns of the table to keep as labels")
    limit: int | None = Field(None, ge=1, description="use at most so many files")

    @model_validator(mode="after")
    def _can_be_read(self) -> Source:
        if self.table is not None and Path(self.table).is_absolute():
            raise ValueError("table must be a name inside the folder")
        check_shares("split", self.split)
        reserved = {"path", "patient", "split", "modality", "anatomy", "report"} & set(self.labels)
        if reserved:
            raise ValueError(f"labels: {sorted(reserved)[0]} is read anyway and is no label")
        return self

    @property
    def keeps_paths(self) -> bool:
        """Whether file names say nothing of a patient: phantoms, published or named so."""
        return self.path is None or self.public or self.paths == "keep"


def check_shares(name: str, shares: Mapping[Any, float]) -> None:
    """Raise ValueError where all are 0: the mean by no weight is no number."""
    if not any(shares.values()):
        raise ValueError(f"{name}: one of the shares must be above 0")


class Expert(Section):
    """The seed of expert judgement: rows to imitate and pairs to learn a taste from."""

    kind: Literal["phantoms", "vqa-rad", "none"] = "phantoms"
    images: int = Field(60, ge=1, description="training images with expert rows")
    rows_per_image: int = Field(4, ge=1)
    preference_images: int = Field(100, ge=1, description="further training images for pairs")
    pairs: int = Field(600, ge=1)
    holdout: float = Field(0.25, gt=0, lt=1, description="share of pairs never trained on")
    error_rate: float = Field(0.05, ge=0, lt=0.5, description="simulated expert's, phantoms only")


class Backend(Section):
    """How a VLM is run."""

    backend: Literal["transformers", "vllm", "endpoint"] = "transformers"
    url: str | None = Field(None, description="endpoint only: base URL, …/v1")
    batch: int = Field(
        64, ge=1, description="requests a shard, of which as many are run at once as memory holds"
    )
    actors: int = Field(1, ge=1)
    gpus: float = Field(0, ge=0, description="GPUs an actor")
    max_model_len: int = Field(512, ge=64)


class Generator(Backend):
    """What asks and answers."""

    model: str | None = Field(None, description="null: the base, tuned on the expert seed")
    refresh: bool = Field(True, description="the round's policy generates the next round")
    prompts: Literal["compact", "full"] = "compact"
    styles: dict[Literal["direct", "step", "meta"], Share] = Field(
        default={"direct": 0.34, "step": 0.33, "meta": 0.33}
    )
    tasks: int = Field(600, ge=1, description="questions asked a round")
    samples: int = Field(8, ge=1, description="answers sampled for each question")
    temperature: float = Field(1.0, gt=0, description="of answers")
    ask_temperature: float = Field(0.6, gt=0, description="of questions")
    max_tokens: int = Field(48, ge=4)

    @model_validator(mode="after")
    def _a_server_knows_its_model(self) -> Generator:
        if self.backend == "endpoint" and not (self.model and self.url):
            raise ValueError("backend endpoint needs url (…/v1) and model, as the server names it")
        check_shares("styles", self.styles)
        return self


class Optimiser(Section):
    """What every training shares."""

    lr: float = Field(5e-4, gt=0)
    epochs: float = Field(3, gt=0, description="GRPO goes by its steps instead")
    batch: int = Field(32, ge=1, description="rows at once a worker")
    accumulate: int = Field(
        1, ge=1, description="batches a step; a run may go on with the same batch x accumulate"
    )
    workers: int = Field(1, ge=1, description="Ray Train workers")
    gpus: float = Field(0, ge=0, description="GPUs a worker")
    lora_rank: int = Field(0, ge=0, description="0 trains all weights")
    bf16: bool = False
    save_steps: int = Field(0, ge=0, description="checkpoint and resume every so many steps")


class Reward(Optimiser):
    """The judge."""

    model: str | None = Field(
        None, description="backbone, a folder or Hub id; null: the base; generator: the tuned one"
    )
    readout: Literal["token", "head"] = Field("token", description="start of the three heads")
    objective: Literal["bradley-terry", "tiers"] = "bradley-terry"
    criteria: dict[Literal["factuality", "reasoning", "relevance"], Share] = Field(
        default={"factuality": 0.6, "reasoning": 0.2, "relevance": 0.2}
    )
    refine_epochs: float = Field(1, gt=0, description="over all pairs so far, in refinement")
    refine_pairs: int = Field(200, ge=0, description="newly judged pairs a round")
    expert_pairs: int = Field(100, ge=0, description="of these, shown to the expert")
    tolerance: float = Field(0.01, ge=0, description="holdout AUC may fall by this in refinement")

    @model_validator(mode="after")
    def _something_is_judged(self) -> Reward:
        check_shares("criteria", self.criteria)
        return self


class Select(Section):
    """Which rows teach."""

    confidence: float = Field(1.0, ge=0, description="weight of the generator's log-probability")
    agreement: float = Field(1.0, ge=0, description="weight of the log vote share among samples")
    keep: float = Field(0.7, gt=0, le=1, description="share of questions kept, the surest first")
    min_probability: float = Field(0.0, ge=0, le=1, description="calibrated floor in any case")


class Sft(Optimiser):
    """Supervised fine-tuning of the policy and of the generator."""

    ask_share: float = Field(0.3, ge=0, le=1, description="rows that also teach asking")


class RewardWeights(Section):
    """Parts of the policy's reward. `correct` outweighs the others together."""

    judge: float = Field(0.3, ge=0)
    correct: float = Field(1.0, ge=0)
    format: float = Field(0.1, ge=0)

    @model_validator(mode="after")
    def _right_beats_wrong(self) -> RewardWeights:
        if self.correct <= self.judge + self.format:
            raise ValueError(
                "correct must exceed judge + format, or a wrong answer could outscore a right one"
            )
        return self


class Grpo(Optimiser):
    """Group relative policy optimisation of the policy."""

    steps: int = Field(40, ge=0, description="0 skips GRPO")
    share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="of the kept questions, which SFT leaves to GRPO; 0: both see all",
    )
    group: int = Field(8, ge=2, description="completions a prompt")
    temperature: float = Field(1.0, gt=0)
    max_tokens: int = Field(40, ge=2, description="of a completion")
    kl: float = Field(0.02, ge=0, description="beta of the KL penalty; 0 keeps no reference")
    reward: RewardWeights = RewardWeights()
    tolerance: float = Field(
        0.0, ge=0, description="validation accuracy may fall by this, else SFT's model stays"
    )

    @model_validator(mode="after")
    def _whole_groups(self) -> Grpo:
        if self.batch * self.accumulate * self.workers % self.group:
            raise ValueError("batch x accumulate x workers must be a multiple of group")
        return self


class Evaluate(Backend):
    """Held-out questions."""

    style: Literal["direct", "step", "meta"] = "direct"
    questions: int = Field(600, ge=1, description="held-out test questions")
    max_tokens: int = Field(40, ge=2)

    @model_validator(mode="after")
    def _weights_are_here(self) -> Evaluate:
        if self.backend == "endpoint":
            raise ValueError("backend: no server has weights trained here; transformers or vllm")
        return self


class Cluster(Section):
    """Where it runs."""

    address: str | None = Field(None, description="of a running Ray; null starts one; inline: none")
    cpus: int | None = Field(None, ge=1)
    threads: int = Field(2, ge=1, description="torch threads an actor or worker")


class Lineage(Section):
    """Who is told of a run while it goes on."""

    openlineage_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="of a server; else OPENLINEAGE_URL; else a file only",
    )


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
    expert: Expert = Expert()
    generator: Generator = Generator()
    reward: Reward = Reward()
    select: Select = Select()
    sft: Sft = Sft()
    grpo: Grpo = Grpo()
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()
    lineage: Lineage = Lineage()

    @model_validator(mode="after")
    def _questions_find_their_images(self) -> Config:
        if self.expert.kind == "vqa-rad" and not self.source.keeps_paths:
            raise ValueError(
                "expert.kind vqa-rad finds images by their names: set source.public=true, or "
                "source.paths=keep"
            )
        return self

    def base_model(self) -> str:
        """The base as something transformers can load."""
        if self.model != "tiny":
            return self.model
        from engine.vlm.tiny import FOLDER

        return str(FOLDER)

    def recorded(self) -> dict[str, Any]:
        """What the record says of a run: all but the cluster and who is told."""
        return self.model_dump(exclude={"cluster", "lineage"})

    def kept(self) -> dict[str, Any]:
        """What a workspace remembers, so that stages run one by one run where the first did."""
        return self.model_dump(exclude={"lineage"})


PLACES = {"url", "actors", "gpus", "save_steps"}  # of a section: where and how fast it runs
STEP = ("batch", "accumulate", "workers")  # of a training: their product is a step's rows


def deciding(recorded: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of a recorded configuration what decides the rows, by section.

    A run may go on with other `PLACES`, with more rounds, with another `evaluate.batch`, and with
    other `STEP` of the same product, up to rounding. `generator.batch` decides: it is a shard, and
    a shard has a seed. Inference takes smaller parts of it by itself where memory runs out.
    """
    return {
        name: _deciding(name, value) if isinstance(value, dict) else {"": value}
        for name, value in recorded.items()
        if name != "rounds"
    }


def _deciding(section: str, values: dict[str, Any]) -> dict[str, Any]:
    left = {k: v for k, v in values.items() if k not in PLACES}
    if section == "evaluate":
        left.pop("batch", None)
    if set(STEP) <= left.keys():
        left[" x ".join(STEP)] = math.prod(left.pop(name) for name in STEP)
    return left


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a configuration file and apply `key.path=value` overrides.

    Raises TriptychError with one line a problem: the file, the key, what is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise TriptychError(f"no configuration file {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise TriptychError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
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
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise TriptychError(f"--set {override}: {key} is not a section")
    values[keys[-1]] = value


def _problem(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "configuration"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"
