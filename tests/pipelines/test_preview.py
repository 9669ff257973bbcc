"""Preview: rows before any judge exists, from images alone, and rows as a judge chooses them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.pixels import to_png
from engine.records import Image, Judgement, Refusal, Row, Triplet
from engine.workspace import Workspace
from generators.proposer import Proposing
from pipelines.commands import preview
from pipelines.context import Context
from tests.commands import command, ingested
from tests.drawn_workspace import answered, context_of, drawn
from tests.lineage_workspace import commit, make_judgement, make_model

IMAGES = [drawn("MR", n, "tumor", size=48) for n in range(6)]
JUDGE = replace(make_model("judge", "judge", None, 0, 1), path="models/judge")
AUC = {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "n": 40, "on": "pairs"}
SAID = ("yes", "no", "yes", "no", "yes", "broken")


def written(job: Proposing) -> Callable[[str, list[dict[str, Any]]], dict[type[Row], list[Any]]]:
    """Six samples a question: three say yes, two no, one does not parse."""

    def propose(shard: str, rows: list[dict[str, Any]]) -> dict[type[Row], list[Any]]:
        images = {image.id: image for image in IMAGES}
        made = [
            replace(
                answered(images[row["image_id"]], "Is there a tumor?", answer, sample=n),
                task_id=row["task"]["id"],
                logprob=-0.1,
                problem="no answer tag" if answer == "broken" else None,
            )
            for row in rows
            for n, answer in enumerate(SAID)
        ]
        return {Triplet: made}

    return propose


class No:
    """A judge who likes what says no."""

    def __init__(self, path: str, judge_id: str, threads: int) -> None:
        self.id = judge_id

    def judge(self, rows: list[Triplet], pixels: object) -> list[Judgement]:
        likes = {"yes": -9.0, "no": 9.0}
        return [replace(make_judgement(row, JUDGE), overall=likes[row.answer]) for row in rows]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(preview, "make_proposer", written)
    monkeypatch.setattr(preview, "Judge", No)
    monkeypatch.setattr(Context, "path_of", lambda self, model: model.path)
    config = context_of(Workspace(tmp_path / "w")).config
    with writing(tmp_path / "w", config.name, config.recorded()) as place:
        yield place


def shown(workspace: Workspace, capsys: pytest.CaptureFixture[str], number: int = 2) -> str:
    before = workspace.commits()
    preview.show(context_of(workspace), number)
    assert workspace.commits() == before  # nothing is recorded
    return " ".join(capsys.readouterr().out.split())


def test_images_are_enough(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    commit(workspace, "ingest", 0, IMAGES)
    told = shown(workspace, capsys)
    assert "written by tiny, the base; there is no judge yet" in told
    assert told.count("<answer>yes</answer>") == 2  # on which most samples agree
    assert "<answer>no</answer>" not in told
    assert "probability 0" not in told.replace("log-probability", "")
    assert "5 samples" in told
    assert told.count("not parsed (no answer tag)") == 2


def test_a_page_has_the_pictures_and_a_models_text_as_text(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {image.id: to_png(np.zeros((48, 48), np.uint8)) for image in IMAGES}
    monkeypatch.setattr(Context, "pixels", pictures)
    commit(workspace, "ingest", 0, IMAGES)
    page = tmp_path / "preview.html"
    preview.show(context_of(workspace), 2, page)
    told = page.read_text()
    assert told.count("<h3>Is there a tumor?</h3>") == 2
    assert told.count('<span class="chosen">yes</span>') == 2
    assert "5 samples answer: yes (3), no (2)" in told
    assert told.count("<b>no answer tag</b>") == 2
    assert told.count("data:image/png;base64,") == 4
    assert "asked for: MR" in told
    with pytest.raises(TriptychError, match="there is no folder"):
        preview.show(context_of(workspace), 2, tmp_path / "nowhere" / "preview.html")


@pytest.mark.parametrize(("low", "answer"), [(0.8, "no"), (0.4, "yes")])
def test_a_judge_chooses_where_it_knows_more_than_a_coin(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], low: float, answer: str
) -> None:
    commit(workspace, "ingest", 0, IMAGES)
    metrics = json.dumps({"gate": AUC | {"auc_low": low}})
    commit(workspace, "reward", 0, [replace(JUDGE, metrics=metrics)])
    told = shown(workspace, capsys)
    assert told.count(f"<answer>{answer}</answer>") == 2
    assert ("the judge is at chance (AUC 0.900" in told) == (low < 0.5)
    assert "no judge yet" not in told


def test_without_an_image_to_ask_about_that_is_one_line(workspace: Workspace) -> None:
    with pytest.raises(TriptychError, match="preview needs ingest first"):
        preview.show(context_of(workspace), 1)
    waits = Refusal(id="r", path="p", frame=0, reason="text", status="quarantined", image_id="i")
    commit(workspace, "ingest", 0, [waits])
    with pytest.raises(TriptychError, match="all 1 images wait for review"):
        preview.show(context_of(workspace), 1)


def test_images_that_are_all_held_out_are_told(workspace: Workspace) -> None:
    commit(workspace, "ingest", 0, [replace(image, split="test") for image in IMAGES])
    with pytest.raises(TriptychError, match="no image is in the training split"):
        preview.show(context_of(workspace), 1)


@pytest.mark.loop
def test_the_base_writes_about_a_folder_that_nobody_answered_about(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        (folder / f"{n}.png").write_bytes(to_png(rng.integers(0, 255, (64, 64), np.uint8)))
    ingested(
        folder, tmp_path / "w", "source.public=true", "expert=people", "source.split={train: 1}"
    )
    assert len(Workspace.existing(tmp_path / "w").read(Image)) == 4
    done = command("preview", "-w", tmp_path / "w", "--rows", "2")
    assert done.returncode == 0, done.stderr
    assert "there is no judge yet" in done.stdout
    assert "image" in done.stdout or "not parsed" in done.stdout
