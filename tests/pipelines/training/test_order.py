"""The order in which SFT reads its turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.training import Sft
from engine.lineage.opening import writing
from engine.records import Task
from engine.trainer import read_training_set, write_training_set
from engine.vlm import tiny
from engine.vlm.inputs import encode, picture, shown_size
from engine.vlm.protocol import Request
from engine.vlm.transformers import load_processor
from pipelines.fine_tuning import columns_of, level_of
from pipelines.training.order import Order, lengths_of, ordered
from pipelines.training.sft import order_of
from tests.drawn_workspace import context_of
from tests.lineage_workspace import commit, make_found, make_image, make_triplet
from tests.pictures import PNG, shown
from tests.pipelines.training import test_training as trainings

STEP, BATCH = 16, 4


def lengths(count: int, seed: int = 0) -> list[int]:
    """Tokens of rows, most of them few."""
    return np.random.default_rng(seed).lognormal(5, 0.7, count).astype(int).tolist()


def padding(order: Order, of: list[int]) -> float:
    """The share of places that are padding where each batch is as long as its longest row."""
    places = list(order)
    batches = [places[n : n + BATCH] for n in range(0, len(places), BATCH)]
    wide = sum(len(batch) * max(of[place] for place in batch) for batch in batches)
    return 1 - sum(of) / wide


@given(
    count=st.integers(1, 300),
    step=st.integers(1, 40),
    epoch=st.integers(0, 3),
    grouped=st.booleans(),
    curriculum=st.booleans(),
)
def test_each_epoch_has_each_row_once(
    count: int, step: int, epoch: int, grouped: bool, curriculum: bool
) -> None:
    made = (
        Order(
            count, step, 3,
            lengths(count) if grouped else None,
            [n % 3 for n in range(count)] if curriculum else None,
        )
        for _ in range(2)
    )  # fmt: skip
    orders = []
    for order in made:
        order.epoch = epoch
        orders.append(list(order))
    assert sorted(orders[0]) == list(range(count))
    assert orders[0] == orders[1]


def test_batches_of_like_length_have_little_padding() -> None:
    of = lengths(2000)
    plain, grouped = Order(2000, STEP, 0), Order(2000, STEP, 0, of)
    assert padding(plain, of) > 0.4
    assert padding(grouped, of) < 0.1
    before = list(grouped)
    grouped.epoch = 1
    assert list(grouped) != before
    assert padding(grouped, of) < 0.1


def test_batches_of_like_length_come_in_no_order_of_length() -> None:
    of = np.array(lengths(4000))
    places = list(Order(4000, STEP, 0, of.tolist()))
    means = of[places].reshape(-1, STEP).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.15


@pytest.mark.parametrize("grouped", [False, True])
def test_a_curriculum_goes_from_easy_to_hard_in_its_first_epoch_alone(grouped: bool) -> None:
    levels = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 2.0], 4000)
    of = lengths(4000) if grouped else None
    order = Order(4000, STEP, 0, of, levels.tolist())
    first = levels[list(order)]
    means = [part.mean() for part in np.array_split(first, 4)]
    assert means == sorted(means)
    assert means[0] < 0.3
    assert means[-1] > 1.5
    assert (np.diff(first) < 0).any()  # with noise
    assert list(order) != list(Order(4000, STEP, 1, of, levels.tolist()))
    order.epoch = 1
    later = [part.mean() for part in np.array_split(levels[list(order)], 4)]
    assert max(later) - min(later) < 0.15
    if of is not None:
        assert padding(order, of) < 0.15


class Trainer:
    """As much of a trainer as has an order."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []

    def add_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def _get_train_sampler(self, rows: Any = None) -> str:
        return "its own"


def test_a_trainer_reads_in_the_order_of_the_epoch_that_begins() -> None:
    """In the epoch where an interrupted one goes on, too: its state has that epoch's fraction."""
    assert ordered(Trainer, None)()._get_train_sampler() == "its own"
    order = Order(100, STEP, 0)
    trainer = ordered(Trainer, order)()
    assert trainer._get_train_sampler() is order
    (callback,) = trainer.callbacks
    seen = []
    for epoch in (None, 0.25, 1.0, 1 - 1e-12, 2.9):
        callback.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)
        seen.append(order.epoch)
    assert seen == [0, 0, 1, 1, 2]


