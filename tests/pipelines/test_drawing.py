"""Images on demand: rows of a stage like any other image, with the planned question and answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import dcmread

from engine.config import build
from engine.imaging.decode import Decoder
from engine.imaging.ingest import ingest_file
from engine.lineage.opening import writing
from engine.lineage.verify import verify
from engine.pixels import Pixels
from engine.records import Decision, Image, Task, Triplet
from engine.workspace import Stage, Workspace
from generators.phantoms.dicom import write_cohort
from generators.phantoms.drawer import unlike
from generators.phantoms.oracle import is_true, truth_of
from pipelines import ingest, plan
from pipelines.commands.reproduce import reproduce
from pipelines.context import Context, run_stage
from pipelines.drawing import DRAWN, KEPT, Filled, Layout, draw_cells, rules_of_drawn
from pipelines.record import kept_triplets, shown
from reward_model.experts import styles_of

WANTED = [
    ({"modality": "CT", "question_type": "grading", "difficulty": "easy"}, 3),
    ({"modality": "MR", "anatomy": "brain", "answer_format": "open", "style": "step"}, 2),
    ({"modality": "PET"}, 4),
    ({"modality": "CT", "steps": 3}, 1),
]
FILLED = [
    Filled(3),
    Filled(2),
    Filled(0, "PET: no phantom is of this modality and body part"),
    Filled(0, "questions of several steps are composed, not drawn"),
]


def drawn_in(root: Path, *settings: str) -> tuple[Context, list[Filled]]:
    """A workspace whose stage plan drew what is WANTED."""
    config = build({}, ["source.size=64", "cluster.address=inline", *settings], "the test")
    reasons: list[Filled] = []

    def draw(context: Context, stage: Stage) -> None:
        reasons.extend(draw_cells(context, stage, WANTED))

    with writing(root, config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        run_stage(context, "plan", 1, draw, [("ingest", 0)], {})
    return Context(Workspace.existing(root), config), reasons


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, list[Filled]]:
    return drawn_in(tmp_path_factory.mktemp("demand") / "w", "source.phantoms={ultrasound: 5}")


def test_each_cell_is_drawn_or_says_why_not(made: tuple[Context, list[Filled]]) -> None:
    context, reasons = made
    assert reasons == FILLED
    images = context.rows(Image, "plan")
    assert [image.modality for image in images] == ["CT"] * 3 + ["MR"] * 2
    assert len({image.id for image in images}) == 5
    assert context.workspace.commits()[-1]["metrics"]["drawn"] == {"CT": 3, "MR": 2}


def test_drawn_images_train_and_are_marked(made: tuple[Context, list[Filled]]) -> None:
    context, _ = made
    earlier = {image.group for image in context.rows(Image, "ingest")}
    for image in context.rows(Image, "plan"):
        assert image.is_synthetic
        assert image.split == "train"
        assert image.source.startswith(f"{DRAWN}/r1-")
        assert image.group == image.patient not in earlier
        told = json.loads(image.drawn or "")
        assert told["generator"] == "triptych-phantoms"
        truth = truth_of(image)
        assert truth is not None
        assert unlike(Layout.from_dict(told["layout"]), truth) is None
        file = dcmread(context.workspace.root / "phantoms" / image.source)
        assert file.SyntheticData == "YES"
    pixels = Pixels(context.workspace.root)
    assert all(image.id in pixels for image in context.images())
    assert len(list(shown(context, "train"))) >= 5


def test_the_row_is_of_the_cell_true_and_kept(made: tuple[Context, list[Filled]]) -> None:
    context, _ = made
    images = {image.id: image for image in context.images()}
    tasks = {task.id: task for task in context.rows(Task)}
    rows = context.rows(Triplet, "plan")
    assert len(rows) == 5
    for row, cell in zip(rows, [WANTED[0][0]] * 3 + [WANTED[1][0]] * 2):
        assert is_true(images[row.image_id], row)
        assert row.generator_id == DRAWN
        assert row.round == 1
        task = tasks[row.task_id].to_dict()
        named = {"prompt_style": "style"}
        asked = {axis: task[axis] for axis in task if axis in cell}
        asked |= {of: task[axis] for axis, of in named.items() if of in cell}
        assert asked == cell
        assert task["anatomy"] == cell.get("anatomy", "")
    assert rows[3].rationale
    assert {d.reason for d in context.rows(Decision)} == {KEPT}
    assert [row.id for row in kept_triplets(context, 1)] == [row.id for row in rows]


def test_the_record_is_whole_and_an_image_can_be_made_again(
    made: tuple[Context, list[Filled]],
) -> None:
    context, _ = made
    assert verify(context.workspace).problems == []
    told = reproduce(context.workspace, context.rows(Image, "plan")[4].id)
    assert told["equal"], told


def test_the_same_seed_draws_the_same(made: tuple[Context, list[Filled]], tmp_path: Path) -> None:
    again, _ = drawn_in(tmp_path / "w", "source.phantoms={ultrasound: 5}")
    assert again.rows(Triplet, "plan") == made[0].rows(Triplet, "plan")
    assert again.rows(Image, "plan") == made[0].rows(Image, "plan")
    other, _ = drawn_in(tmp_path / "v", "source.phantoms={ultrasound: 5}", "seed=1")
    assert {r.id for r in other.rows(Image, "plan")}.isdisjoint(
        {r.id for r in again.rows(Image, "plan")}
    )


def test_a_quota_that_no_image_can_fill_has_images_drawn(tmp_path: Path) -> None:
    """Stage plan, with the quotas of the configuration: what is not met is drawn or said."""
    cells = "[{modality: CT, question_type: disease, tasks: 3}, {modality: PET, tasks: 2}]"
    config = build(
        {},
        ["source.phantoms={ultrasound: 5}", "source.size=64", "source.draw=true",
         "cluster.address=inline", f"generator.quotas.cells={cells}", "generator.tasks=20"],
        "the test",
    )  # fmt: skip
    with writing(tmp_path / "w", config.name, config.recorded()) as workspace:
        context = Context(workspace, config)
        run_stage(context, "ingest", 0, ingest.ingest, [], {})
        commit = run_stage(context, "plan", 1, plan.plan, [("ingest", 0)], {})
    context = Context(Workspace.existing(tmp_path / "w"), config)
    assert commit["metrics"]["drawn"] == {"CT": 3}
    assert commit["metrics"]["tasks"] == 15
    (left,) = commit["metrics"]["unfilled"]
    assert (left["cell"], left["tasks"]) == ({"modality": "PET"}, 2)
    assert left["why"].endswith("not drawn: PET: no phantom is of this modality and body part")
    images = {image.id: image for image in context.rows(Image, "plan")}
    tasks = {task.id: task for task in context.rows(Task)}
    rows = context.rows(Triplet, "plan")
    assert [tasks[row.task_id].question_type for row in rows] == ["disease"] * 3
    assert all(is_true(images[row.image_id], row) for row in rows)
    assert verify(context.workspace).problems == []


def test_beside_real_images_what_is_drawn_is_for_training_alone(tmp_path: Path) -> None:
    list(write_cohort(tmp_path / "hospital", {"MR": 6}, 64, 3, 0.3))
    context, reasons = drawn_in(
        tmp_path / "w", f"source.path={tmp_path / 'hospital'}", "source.public=true",
        "source.split={train: 0.4, val: 0.3, test: 0.3}", "expert=none",
    )  # fmt: skip
    assert reasons == FILLED
    real, drawn = context.rows(Image, "ingest"), context.rows(Image, "plan")
    assert {image.split for image in real} > {"train"}
    assert [(i.is_synthetic, i.truth) for i in real] == [(False, None)] * len(real)
    assert {(i.is_synthetic, i.split) for i in drawn} == {(True, "train")}
    told = reproduce(context.workspace, drawn[0].id)
    assert told["equal"], told


def test_a_row_of_a_debate_is_not_drawn(tmp_path: Path) -> None:
    """What is reasoned from a truth is no exchange of readings, and is not taught as one."""
    context, reasons = drawn_in(
        tmp_path / "w", "source.phantoms={ultrasound: 5}", "generator.prompts=full",
        "generator.styles={debate: 1, step: 0}",
    )  # fmt: skip
    assert reasons == FILLED
    assert {task.prompt_style for task in context.rows(Task, "plan")} == {"step"}
    assert list(styles_of(context.config)) == ["step"]
    with writing(
        context.workspace.root, context.config.name, context.config.recorded()
    ) as workspace:
        again = workspace.begin("plan", 2, "fingerprint")
        cell = {"modality": "CT", "style": "debate"}
        (filled,) = draw_cells(Context(workspace, context.config), again, [(cell, 1)])
    assert filled == Filled(0, "answers in the style debate are generated, not drawn")


def test_a_file_that_only_says_so_is_no_image_on_demand(
    made: tuple[Context, list[Filled]], tmp_path: Path
) -> None:
    """Truth and layout are taken of what this workspace drew, by its hash, and of nothing else."""
    context, _ = made
    source = context.rows(Image, "plan")[0].source
    path = context.workspace.root / "phantoms" / source
    rules = rules_of_drawn(b"key", path, source)
    copy = tmp_path / "phantoms" / source
    copy.parent.mkdir(parents=True)
    for end in ("", ".truth.json", ".drawn.json"):
        data = Path(f"{path}{end}").read_bytes()
        Path(f"{copy}{end}").write_bytes(data + (b"\0\0" if not end else b""))
    with Decoder() as decoder:
        (image,) = ingest_file(decoder, tmp_path / "phantoms", copy, rules).images
    assert (image.is_synthetic, image.truth, image.drawn, image.twin_of) == (False, None, None, "")
