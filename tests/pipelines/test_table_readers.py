"""Readers beside a table: what is generated is asked of them, what labels say is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.lineage.opening import writing
from engine.records import Image, Item, Preference, Task, Triplet, canonical
from engine.workspace import Stage
from pipelines import compare, loop
from pipelines.context import Context
from pipelines.record import held_out, seed_triplets
from reward_model.experts.expert import EXPERT
from tests.drawn_workspace import answered, context_of
from tests.lineage_workspace import TASK, commit, make_image

SPLITS = ["train"] * 24 + ["val"] * 4 + ["test"] * 8
FINDINGS = ("mass", "cyst", "edema")
SETTINGS = (
    "source.path=x",
    "source.labels=[finding]",
    "expert.kind=table",
    "expert.images=8",
    "expert.preference_images=12",
)
READERS = "expert.verdicts={first: 6, test: 4, preferences: 0}"


def labelled(number: int, split: str) -> Image:
    image = make_image(number, f"g{number}", split)
    return replace(image, labels=canonical({"finding": FINDINGS[number % 3]}))


IMAGES = {image.id: image for image in map(labelled, range(len(SPLITS)), SPLITS)}


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that the generator was asked about: it answers at once."""
    asked: list[str] = []

    def run(
        context: Context, stage: Stage, model: object, pairs: list[tuple[str, Task]]
    ) -> dict[str, int]:
        asked.extend(image_id for image_id, _ in pairs)
        rows = [
            answered(IMAGES[i], f"What is shown, {n}?", "a mass", (), task_id=task.id)
            for n, (i, task) in enumerate(pairs)
        ]
        stage.write(Triplet, rows)
        return {}

    monkeypatch.setattr(compare, "run_proposer", run)
    return asked


def run(context: Context, *names: str) -> None:
    for name in names:
        stage = context.workspace.begin(name, 0, name)
        loop.ONCE[name].body(context, stage)
        context.workspace.commit(stage)


@pytest.fixture(params=[SETTINGS, (*SETTINGS, READERS)], ids=["labels", "labels and readers"])
def context(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Context]:
    config = context_of(None, *request.param).config  # type: ignore[arg-type]
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        commit(workspace, "ingest", 0, [*IMAGES.values(), TASK])
        yield context_of(workspace, *request.param)


def test_labels_teach_and_readers_are_asked_about_what_is_generated(
    context: Context, generated: list[str]
) -> None:
    verdicts = context.config.expert.verdicts  # type: ignore[union-attr]
    run(context, "seed", "compare", "consult")
    seeds = seed_triplets(context)
    assert {row.generator_id for row in seeds} == {EXPERT}
    assert len({row.image_id for row in seeds}) == 8
    tasks = {task.id for task in context.rows(Task)}
    assert {row.task_id for row in context.rows(Triplet)} <= tasks
    rows = {row.id: row for row in context.rows(Triplet)}
    pairs = context.rows(Preference)
    assert pairs  # of labels, whoever else is asked
    assert all(pair.chosen_id in rows and pair.rejected_id in rows for pair in pairs)
    items: list[Item] = context.rows(Item)
    assert len(items) == verdicts.first + verdicts.test
    assert bool(generated) == bool(items)
    assert {rows[item.triplet_id].generator_id for item in items} <= {"generator"}
    assert sum(IMAGES[item.image_id].split != "train" for item in items) == verdicts.test


def test_labels_of_test_images_are_held_out_questions(context: Context) -> None:
    rows = held_out(context, "test", 16)
    assert {IMAGES[row.image_id].split for row, _ in rows} == {"test"}
    assert len(rows) == 16
