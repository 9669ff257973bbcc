"""How what leaves is cut."""

from __future__ import annotations

from pydantic import Field

from engine.config.section import Section

SHARD_MB = 500.0  # as `datasets` writes them


class Export(Section):
    """How the exported dataset is cut into files."""

    shard_mb: float = Field(
        SHARD_MB, gt=0, description="MB of a Parquet file at most, unless one image needs more"
    )
