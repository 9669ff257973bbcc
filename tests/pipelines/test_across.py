"""A round's chosen rows beside others: what is refused for what another row or benchmark says."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from engine.errors import TriptychError
from engine.lineage.opening import writing
from engine.lineage.questions import why_not
from engine.records import Decision, Image, Picture, Triplet
from engine.workspace import Workspace
from pipelines.context import Context
from pipelines.select import select
from pipelines.waterfall import waterfall_table
from tests.drawn_workspace import answered, context_of, drawn
from tests.pictures import PNG, pictures_of, shown

KEEP_ALL = "select.keep=1"
SIDE, SIDES = "On which side is the cyst?", ("left", "right")


def turned(image: Image, number: int) -> Image:
    """The image mirrored (0) or turned by so many quarters, in the group of the original."""
    pixels = np.asarray(PIL.Image.open(io.BytesIO(PNG[image.id])))
    other = pixels[:, ::-1] if not number else np.rot90(pixels, number)
    return replace(image, id=shown(np.ascontiguousarray(other)), source=f"copy-{number}.png")


def a_round(root: Path, images: list[Image], *rounds: list[Triplet]) -> None:
    """A workspace whose rounds generated these rows, which no judge has an opinion of."""
    with writing(root, "demo", {}) as workspace:
        stage = workspace.begin("ingest", 0, "ingest")
        stage.write(Image, images)
        stage.write(Picture, pictures_of(images))
        workspace.commit(stage)
        for number, rows in enumerate(rounds, 1):
            stage = workspace.begin("generate", number, f"generate-{number}")
            stage.write(Triplet, rows, "00000")
            workspace.commit(stage)


def selected(root: Path, round: int, *overrides: str) -> tuple[dict[str, Decision], dict[str, Any]]:
    """Decisions of select on a round by the rows' ids, and its metrics."""
    with writing(root, "demo", {}) as workspace:
        context: Context = context_of(workspace, KEEP_ALL, *overrides)
        stage = workspace.begin("select", round, f"select-{round}-{overrides}")
        select(context, stage)
        workspace.commit(stage)
        decisions = workspace.read(Decision, "select", round)
        return {d.triplet_id: d for d in decisions}, stage.metrics


@pytest.fixture
def images() -> list[Image]:
    one, other = (drawn("MR", n, "tumor") for n in (1, 2))
    copies = [turned(one, number) for number in (0, 1)]
    return [one, other, *copies]


def test_of_copies_the_surest_row_stays_and_is_named(tmp_path: Path, images: list[Image]) -> None:
    one, other, mirrored, rotated = images
    first = answered(one, "Is there a tumor?", "yes", logprob=-0.1, round=1)
    again = answered(one, "Can you see a tumor in this image?", "yes", logprob=-0.2, round=1)
    flipped = answered(mirrored, "Is a tumor visible?", "yes", logprob=-0.3, round=1)
    quarter = answered(rotated, "Does the scan show a tumor?", "yes", logprob=-0.4, round=1)
    elsewhere = answered(other, "Is there a tumor?", "yes", logprob=-0.5, round=1)
    side = answered(one, SIDE, "left", SIDES, logprob=-0.6, round=1)
    its_side = answered(mirrored, SIDE, "right", SIDES, logprob=-0.7, round=1)
    rows = [quarter, first, flipped, again, elsewhere, side, its_side]
    a_round(tmp_path, images, rows)
    decisions, metrics = selected(tmp_path, 1)
    kept = {name for name, d in decisions.items() if d.keep}
    assert kept == {first.id, elsewhere.id, side.id, its_side.id}
    assert decisions[again.id].reason == (
        f"near-duplicate: asks what row {first.id} asks of the same image"
    )
    for row in (flipped, quarter):
        assert decisions[row.id].reason == (
            f"near-duplicate: asks what row {first.id} asks of image {one.id}, "
            "a mirrored or turned copy"
        )
    assert metrics["reasons"] == {"near-duplicate": 3}
    told = why_not(Workspace.existing(tmp_path).ledger(), flipped.id)
    assert told["story"]["other_row"]["question"] == "Is there a tumor?"


def test_a_row_of_an_earlier_round_stays_whatever_is_surer(
    tmp_path: Path, images: list[Image]
) -> None:
    old = answered(images[0], "Is there a tumor?", "yes", logprob=-2.0, round=1)
    new = answered(images[2], "Is a tumor shown?", "yes", logprob=-0.1, round=2)
    a_round(tmp_path, images, [old], [new])
    assert selected(tmp_path, 1)[0][old.id].keep
    decided = selected(tmp_path, 2)[0][new.id]
    assert not decided.keep
    assert f"row {old.id} of an earlier round" in decided.reason


def test_copies_are_compared_by_signatures_and_no_pixel_is_read(
    tmp_path: Path, images: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        answered(images[n], "Is there a tumor?", "yes", logprob=-0.1 * n, round=1) for n in (0, 2)
    ]
    pictures = [replace(picture, png=b"") for picture in pictures_of(images)]
    monkeypatch.setitem(globals(), "pictures_of", lambda _: pictures)
    a_round(tmp_path / "w", images, rows)
    assert sum(d.keep for d in selected(tmp_path / "w", 1)[0].values()) == 1
    pictures.pop(0)
    a_round(tmp_path / "without", images, rows)
    with pytest.raises(TriptychError, match=f"has no picture of image {images[0].id}"):
        selected(tmp_path / "without", 1)


