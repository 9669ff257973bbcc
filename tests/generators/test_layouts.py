"""Layouts: planned first, rendered after, and honoured: recounted from the mask, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from generators.layout import Drawer, Layout
from generators.phantoms import KINDS, bank
from generators.phantoms.asked import CannotDraw
from generators.phantoms.base import count_components
from generators.phantoms.drawer import DrawnPhantom, PhantomDrawer, refusal, unlike
from generators.phantoms.oracle import answer_of
from generators.phantoms.planner import Cell, lay_out

DRAWER: Drawer = PhantomDrawer()
SIZE = 96
CASES = [(kind, finding) for kind in KINDS for finding in ("none", *KINDS[kind].findings)]


def layouts_of(kind: str, finding: str) -> Iterator[Layout]:
    """One layout of each side, each size, and each count that goes with a small one."""
    told = KINDS[kind].findings.get(finding, ())
    shown = {"modality": KINDS[kind].modality, "anatomy": KINDS[kind].anatomy, "finding": finding}
    for side in bank.SIDES if "side" in told else ():
        yield Layout(**shown, side=side)
    for size in ("small", "medium", "large") if "size" in told else ():
        yield Layout(**shown, size=size)
    for count in (1, 3) if "count" in told else ():
        yield Layout(**shown, count=count, size="small" if "size" in told else None)
    for name in bank.SHOWN.get(kind, ()):
        for value in bank.ATTRIBUTES[name].allowed(finding):
            yield Layout(**shown, attributes={name: value})


def drawn_or_refused(layout: Layout, seed: int, side: int) -> DrawnPhantom | None:
    """The image, or None where it was refused in one line that names the layout."""
    drawn, reason = None, ""
    try:
        drawn = PhantomDrawer().draw(layout, seed, side)
    except CannotDraw as error:
        reason = str(error)
    assert drawn or (reason.startswith(f"{layout}: ") and "\n" not in reason)
    return drawn


@pytest.mark.parametrize(("kind", "finding"), CASES)
def test_a_layout_is_honoured_or_refused(kind: str, finding: str) -> None:
    shown, side = 0, 48 if kind == "histology" else SIZE  # where many seeds are looked at
    for seed, layout in enumerate(layouts_of(kind, finding)):
        drawn = drawn_or_refused(layout, seed, side)
        if drawn is None:
            continue
        shown += 1
        truth, mask = drawn.phantom.truth, drawn.mask
        assert unlike(layout, truth) is None
        assert mask.shape == drawn.pixels.shape[:2] == (side, side)
        assert drawn.pixels.dtype == np.uint8
        assert mask.any() == (finding != "none")
        if layout.count is not None:
            assert count_components(mask) == layout.count
        if layout.side is not None:
            left = np.nonzero(mask)[1].mean() < (SIZE - 1) / 2
            own = kind == "ultrasound"  # there a side is the image's
            assert layout.side == ("left" if left == own else "right")
    assert shown or not list(layouts_of(kind, finding))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_told_apart_by_the_mask(kind: str) -> None:
    for finding in KINDS[kind].findings:
        if "size" not in KINDS[kind].findings[finding] or finding == "plaque":
            continue
        shown = {"modality": KINDS[kind].modality, "anatomy": KINDS[kind].anatomy}
        areas = {
            size: [
                int(DRAWER.draw(Layout(**shown, finding=finding, size=size, count=count), s, SIZE)
                    .mask.sum())
                for s in range(2)
            ]
            for size in ("small", "medium", "large")
            for count in ((1,) if "count" in KINDS[kind].findings[finding] else (None,))
        }  # fmt: skip
        assert max(areas["small"]) < min(areas["medium"])
        assert max(areas["medium"]) < min(areas["large"])


def test_difficulty_is_honoured() -> None:
    def contrast(difficulty: float) -> float:
        layout = Layout(modality="CT", anatomy="head", finding="infarct", difficulty=difficulty)
        return float(
            np.mean([PhantomDrawer().draw(layout, s, SIZE).phantom.truth.cnr for s in range(4)])
        )

    assert contrast(0.0) > 1.15 * contrast(1.0)


def test_the_same_seed_gives_the_same_image_and_another_seed_another() -> None:
    layout = Layout(modality="MR", anatomy="brain", finding="tumor", side="left", count=2)
    one, two, other = (DRAWER.draw(layout, seed, SIZE) for seed in (5, 5, 6))
    assert (one.pixels == two.pixels).all()
    assert (one.pixels != other.pixels).any()


def test_a_layout_is_json_and_comes_back() -> None:
    layout = Layout(
        modality="fundus", anatomy="eye", finding="vein occlusion",
        attributes={"quadrant": "superior"}, difficulty=0.5,
    )  # fmt: skip
    assert Layout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    assert str(layout) == "fundus eye: vein occlusion, quadrant superior"
    with pytest.raises(TypeError):
        Layout.from_dict(layout.to_dict() | {"colour": "red"})


HEAD = {"modality": "CT", "anatomy": "head"}
REFUSED = [
    (Layout(modality="MR", anatomy="knee"), "no phantom is drawn of MR knee, only of CT head"),
    (Layout(**HEAD, finding="nodule"), "nodule is none of its findings: none, hemorrhage, infarct"),
    (Layout(**HEAD, side="left"), "a side is not told of it"),
    (Layout(**HEAD, finding="infarct", difficulty=1.5), "difficulty 1.5 is not from 0 to 1"),
    (Layout(**HEAD, finding="infarct", count=9), "9 lesions are not drawn together, only 1 small"),
    (Layout(**HEAD, finding="infarct", count=2, size="large"), "2 large lesions are not drawn"),
    (Layout(**HEAD, finding="infarct", size="huge"), "huge lesions are not drawn together"),
    (Layout(**HEAD, attributes={"margin": "smooth"}), "margin cannot be smooth"),
    (
        Layout(modality="CT", anatomy="chest", finding="nodule", attributes={"margin": "round"}),
        "margin cannot be round, only smooth, spiculated",
    ),
    (
        Layout(modality="dermoscopy", anatomy="skin", finding="nevus", side="left"),
        "a side is not told of it",
    ),
    (
        Layout(modality="OCT", anatomy="eye", finding="subretinal fluid", count=3),
        "none of 60 seeds shows it, of the last count is 1",
    ),
]


@pytest.mark.parametrize(("layout", "reason"), REFUSED)
def test_what_cannot_be_drawn_is_refused_with_its_reason(layout: Layout, reason: str) -> None:
    with pytest.raises(CannotDraw) as refused:
        DRAWER.draw(layout, 0, 64)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_side_that_is_none_is_refused() -> None:
    layout = Layout(**HEAD, finding="infarct", side="both")
    with pytest.raises(CannotDraw, match="side cannot be both, only left, right"):
        DRAWER.draw(layout, 0, 64)
    assert refusal(Layout(**HEAD)) is None


def test_a_file_says_what_it_was_drawn_from(tmp_path: Path) -> None:
    layout = Layout(modality="X-ray", anatomy="chest", finding="effusion", side="right")
    drawn = DRAWER.write(layout, 7, 64, tmp_path / "a.dcm", "D-1")
    told = dcmread(tmp_path / "a.dcm")
    assert told.SyntheticData == "YES"
    assert told.PatientID == "PHANTOM-X-RAY-D-1"
    assert "Synthetic image drawn by triptych-phantoms" in told.DerivationDescription
    assert json.loads((tmp_path / "a.dcm.drawn.json").read_text()) == drawn.provenance
    assert drawn.provenance["layout"] == layout.to_dict()
    assert json.loads((tmp_path / "a.dcm.truth.json").read_text())["side"] == "right"


# Cells


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_becomes_a_layout_with_a_question_whose_answer_it_shows(kind: str) -> None:
    what = {"modality": KINDS[kind].modality, "anatomy": KINDS[kind].anatomy}
    shown = 0
    for seed, asked in enumerate(bank.QUESTION_TYPES):
        cell = Cell(**what, question_type=asked, difficulty="easy", answer_format="choice")
        plan = lay_out(cell, np.random.default_rng(seed), 0.2)
        assert plan.cell == cell
        assert (plan.qa.question_type, plan.qa.answer_format) == (asked, "choice")
        assert len(plan.qa.options) == 2
        assert plan.layout.difficulty == 0.2
        try:
            drawn = PhantomDrawer().draw(plan.layout, seed, 64)
        except CannotDraw:
            continue
        shown += 1
        assert answer_of(drawn.phantom.truth, plan.qa.question) == plan.qa.answer
    assert shown >= 3


def test_what_a_cell_leaves_free_is_chosen() -> None:
    plans = [lay_out(Cell(), np.random.default_rng(seed)) for seed in range(30)]
    assert len({plan.cell.modality for plan in plans}) > 4
    assert {plan.cell.question_type for plan in plans} == set(bank.QUESTION_TYPES)
    assert all(getattr(plan.cell, axis) for plan in plans for axis in Cell.__dataclass_fields__)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (Cell(modality="PET"), "PET: no phantom is of this modality and body part"),
        (Cell(modality="MR", anatomy="knee"), "MR knee: no phantom is of this"),
        (
            Cell(modality="MR", question_type="modality", answer_format="closed"),
            "MR modality closed: no phantom has such a question",
        ),
        (
            Cell(modality="CT", question_type="grading", difficulty="hard", answer_format="choice"),
            "CT grading hard choice: no phantom has such a question",
        ),
    ],
)
def test_a_cell_that_no_phantom_fills_is_refused(cell: Cell, reason: str) -> None:
    with pytest.raises(CannotDraw, match=reason):
        lay_out(cell, np.random.default_rng(0))
