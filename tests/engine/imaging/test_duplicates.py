"""Near copies, and who shares a split."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from engine.errors import TriptychError
from engine.imaging.duplicates import (
    FEW,
    MIN_CORRELATION,
    SIDE,
    SIGNATURE_BYTES,
    WINDOW,
    correlation,
    joined,
    near_pairs,
    near_within,
    of_detail,
    signature,
    stacked,
    symmetries,
)
from engine.imaging.ingest import settle
from engine.records import Image, Refusal
from generators.phantoms import KINDS, draw, to_display
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


def signed(*pixels: np.ndarray) -> np.ndarray:
    return stacked(signature(PIL.Image.fromarray(np.ascontiguousarray(p))) for p in pixels)


def components(signatures: np.ndarray, names: list[str]) -> dict[str, str]:
    return joined((names[i], names[j]) for i, j in near_pairs(signatures))


def drawn_detail(n: int, seed: int = 0) -> np.ndarray:
    """(n, SIDE, SIDE) int8: details that share most of their energy, as of one anatomy."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 20, (SIDE, SIDE))
    return np.clip(shared + rng.normal(0, 12, (n, SIDE, SIDE)), -127, 127).astype(np.int8)


@pytest.mark.parametrize("modality", sorted(KINDS))
def test_altered_copies_are_near_and_other_phantoms_are_not(modality: str) -> None:
    plain = [to_display(draw(modality, seed, 128)) for seed in range(25)]
    assert list(near_pairs(signed(*plain))) == []
    brighter = np.clip(plain[0] * 0.8 + 20, 0, 255).astype(np.uint8)
    for copy in (compressed(plain[0]), brighter):
        assert list(near_pairs(signed(*plain, copy))) == [(0, 25)]


@pytest.mark.parametrize("symmetry", range(1, 8))
@pytest.mark.parametrize("size", [(128, 128), (150, 97)])
def test_a_mirrored_or_turned_and_recompressed_copy_is_near(
    size: tuple[int, int], symmetry: int
) -> None:
    plain = [to_display(draw("X-ray", seed, 128)) for seed in range(5)]
    original = np.asarray(PIL.Image.fromarray(plain[3]).resize(size))
    copy = compressed(np.ascontiguousarray(list(symmetries(original))[symmetry]))
    assert list(near_pairs(signed(*plain[:3], original, copy))) == [(3, 4)]


@pytest.mark.parametrize("size", [64, 90, 192, 300])
@pytest.mark.parametrize("modality", ["CT", "MR", "ultrasound"])
def test_a_copy_of_another_size_is_near(modality: str, size: int) -> None:
    plain = PIL.Image.fromarray(to_display(draw(modality, 0, 128)))
    other = plain.resize((size, size), PIL.Image.Resampling.BICUBIC)
    assert correlation(*(signed(np.asarray(p)) for p in (plain, other)))[0] > 0.97


def test_what_has_no_structure_or_is_its_own_mirror_image_is_joined_to_nothing_else() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128] - 63.5
    blank = [np.full((128, 128), grey, np.uint8) for grey in (0, 90, 91, 255)]
    noisy = [(120 + rng.normal(0, 1, (128, 128))).astype(np.uint8) for _ in range(4)]
    discs = [np.uint8(200) * (np.hypot(x, y) < radius) for radius in range(10, 60, 5)]
    assert list(near_pairs(signed(*blank, *noisy, *discs))) == []


def test_a_signature_is_small_and_the_same_for_equal_pictures() -> None:
    picture = PIL.Image.fromarray(to_display(draw("CT", 1, 128)))
    assert signature(picture) == signature(picture.copy())
    assert len(signature(picture)) == SIGNATURE_BYTES <= 2048


def test_no_pictures_or_one_have_no_pairs() -> None:
    assert list(near_pairs(stacked([]))) == []
    assert list(near_pairs(signed(to_display(draw("MR", 0, 64))))) == []


def test_a_copy_is_found_among_thousands_of_one_anatomy() -> None:
    detail = drawn_detail(6000)
    noise = np.random.default_rng(1).normal(0, 5, (60, SIDE, SIDE))
    turned = np.stack([list(symmetries(d))[k % 8] for k, d in enumerate(detail[:60])])
    copies = np.clip(turned + noise, -127, 127).astype(np.int8)
    signatures = of_detail(np.concatenate([detail, copies]))
    assert correlation(signatures[:60], signatures[6000:]).min() >= MIN_CORRELATION
    assert set(near_pairs(signatures)) == {(k, 6000 + k) for k in range(60)}


def test_within_groups_pairs_of_one_group_alone_are_told() -> None:
    plain = [to_display(draw("MR", n, 64)) for n in range(FEW + 2)]
    signatures = signed(*plain, plain[0], plain[1], plain[2])
    groups = np.array([7] * (FEW + 2) + [7, 8, 9])  # a group of more than FEW, two of one
    assert list(near_within(signatures, groups)) == [(0, FEW + 2)]
    groups[[1, 2]] = 8, 9
    found = set(near_within(signatures, groups))
    assert found == {(0, FEW + 2), (1, FEW + 3), (2, FEW + 4)}
    assert found == set(near_pairs(signatures))
    assert list(near_within(stacked([]), groups[:0])) == []


def test_what_is_tied_does_not_depend_on_the_order_of_rows() -> None:
    """Chains of copies of copies, copies in numbers above the window, and equal signatures."""
    rng = np.random.default_rng(2)
    detail = list(drawn_detail(300))
    for original in (0, 1, 2):
        for _ in range(5 * WINDOW):
            near = detail[original] + rng.normal(0, 4, (SIDE, SIDE))
            detail.append(np.clip(near, -127, 127).astype(np.int8))
    for _ in range(12):
        drifted = detail[-1] + rng.normal(0, 5, (SIDE, SIDE))
        detail.append(np.clip(drifted, -127, 127).astype(np.int8))
    signatures = of_detail(np.stack([*detail, *detail[:5], detail[0]]))
    names = [f"{place:03d}" for place in range(len(signatures))]
    tied = components(signatures, names)
    assert len(set(tied.values())) == 5
    assert len(tied) == 3 * (1 + 5 * WINDOW) + 12 + 2 + 6
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(signatures))
        assert components(signatures[order], [names[i] for i in order]) == tied


def test_signatures_may_be_a_memory_map(tmp_path: Path) -> None:
    detail = drawn_detail(20)
    np.save(tmp_path / "signatures.npy", of_detail(np.concatenate([detail, detail[3:4]])))
    mapped = np.load(tmp_path / "signatures.npy", mmap_mode="r")
    assert list(near_pairs(mapped)) == [(3, 20)]


def test_a_mirrored_copy_stays_an_image_and_shares_its_split() -> None:
    one = to_display(draw("X-ray", 0, 128))
    rows = [row(one, "a", "1"), row(np.ascontiguousarray(one[:, ::-1]), "b", "2")]
    images, copies = settled(rows, SPLIT)
    assert [(i.source, i.group) for i in images] == [("1", "a"), ("2", "a")]
    assert len({i.split for i in images}) == 1
    assert copies == []


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
