"""Ingest goes on where it was interrupted, and reads again what has changed since."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import Config, build
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.pixels import Pixels, to_png
from engine.records import Image, Picture
from engine.workspace import Workspace
from pipelines import ingest
from pipelines.context import Context, run_stage

READ = ingest.ingest_file


def config_of(folder: Path) -> Config:
    values: dict[str, Any] = {"source": {"path": str(folder), "public": True}, "expert": "none"}
    return build(values, ["cluster.address=inline"], "the test")


def ingested(config: Config, root: Path) -> Workspace:
    with writing(root, config.name, config.recorded()) as workspace:
        run_stage(Context(workspace, config), "ingest", 0, ingest.ingest, [], {})
    return Workspace.existing(root)


def known(place: Workspace) -> list[dict[str, Any]]:
    return sorted((i.to_dict() for i in place.read(Image)), key=lambda row: row["source"])


def test_an_interrupted_ingest_reads_what_is_left_and_what_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(20):
        (folder / f"{n:02d}.png").write_bytes(to_png(rng.integers(0, 255, (32, 32), np.uint8)))
    monkeypatch.setattr(ingest, "cores", lambda: 1)
    monkeypatch.setattr(ingest, "FILES", 4)
    seen: list[str] = []

    def cut_off(decoder: Any, root: Path, path: Path, rules: Any) -> Any:
        seen.append(path.name)
        if len(seen) == 14:
            raise KeyboardInterrupt
        return READ(decoder, root, path, rules)

    monkeypatch.setattr(ingest, "ingest_file", cut_off)
    config = config_of(folder)
    with pytest.raises(KeyboardInterrupt):
        ingested(config, tmp_path / "w")
    assert len(seen) == 14  # three shards are whole, the fourth is not
    os.utime(folder / "05.png", (1, 1))
    place = ingested(config, tmp_path / "w")
    assert sorted(seen[14:]) == [f"{n:02d}.png" for n in (*range(4, 8), *range(12, 20))]
    assert known(place) == known(ingested(config, tmp_path / "fresh"))
    pixels = Pixels(place.root)
    assert set(pixels) == {image.id for image in place.read(Image)}
    assert len(place.read(Picture)) == 20
    assert all(pixels[image_id] for image_id in pixels)
    with pytest.raises(TriptychError, match="has no picture of image"):
        pixels["0" * 32]
