"""Near copies, and who shares a split."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import pytest

from engine.errors import TriptychError
from engine.imaging.duplicates import near_pairs, signature
from engine.imaging.ingest import settle
from engine.records import Image, Refusal
from generators.phantoms import MODULES, draw, to_display
from tests.pictures import PNG, shown

SPLIT = {"train": 0.6, "val": 0.1, "test": 0.3}


def row(pixels: np.ndarray, patient: str, source: str, split: str = "") -> Image:
    return Image(
        id=shown(pixels), width=1, height=1, modality="CT",
        anatomy="head", group="", split=split, source=source, rendering='{"frame":0}',
        deidentification="", is_synthetic=True, patient=patient,
    )  # fmt: skip


def settled(
    images: list[Image], shares: dict[str, float], earlier: Sequence[Image] = (), **more: Any
) -> tuple[list[Image], list[Refusal]]:
    """`settle`, with the signatures of the pictures."""
    looks = {i.id: signature(PIL.Image.open(io.BytesIO(PNG[i.id]))) for i in [*images, *earlier]}
    return settle(images, looks, shares, earlier, **more)


def compressed(pixels: np.ndarray, quality: int = 60) -> np.ndarray:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(out))


@pytest.mark.parametrize("modality", sorted(MODULES))
def test_altered_copies_are_near_and_other_phantoms_are_not(modality: str) -> None:
    plain = [to_display(draw(modality, seed, 128)) for seed in range(25)]
    signatures = [signature(PIL.Image.fromarray(p)) for p in plain]
    assert list(near_pairs(signatures)) == []
    brighter = np.clip(plain[0] * 0.8 + 20, 0, 255).astype(np.uint8)
    for copy in (compressed(plain[0]), brighter):
        near = signature(PIL.Image.fromarray(copy))
        assert list(near_pairs([*signatures, near])) == [(0, 25)]


def test_patients_who_share_a_picture_are_one_group_and_copies_leave() -> None:
    one, two, three = (to_display(draw("MR", seed, 128)) for seed in range(3))
    images, copies = settled(
        [
            row(one, "a", "1"),
            row(compressed(one), "b", "2"),
            row(two, "b", "3"),
            row(two, "c", "4"),
            row(three, "d", "5"),
        ],
        SPLIT,
    )
    assert [i.source for i in images] == ["1", "2", "3", "5"]
    assert [(c.path, c.status, c.image_id) for c in copies] == [("4", "duplicate", images[2].id)]
    assert len({(i.group, i.split) for i in images[:3]}) == 1
    assert images[3].group == "d" != images[0].group


def test_the_order_in_which_files_were_read_changes_nothing() -> None:
    rows = [row(to_display(draw("MR", s % 3, 96)), f"p{s}", f"{s}") for s in range(6)]
    assert settled(rows, SPLIT) == settled(rows[::-1], SPLIT)


def test_near_copies_given_to_two_splits_are_refused() -> None:
    one = to_display(draw("CT", 1, 128))
    rows = [row(one, "a", "1", "train"), row(compressed(one), "b", "2", "test")]
    with pytest.raises(
        TriptychError, match="line 7 and 2 are one patient or show the same picture"
    ):
        settled(rows, SPLIT, lines={"1": 7})


def test_later_images_keep_to_the_groups_that_are_there() -> None:
    one = to_display(draw("CT", 1, 128))
    earlier, _ = settled([row(one, "b", "1")], {"test": 1.0})
    later, _ = settled([row(compressed(one), "a", "2")], {"train": 1.0}, earlier)
    assert (later[0].split, later[0].id == earlier[0].id) == ("test", False)