def test_near_duplicates_may_be_kept(tmp_path: Path, images: list[Image]) -> None:
    rows = [
        answered(images[n], "Is there a tumor?", "yes", logprob=-0.1 * n, round=1) for n in (0, 2)
    ]
    a_round(tmp_path, images, rows)
    decisions, _ = selected(tmp_path, 1, "select.near_duplicates=false")
    assert all(d.keep for d in decisions.values())


def benchmark(folder: Path, image: Image, question: str) -> Path:
    """A benchmark of one question about a mirrored JPEG of an image, as JSON Lines."""
    (folder / "images").mkdir(parents=True)
    with PIL.Image.open(io.BytesIO(PNG[image.id])) as picture:
        mirrored = picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.convert("L").save(folder / "images" / "x.jpg", quality=70)
    row = {"qid": 17, "image_name": "x.jpg", "question": question, "answer": "yes"}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_a_row_of_a_benchmark_is_out_and_the_match_is_named(
    tmp_path: Path, images: list[Image]
) -> None:
    asked = "In which lobe of the left lung is the largest nodule?"
    place = benchmark(tmp_path / "bench", images[0], asked)
    by_image = answered(images[0], "Is there a tumor?", "yes", round=1)
    by_text = answered(images[1], "In which lobe of the left lung is the largest nodule seen?",
                       "upper", ("upper", "lower"), round=1)  # fmt: skip
    fine = answered(images[1], "Is there a tumor?", "yes", round=1)
    a_round(tmp_path / "w", images, [by_image, by_text, fine])
    decisions, metrics = selected(
        tmp_path / "w", 1, f"select.contamination.benchmarks.bench={place}"
    )
    assert decisions[fine.id].keep
    reason = decisions[by_image.id].reason
    assert reason.startswith("contamination: bench, image x.jpg of question 17, similarity 0.9")
    assert decisions[by_text.id].reason.startswith("contamination: bench, question 17")
    assert metrics["contamination"] == {"bench": {"questions": 1, "images": 1}}
    assert metrics["reasons"] == {"contamination": 2}


def test_a_benchmark_that_is_not_there_is_one_clear_line(
    tmp_path: Path, images: list[Image]
) -> None:
    a_round(tmp_path / "w", images, [answered(images[0], "Is there a tumor?", "yes", round=1)])
    with pytest.raises(TriptychError, match=r"benchmarks\.bench: .*nowhere does not exist"):
        selected(tmp_path / "w", 1, f"select.contamination.benchmarks.bench={tmp_path}/nowhere")


@pytest.fixture(scope="module")
def many() -> list[Image]:
    return [drawn("ultrasound", n, size=32) for n in range(40)]


def biased(many: list[Image]) -> list[Triplet]:
    """Forty rows, of which the surest thirty-four say yes."""
    return [
        answered(image, "Is there a cyst?", "yes" if n < 34 else "no", logprob=-0.01 * n, round=1)
        for n, image in enumerate(many)
    ]


def test_what_can_be_guessed_is_balanced_and_the_least_sure_go(
    tmp_path: Path, many: list[Image]
) -> None:
    rows = biased(many)
    a_round(tmp_path, many, rows)
    decisions, metrics = selected(tmp_path, 1, "select.balance=0.1")
    out = [n for n, row in enumerate(rows) if not decisions[row.id].keep]
    assert out
    assert out == list(range(out[0], 34))  # of those that say yes, from some row on
    reasons = {decisions[rows[n].id].reason for n in out}
    assert all(reason.startswith("balance: 'yes' is guessed as the value of") for reason in reasons)
    told = metrics["guesses"][0]
    assert told["before"]["share"] == 0.85
    assert told["after"]["low"] <= 0.6
    assert metrics["guess_above_chance"] <= 0.1


def test_balance_never_depends_on_rows_below_the_threshold(
    tmp_path: Path, many: list[Image]
) -> None:
    rows = biased(many)
    a_round(tmp_path / "all", many, rows)
    a_round(tmp_path / "some", many, rows[:20])
    whole, _ = selected(tmp_path / "all", 1, "select.balance=0.1", "select.keep=0.5")
    part, _ = selected(tmp_path / "some", 1, "select.balance=0.1")
    assert {i for i, d in whole.items() if d.keep} == {i for i, d in part.items() if d.keep}
    assert {whole[row.id].reason for row in rows[20:]} == {"below the threshold"}


def test_balance_may_be_left_out(tmp_path: Path, many: list[Image]) -> None:
    a_round(tmp_path, many, biased(many))
    decisions, metrics = selected(tmp_path, 1, "select.balance=null")
    assert all(d.keep for d in decisions.values())
    assert "guesses" not in metrics


def test_the_waterfall_counts_each_row_once(tmp_path: Path, images: list[Image]) -> None:
    one = images[0]
    first = answered(one, "Is there a tumor?", "yes", logprob=-0.1, round=1)
    rows = [
        first,
        answered(one, "Is there a tumor?", "no", logprob=-3.0, sample=1, round=1),
        answered(images[2], "Is there a tumor?", "yes", logprob=-0.4, round=1),
        answered(one, "Is there?", "", (), problem="question: about nothing", round=1),
    ]
    a_round(tmp_path, images, rows)
    _, metrics = selected(tmp_path, 1)
    steps = metrics["waterfall"]
    assert [(step["step"], step["out"], step["left"]) for step in steps] == [
        ("generated", 0, 4),
        ("form: question", 1, 3),
        ("samples agree on another answer", 1, 2),
        ("near-duplicate", 1, 1),
    ]
    assert steps[-1]["left"] == metrics["kept"]
    assert waterfall_table(steps, 1).row_count == len(steps)