def test_a_level_is_the_steps_and_what_is_known_of_the_difficulty() -> None:
    told = [("easy", 0), ("medium", 0.5), ("", 0.5), ("hard", 1)]
    assert [level_of(1, difficulty) for difficulty, _ in told] == [level for _, level in told]
    assert level_of(3, "easy") == 2
    assert level_of(2, "hard") == level_of(3, "easy")


def test_rows_have_the_columns_that_their_order_goes_by_and_no_others(tmp_path: Path) -> None:
    """What select found goes before what was asked for."""
    task = Task.make("MR", "disease", "hard", "closed", "direct")
    images = [replace(make_image(n, f"g{n}"), width=100 + n, height=50) for n in range(2)]
    rows = [replace(make_triplet(image, "m", 1, 1), task_id=task.id) for image in images]
    found = replace(make_found(rows[0]), difficulty="easy", steps=3)
    with writing(tmp_path / "w", "made", {"name": "made"}) as workspace:
        commit(workspace, "ingest", 0, list(images))
        commit(workspace, "select", 1, [found])

        def told(*options: str) -> list[dict[str, float]]:
            columns = columns_of(context_of(workspace, *options), rows, {task.id: task})
            return [columns[row.id] for row in rows]

        assert told() == [{}, {}]
        assert told("sft.gpus=1") == [{"width": 100, "height": 50}, {"width": 101, "height": 50}]
        assert told("sft.gpus=1", "sft.group_by_length=false") == [{}, {}]
        assert told("sft.order=curriculum") == [{"level": 2.0}, {"level": 1.0}]


def test_rows_are_grouped_where_gpus_are_asked_for() -> None:
    assert [Sft(gpus=gpus).grouped for gpus in (0, 0.5, 1)] == [False, True, True]
    assert [Sft(gpus=1 - on, group_by_length=on).grouped for on in (0, 1)] == [False, True]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(64, 200_000))
def test_the_size_that_is_shown_is_within_the_budget(width: int, height: int, most: int) -> None:
    size = shown_size((width, height), most)
    assert size[0] * size[1] <= most or min(size) == 1


@pytest.mark.loop
def test_a_length_is_that_of_the_models_inputs_but_for_the_template(tmp_path: Path) -> None:
    """With pictures above the pixel budget, a strip, and words of several lengths."""
    budget = 128 * 128
    sizes = [(64, 64), (96, 64), (300, 200), (64, 640), (250, 2)]
    rng = np.random.default_rng(0)
    images = [shown(rng.integers(0, 256, (h, w), np.uint8)) for w, h in sizes]
    rows = [
        {"image_id": i, "prompt": "Is it? " * (n + 1), "completion": "no " * (9 - n)}
        | {"width": size[0], "height": size[1]}
        for n, (i, size) in enumerate(zip(images, sizes))
    ]
    write_training_set(tmp_path, rows)
    processor = load_processor(str(tiny.FOLDER))
    told = lengths_of(read_training_set(tmp_path), processor, budget)
    texts = [f"{row['prompt']} {row['completion']}" for row in rows]
    requests = [Request(PNG[i], text) for i, text in zip(images, texts)]
    inputs = encode(processor, requests, budget)
    template = {
        int(n) - length for n, length in zip(inputs["attention_mask"].sum(1).tolist(), told)
    }
    assert len(template) == 1
    assert all(
        picture(PNG[i], budget).size == shown_size(size, budget) for i, size in zip(images, sizes)
    )


@pytest.mark.loop
def test_a_run_that_goes_on_with_smaller_batches_goes_on_in_its_order(tmp_path: Path) -> None:
    job = trainings.sft_in_order(tmp_path).with_section(batch=4)
    processor = load_processor(str(tiny.FOLDER))
    before = order_of(job, processor)
    for batch, accumulate, workers in ((2, 2, 1), (1, 2, 2), (1, 4, 1)):
        changed = job.with_section(batch=batch, accumulate=accumulate, workers=workers)
        after = order_of(changed, processor)
        assert before is not None
        assert after is not None
        assert list(before) == list(after)
    assert order_of(job.with_section(order="random", group_by_length=False), processor) is None
