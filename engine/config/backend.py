"""How a VLM is run: each kind of backend with its own fields, and what its callers must know."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from engine.config.section import Section, named


class Prices(Section, frozen=True):
    """What a server takes for a million tokens."""

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


class Local(Section, frozen=True):
    """A model whose weights an actor of ours loads."""

    weights_known: ClassVar[bool] = True
    private: ClassVar[bool] = True  # what it is told stays with us
    prices: ClassVar[Prices | None] = None
    holds_forms: ClassVar[bool] = False  # whether a reply can be held to a regular expression
    takes: ClassVar[float | None] = None  # share of a GPU's memory, at once; None: as it is needed
    gpus: float = Field(0, ge=0, description="GPUs an actor")
    max_model_len: int = Field(512, ge=64, description="tokens of a prompt and its reply")


class Transformers(Local, frozen=True):
    """transformers in the actor's process."""

    shards: ClassVar[int] = 1  # that an actor works on at once
    frees_memory: ClassVar[bool] = True  # for the next model of the same process
    kind: Literal["transformers"] = "transformers"


class Vllm(Local, frozen=True):
    """A vLLM engine of the actor's own."""

    takes: ClassVar[float | None] = 0.92  # vLLM's own gpu_memory_utilization
    frees_memory: ClassVar[bool] = False
    holds_forms: ClassVar[bool] = True
    kind: Literal["vllm"] = "vllm"
    shards: int = Field(
        1, ge=1, description="an actor works on at once; with 2 or more the rows hang on the timing"
    )


class Endpoint(Section, frozen=True):
    """An OpenAI-compatible server that runs already; its model is known by its name alone."""

    weights_known: ClassVar[bool] = False
    holds_forms: ClassVar[bool] = True  # where the server does: vLLM's field of a request
    gpus: ClassVar[float] = 0.0  # of ours
    takes: ClassVar[float | None] = None
    max_model_len: ClassVar[int | None] = None  # the server's own
    kind: Literal["endpoint"] = "endpoint"
    url: str = Field(description="base URL, …/v1")
    concurrency: int = Field(
        16, ge=1, description="requests an actor has under way at most; fewer where it is too busy"
    )
    shards: int = Field(4, ge=1, description="an actor works on at once, of all its requests")
    prices: Prices | None = Field(
        None, description="of a million tokens of prompts and of completions; null: no cost is told"
    )
    private: bool = Field(
        False, description="the server may be told what is private: generator.knowledge"
    )


LocalBackend = Annotated[Transformers | Vllm, Field(discriminator="kind"), named("transformers")]
Backend = Annotated[
    Transformers | Vllm | Endpoint, Field(discriminator="kind"), named("transformers")
]


class Inference(Section):
    """A stage that asks a model, in shards."""

    batch: int = Field(
        64, ge=1, description="requests a shard, of which as many are run at once as memory holds"
    )
    actors: int = Field(1, ge=1)
