"""Window level in the reading room: from the source where it is at hand, and never from another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.imaging.decode import Decoder
from engine.imaging.ingest import Rules
from engine.records import Image
from pipelines.commands.annotate import Originals
from reward_model.reading_room.pictures import Source
from reward_model.reading_room.room import Room
from tests.engine.imaging.datasets import KEY, grey, ingest, ramp, save
from tests.reward_model.reading_room.rooms import Reader, access_of, items_of, made, rows_of


def room_of(root: Path, source: Source | None, images: list[Image]) -> Reader:
    """A room in which each image has a question."""
    images = [replace(i, group=i.patient, split="train") for i in images]
    rows = [rows_of(image, 1)[0] for image in images]
    made(root, images, rows, items_of(rows))
    access = access_of(root)
    room = Room(root, access.readers.secret, source=source)
    room.open()
    return Reader(room, access)


def ct(tmp_path: Path, **more: Any) -> tuple[Path, Image]:
    """A CT slice of -1024 to 3071 HU in a folder, and its image."""
    folder = tmp_path / "studies" / "p1"
    folder.mkdir(parents=True)
    values = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024,
              "WindowCenter": 40, "WindowWidth": 400} | more  # fmt: skip
    path = save(grey(ramp(), **values), folder / "a.dcm")
    with Decoder() as decoder:
        (image,), _ = ingest(decoder, path)
    return path, replace(image, source="p1/a.dcm")


def test_levels_come_from_the_source_and_tables_from_our_renderer(tmp_path: Path) -> None:
    path, image = ct(tmp_path)
    reader = room_of(tmp_path / "w", lambda _: (path, 0), [image])
    data = reader.http.get(f"/levels/{image.id}").content
    size = int.from_bytes(data[:4], "little")
    about = json.loads(data[4 : 4 + size])
    assert size % 2 == 0
    assert (about["low"], about["high"], about["unit"]) == (-1024, 3071, "HU")
    assert (about["centre"], about["width"]) == (40, 400)
    assert set(about["presets"]) == {"brain", "soft tissue", "lung", "bone"}
    index = np.frombuffer(data[4 + size :], "<u2").reshape(64, 64)
    assert np.array_equal(index, ramp())
    with Decoder() as decoder:
        there = decoder.grey(path, 0)
    own = reader.http.get(f"/levels/{image.id}/table").content
    assert own == there.table.tobytes()
    bone = reader.http.get(f"/levels/{image.id}/table?centre=300&width=1500").content
    assert bone == there.windowed(300, 1500).tobytes()
    beyond = reader.http.get(f"/levels/{image.id}/table?centre=1e12&width=1e12").content
    assert beyond == there.windowed(3071, 4095).tobytes()
    for wish in ("centre=x&width=1", "centre=nan&width=1", "centre=1&width=inf"):
        assert reader.http.get(f"/levels/{image.id}/table?{wish}").status_code == 400


def test_without_the_source_or_with_another_the_stored_picture_stays(tmp_path: Path) -> None:
    path, image = ct(tmp_path)
    reader = room_of(tmp_path / "w", None, [image])
    reply = reader.http.get(f"/levels/{image.id}")
    assert (reply.status_code, reply.json()) == (404, {"error": "the source is not at hand"})
    assert reader.http.get(f"/picture/{image.id}").status_code == 200
    gone = room_of(tmp_path / "gone", lambda _: None, [image])
    assert gone.http.get(f"/levels/{image.id}").json() == {"error": "the source is not at hand"}
    save(grey(ramp() + 1, Modality="CT", WindowCenter=900, WindowWidth=90), path)
    other = room_of(tmp_path / "other", lambda _: (path, 0), [image])
    assert other.http.get(f"/levels/{image.id}").json() == {"error": "the source has changed since"}
    path.write_bytes(b"no DICOM")
    broken = room_of(tmp_path / "broken", lambda _: (path, 0), [image])
    assert broken.http.get(f"/levels/{image.id}").status_code == 404
    assert broken.http.get(f"/levels/{'0' * 32}").status_code == 404


@pytest.mark.parametrize("keep_paths", [True, False])
def test_a_source_is_found_by_the_name_that_the_record_has(
    tmp_path: Path, keep_paths: bool
) -> None:
    path, image = ct(tmp_path)
    rules = Rules(KEY, keep_paths=keep_paths)
    image = replace(image, source=rules.name("p1/a.dcm"))
    assert ("p1" in image.source) is keep_paths
    originals = Originals(tmp_path / "studies", rules)
    assert originals(image) == (path, 0)
    assert originals(replace(image, source="p1/b.dcm")) is None
    assert originals(replace(image, source="../studies/p1/a.dcm")) is None
