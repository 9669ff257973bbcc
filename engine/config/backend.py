"""How a model is run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config.section import Section


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
