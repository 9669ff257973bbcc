"""What a stage spent, told in its metrics and in the line that ends it; and what a resume asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import build
from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.records import Triplet
from engine.workspace import Workspace
from pipelines import generate, ingest, plan
from pipelines.context import Context, run_stage
from pipelines.spending import JOURNALS
from tests.engine.vlm.test_endpoint import choice, serve

__all__ = ["serve"]  # the fixture

QUESTION = "<question>Which side?</question><options>left | right</options>"
TASKS, SAMPLES = 6, 2
REQUESTS = 2 * TASKS  # a question, and its answers
USAGE = {"prompt_tokens": 100, "completion_tokens": 7}


def server(body: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """A question, or as many answers as are asked for."""
    text = str(body["messages"][0]["content"][-1]["text"])
    said = "<answer>left</answer>" if "Which side" in text else QUESTION
    return {"choices": [choice(said)] * body["n"], "usage": USAGE}


def generated(root: Path, url: str, *more: str) -> tuple[dict[str, Any], list[Triplet]]:
    """The commit of a stage generate on a server, in two shards, and its rows."""
    values = {
        "source": {"phantoms": {"MR": 6}, "size": 64, "split": {"train": 1.0}},
        "expert": {"kind": "none"},
        "cluster": {"address": "inline"},
        "generator": {"tasks": TASKS, "batch": 3, "samples": SAMPLES, "model": "m"},
    }
    config = build(
        values, ["generator.backend=endpoint", f"generator.backend.url={url}", *more], "x"
    )
    with writing(root, config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "plan", 1, plan.plan, [("ingest", 0)], {})
        commit = run_stage(context, "generate", 1, generate.generate, [("plan", 1)], {})
        return commit, workspace.read(Triplet)


def work(root: Path) -> list[Path]:
    return [p for p in Workspace(root).work.glob("*/*") if p.name == JOURNALS]


def test_tokens_and_their_cost_are_told(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = "generator.backend.prices={prompt: 2.5, completion: 10}"
    commit, rows = generated(tmp_path / "w", serve(server).url, prices)
    assert len(rows) == TASKS * SAMPLES
    told = commit["metrics"]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (100 * REQUESTS, 7 * REQUESTS)
    assert told["cost"] == pytest.approx((250 + 70) * REQUESTS / 1e6)
    assert "untold_replies" not in told
    assert "1,200 tokens read, 84 written, cost 0.0038" in " ".join(capsys.readouterr().out.split())


def test_without_prices_no_cost_is_told_and_silence_is_said(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = serve(lambda body, number: server(body) | ({} if number else {"usage": None}))
    told = generated(tmp_path / "w", silent.url)[0]["metrics"]
    assert told["prompt_tokens"] == 100 * (REQUESTS - 1)
    assert told["untold_replies"] == 1
    assert "cost" not in told
    line = " ".join(capsys.readouterr().out.split())
    assert "1,100 tokens read, 77 written (1 replies did not say)" in line


def test_a_run_that_ended_in_a_shard_goes_on_with_the_requests_that_are_left(
    serve: Any, tmp_path: Path
) -> None:
    """In the second shard, after two of its three questions; the tokens of both runs count."""
    calm, rows = generated(tmp_path / "calm", serve(server).url)
    before = REQUESTS // 2 + 2
    gone = serve(lambda body, number: server(body) if number < before else (401, {}, {}))
    with pytest.raises(TriptychError, match="answers 401"):
        generated(tmp_path / "w", gone.url, "generator.backend.concurrency=1")
    assert work(tmp_path / "w")
    back = serve(server)
    commit, again = generated(tmp_path / "w", back.url)
    assert len(back.bodies) == REQUESTS - before
    assert again == rows
    for key in ("prompt_tokens", "completion_tokens"):
        assert commit["metrics"][key] == calm["metrics"][key]
    assert not work(tmp_path / "w")
    assert not list((tmp_path / "w" / "events").glob(f"*/{JOURNALS}"))
