"""The identity of a model: the hash of its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.records import content_id


def weights_id(model: Path | str) -> str:
    """32 hex digits over the safetensors files of a folder; for a Hub id, the hash of its name."""
    folder = Path(model)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        return content_id("hub", str(model))
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:32]
