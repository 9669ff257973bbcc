"""A round's rows in parts: an image is in one of them, and no part is more than it has to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import build
from engine.lineage.opening import writing
from engine.records import Judgement, Triplet, content_id
from engine.workspace import Workspace
from pipelines.context import Context
from pipelines.generate import batches
from pipelines.grpo import some
from pipelines.parts import parts_of
from tests.reward_model.test_select import judged, row


def of_image(number: int, sample: int) -> Triplet:
    """A row about an image whose id sorts by its number."""
    identity = content_id(number, sample)
    return replace(row(), id=identity, image_id=f"{number:032x}", sample=sample)


def a_round(
    root: Path, shards: Sequence[Sequence[Triplet]], judgements: Sequence[Sequence[Triplet]]
) -> Context:
    """A workspace of one round, in these shards of triplets and of judgements of triplets."""
    config = build({"expert": {"kind": "none"}}, [], "x")
    with writing(root, config.name, config.recorded()) as workspace:
        for name, row_type, each in (
            ("generate", Triplet, shards),
            ("judge", Judgement, [[*judged(*((t, 1.0) for t in s)).values()] for s in judgements]),
        ):
            stage = workspace.begin(name, 1, name)
            for number, rows in enumerate(each):
                stage.write(row_type, rows, f"{number:05d}")
            workspace.commit(stage)
    return Context(Workspace.existing(root), config)


def told(context: Context, size: int) -> list[tuple[set[int], int, int]]:
    """By part the numbers of its images, of its rows, and of its judgements."""
    each = [part.rows() for part in parts_of(context, 1, size)]
    return [({int(t.image_id, 16) for t in rows}, len(rows), len(j)) for rows, j in each]


def test_a_part_is_a_few_shards_with_the_judgements_of_their_rows(tmp_path: Path) -> None:
    shards = [[of_image(n, k) for k in range(3)] for n in range(4)]
    context = a_round(tmp_path, shards, shards)
    assert told(context, 1) == [({n}, 3, 3) for n in range(4)]
    assert told(context, 4) == [({0, 1}, 6, 6), ({2, 3}, 6, 6)]
    part = parts_of(context, 1, 4)[0]
    assert [len(part.triplets), len(part.judgements)] == [2, 2]


def test_an_image_in_several_shards_is_in_one_part(tmp_path: Path) -> None:
    shards = [
        [of_image(0, 0), of_image(1, 0)],
        [of_image(1, 1), of_image(2, 0)],
        [of_image(3, 0)],
        [],
        [of_image(2, 1)],
    ]
    context = a_round(tmp_path, shards, shards)
    assert told(context, 1) == [({0, 1, 2}, 5, 5), ({3}, 1, 1)]


def test_judgements_in_other_shards_than_their_rows_are_found(tmp_path: Path) -> None:
    shards = [[of_image(0, 0)], [of_image(1, 0)]]
    context = a_round(tmp_path, shards, [[], [], [of_image(0, 0), of_image(1, 0)]])
    assert told(context, 1) == [({0, 1}, 2, 2)]


def test_a_round_without_rows_has_no_parts(tmp_path: Path) -> None:
    assert parts_of(a_round(tmp_path, [[]], [[]]), 1) == []


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 6))
def test_batches_cut_a_plan_between_images_where_they_can(counts: list[int], most: int) -> None:
    places = [sum(counts[:n]) for n in range(len(counts) + 1)]
    found = list(batches(zip(places, counts), most))
    assert [n for low, high in found for n in range(low, high + 1)] == list(range(places[-1]))
    assert all(high - low < most for low, high in found)
    cut = {low for low, _ in found} - set(places)
    for low in cut:  # inside an image: it alone is more than a batch
        assert any(a < low < b and b - a > most for a, b in pairwise(places))
    pairs = pairwise(found)
    assert all(b[1] - a[0] >= most or b[0] in places for a, b in pairs)


@pytest.mark.parametrize("most", [0, 3, 50])
def test_some_rows_are_the_same_whatever_is_beside_them(most: int) -> None:
    rows = [replace(row(), id=f"{n}", question=f"Is {n} seen?") for n in range(20)]
    found = some(iter(rows), most)
    assert len(found) == min(most, 20)
    assert found == [r for r in rows if r in found]
    fewer = [r for r in rows if r not in found[:1]]
    assert set(found[1:]) <= set(some(fewer, most))
