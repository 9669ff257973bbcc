"""Where it runs, and who is told of it."""

from __future__ import annotations

from pydantic import Field

from engine.config.section import Section


class Cluster(Section):
    """Where it runs."""

    address: str | None = Field(None, description="of a running Ray; null starts one; inline: none")
    cpus: int | None = Field(None, ge=1)
    gpus: int | None = Field(
        None, ge=0, description="GPUs that there are, for preflight; null: this machine's"
    )
    gpu_memory: float | None = Field(
        None, gt=0, description="GiB of a GPU, for preflight; null: this machine's"
    )
    host_memory: float | None = Field(
        None, gt=0, description="GiB of a node, for preflight; null: this machine's"
    )
    threads: int = Field(2, ge=1, description="torch threads an actor or worker")


class Lineage(Section):
    """Who is told of a run while it goes on."""

    openlineage_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="of a server; else OPENLINEAGE_URL; else a file only",
    )
