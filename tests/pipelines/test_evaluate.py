"""Questions that were answered before a run ended are not asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import build
from engine.lineage.opening import writing
from engine.records import content_id
from engine.vlm.protocol import Sampling
from engine.workspace import Workspace
from pipelines.context import Context
from pipelines.evaluation import examination
from pipelines.evaluation.examination import ask
from tests.reward_model.test_select import row
from tests.round_workspace import commit, make_image


def test_an_interrupted_evaluation_asks_what_is_left_in_batches_of_any_size(tmp_path: Path) -> None:
    config = build({"expert": {"kind": "none"}}, ["evaluate.batch=2"], "x")
    images = [make_image(n, f"g{n}", "test") for n in range(5)]
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        commit(workspace, "ingest", 0, {}, images)
    context = Context(Workspace.existing(tmp_path / "w"), config)
    asked = [replace(row(), id=content_id(i.id), image_id=i.id) for i in images]
    arms = {"base": (context.base(), asked)}
    kept, sampling = tmp_path / "replies", Sampling(2, 1.0, 8, 3)
    whole = ask(context, arms, sampling, kept)["base"]
    assert len({tuple(texts) for texts in whole}) > 1

    first, second, third = (kept / "base" / f"{asked[n].id}.json" for n in (0, 2, 4))
    second.unlink()
    third.rename(third.with_suffix(".part"))  # cut off while written
    first.write_text(json.dumps({asked[0].id: ["as kept"] * 2, asked[1].id: ["so too"] * 2}))
    config = build({"expert": {"kind": "none"}}, ["evaluate.batch=3"], "x")
    new = replace(row(), id=content_id("released since"), image_id=images[0].id)
    arms = {"base": (context.base(), [new, *asked])}  # so that every question has another place
    again = ask(Context(context.workspace, config), arms, sampling, kept)["base"]
    assert again[1:] == [["as kept"] * 2, ["so too"] * 2, *whole[2:]]


@pytest.mark.parametrize(("backend", "calls"), [("transformers", 1), ("vllm", 2)])
def test_each_arm_has_workers_of_its_own_where_memory_is_not_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, calls: int
) -> None:
    asked: list[tuple[set[str], object, float]] = []

    def answered(make: Any, arguments: Any, shards: Any, *places: float) -> Any:
        arms = {name.partition("/")[0] for name in shards}
        asked.append((arms, arguments["backend"].kind, places[-1]))
        for name, rows in shards.items():
            yield name, [{"key": r["key"], "texts": ["x"]} for r in rows]

    monkeypatch.setattr(examination.cluster, "map_shards", answered)
    settings = [f"evaluate.backend={backend}", "evaluate.backend.gpus=0.5"]
    config = build({"expert": "none"}, settings, "x")
    image = make_image(0, "g", "test")
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        commit(workspace, "ingest", 0, {}, [image])
    context = Context(Workspace.existing(tmp_path / "w"), config)
    question = replace(row(), id=content_id(image.id), image_id=image.id)
    arms = {name: (context.base(), [question]) for name in ("base", "sft")}
    assert ask(context, arms, Sampling(1)) == {"base": [["x"]], "sft": [["x"]]}
    assert len(asked) == calls
    assert {(kind, gpus) for _, kind, gpus in asked} == {(backend, 0.5)}
    assert set().union(*(arms for arms, *_ in asked)) == {"base", "sft"}
