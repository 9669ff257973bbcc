"""Questions that were answered before a run ended are not asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.cluster import Places
from engine.config import build
from engine.lineage.opening import writing
from engine.records import content_id, from_arrow, to_arrow
from engine.resume import Shards
from engine.shards import write_shard
from engine.vlm.protocol import Sampling
from engine.workspace import Workspace
from pipelines.context import Context
from pipelines.evaluation import examination
from pipelines.evaluation.examination import Examination, Reply
from pipelines.examine import ask_arms
from tests.reward_model.test_select import row
from tests.round_workspace import commit, make_image


def read(shard: Path) -> list[Reply]:
    return from_arrow(Reply, pq.read_table(shard))


def test_an_interrupted_evaluation_asks_what_is_left_in_batches_of_any_size(tmp_path: Path) -> None:
    config = build({"expert": {"kind": "none"}}, ["evaluate.batch=2"], "x")
    images = [make_image(n, f"g{n}", "test") for n in range(5)]
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        commit(workspace, "ingest", 0, {}, images)
    context = Context(Workspace.existing(tmp_path / "w"), config)
    asked = [replace(row(), id=content_id(i.id), image_id=i.id) for i in images]
    arms = {"base": (context.base(), asked)}
    kept, sampling = tmp_path / "replies", Sampling(2, 1.0, 8, 3)
    whole = ask_arms(context, arms, sampling, kept)["base"]
    assert len({tuple(texts) for texts in whole}) > 1

    by_id = {row.id: shard for shard in kept.iterdir() for row in read(shard)}
    first, second, third = (by_id[asked[n].id] for n in (0, 2, 4))
    second.unlink()
    third.write_bytes(third.read_bytes()[:-9])  # torn
    said = {asked[0].id: ("as kept",) * 2, asked[1].id: ("so too",) * 2}
    rows = [Reply(id=name, arm="base", texts=texts) for name, texts in said.items()]
    write_shard(kept, first.stem, to_arrow(Reply, rows))
    config = build({"expert": {"kind": "none"}}, ["evaluate.batch=3"], "x")
    new = replace(row(), id=content_id("released since"), image_id=images[0].id)
    arms = {"base": (context.base(), [new, *asked])}  # so that every question has another place
    again = ask_arms(Context(context.workspace, config), arms, sampling, kept)["base"]
    assert again[1:] == [*said.values(), *whole[2:]]


@pytest.mark.parametrize(("backend", "calls"), [("transformers", 1), ("vllm", 2)])
def test_each_arm_has_workers_of_its_own_where_memory_is_not_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, calls: int
) -> None:
    asked: list[tuple[set[str], str, float]] = []

    def answered(
        to: Shards, make: Any, job: Examination, shards: Any, places: Places, *_: Any
    ) -> None:
        rows = [row for some in shards.values() for row in some]
        asked.append(({row["arm"] for row in rows}, job.section.backend.kind, places.gpus))
        replies = [Reply(id=row["id"], arm=row["arm"], texts=("x",)) for row in rows]
        to.folder.mkdir(exist_ok=True)
        write_shard(to.folder, f"replies-{len(asked)}", to_arrow(Reply, replies))

    monkeypatch.setattr(examination, "make_shards", answered)
    settings = [f"evaluate.backend={backend}", "evaluate.backend.gpus=0.5"]
    config = build({"expert": "none"}, settings, "x")
    image = make_image(0, "g", "test")
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        commit(workspace, "ingest", 0, {}, [image])
    context = Context(Workspace.existing(tmp_path / "w"), config)
    question = replace(row(), id=content_id(image.id), image_id=image.id)
    arms = {name: (context.base(), [question]) for name in ("base", "sft")}
    found = ask_arms(context, arms, Sampling(1), tmp_path / "asked")
    assert found == {"base": [("x",)], "sft": [("x",)]}
    assert len(asked) == calls
    assert {(kind, gpus) for _, kind, gpus in asked} == {(backend, 0.5)}
    assert set().union(*(arms for arms, *_ in asked)) == {"base", "sft"}
