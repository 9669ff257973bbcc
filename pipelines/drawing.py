"""Images on demand: drawn for cells that no image can fill, from one plan with question and answer.

Each is written as a phantom is, read as every file is, and joins the training images, marked as
synthetic and with the layout that it was drawn to. It never gets into validation or test, whatever
the source. Its row is true by construction: what was drawn is recounted from the mask, and the
answer is looked up again in that. So the row is kept without a judge, and no promise that selection
makes of generated rows is of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from engine.imaging.decode import Decoder
from engine.imaging.ingest import Rules, ingest_file
from engine.lineage.files import file_hash
from engine.records import Decision, Image, Picture, Task, Triplet, content_id
from engine.workspace import Stage
from generators.layout import Drawer, Layout
from generators.phantoms.asked import CannotDraw
from generators.phantoms.bank import PROMPT_STYLES
from generators.phantoms.drawer import PhantomDrawer
from generators.phantoms.oracle import answer_of, truth_of
from generators.phantoms.planner import Cell, Planned, lay_out
from pipelines.context import Context
from pipelines.source import secret_key
from reward_model.experts import styles_of
from reward_model.experts.simulated import expert_row

DRAWN = "drawn"  # who wrote the rows, and where the files are below the phantoms
KEPT = "drawn with its image"
PLANS = 20  # tried for one image
SHARD = 500  # images

Wanted = tuple[Mapping[str, Any], int]  # values by axis, and how many


@dataclass(frozen=True, slots=True)
class Filled:
    """How many images of a cell were drawn, and why there are no more of them."""

    drawn: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """One image on demand, with its row."""

    image: Image
    picture: Picture
    row: Triplet
    task: Task


def draw_cells(
    context: Context, stage: Stage, wanted: Iterable[Wanted], drawer: Drawer | None = None
) -> list[Filled]:
    """Draw for each cell as many images as are wanted, and write them with their rows.

    A cell holds values by axis: modality, anatomy, question_type, difficulty, answer_format, style,
    steps. Returns for each how many were drawn, with the reason in one line where they are fewer.
    """
    filled: list[Filled] = []
    folder = context.workspace.root / "phantoms"

    def each() -> Iterator[Made]:
        with Decoder() as decoder:
            for place, (cell, number) in enumerate(wanted):
                studio = _Studio(context, stage.round, folder, decoder, drawer or PhantomDrawer())
                done, why = 0, ""
                try:
                    for done in range(number):
                        yield studio.make(cell, f"r{stage.round}-{place:03d}-{done:04d}")
                        context.display.advance(done + 1, number, "images on demand")
                    done = number
                except CannotDraw as error:
                    why = str(error)
                filled.append(Filled(done, why))

    tasks: dict[str, Task] = {}
    shown: Counter[str] = Counter()
    made = each()
    for number in count():
        some = list(islice(made, SHARD))
        if not some:
            break
        shard = f"{DRAWN}{number:03d}"
        stage.write(Picture, [one.picture for one in some], shard)
        stage.write(Image, [one.image for one in some], shard)
        stage.write(Triplet, [one.row for one in some], shard)
        stage.write(Decision, [_decision(one.row) for one in some], shard)
        tasks |= {one.task.id: one.task for one in some}
        shown.update(one.image.modality for one in some)
    if tasks:
        stage.write(Task, tasks.values(), DRAWN)
    stage.metrics |= {"drawn": dict(sorted(shown.items()))}
    return filled


def _decision(row: Triplet) -> Decision:
    rules_id = content_id(DRAWN)
    return Decision(
        id=content_id("decision", row.id, rules_id, row.round),
        triplet_id=row.id,
        rules_id=rules_id,
        round=row.round,
        keep=True,
        reason=KEPT,
        score=1.0,
        threshold=0.0,
    )


@dataclass(frozen=True, slots=True)
class _Studio:
    """Where images are drawn and read again."""

    context: Context
    round: int
    folder: Path
    decoder: Decoder
    drawer: Drawer

    def make(self, cell: Mapping[str, Any], name: str) -> Made:
        """One image of a cell with its row, the same for the same name and seed."""
        config = self.context.config
        if int(cell.get("steps", 1)) > 1:
            raise CannotDraw("questions of several steps are composed, not drawn")
        known = {a: str(cell[a]) for a in Cell.__dataclass_fields__ if cell.get(a)}
        seed = int(content_id(config.seed, DRAWN, name, known)[:8], 16) >> 1
        rng = np.random.default_rng(seed)
        names, shares = zip(*styles_of(config).items())
        drawn_style = str(rng.choice(names, p=np.array(shares) / sum(shares)))
        style = str(cell.get("style") or drawn_style)
        if style not in PROMPT_STYLES:
            raise CannotDraw(f"answers in the style {style} are generated, not drawn")
        reason = CannotDraw("what was drawn does not answer the question as planned")
        for _ in range(PLANS):
            plan = lay_out(Cell(**known), rng, config.source.difficulty)
            try:
                image, picture = self._drawn(plan.layout, seed, name)
            except CannotDraw as error:
                reason = error
                continue
            truth = truth_of(image)
            if truth is not None and answer_of(truth, plan.qa.question) == plan.qa.answer:
                return Made(
                    image, picture, *self._row(image, plan, style, seed, bool(cell.get("anatomy")))
                )
        raise CannotDraw(f"none of {PLANS} plans could be drawn, the last since {reason}")

    def _drawn(self, layout: Layout, seed: int, name: str) -> tuple[Image, Picture]:
        """Written, and read as ingest reads a phantom."""
        source = f"{DRAWN}/{name}.dcm"
        path = self.folder / source
        path.parent.mkdir(parents=True, exist_ok=True)
        config = self.context.config
        self.drawer.write(layout, seed, config.source.size, path, f"D-{name}")
        key = secret_key(config.source, config.seed, self.context.workspace.root)
        read = ingest_file(self.decoder, self.folder, path, rules_of_drawn(key, path, source))
        if not read.images:
            raise CannotDraw(f"{layout}: {read.refusals[0].reason}")
        image = read.images[0]
        return replace(image, group=image.patient, split="train"), read.pictures[0]

    def _row(
        self, image: Image, plan: Planned, style: str, seed: int, by_anatomy: bool
    ) -> tuple[Triplet, Task]:
        """The planned question and answer, reasoned as an expert reasons in a style."""
        cell = plan.cell
        asked = {"question_type": cell.question_type, "difficulty": cell.difficulty}
        row, _ = expert_row(image, plan.qa, style, seed, 0, asked)
        task = Task.make(
            cell.modality,
            cell.question_type,
            cell.difficulty,
            cell.answer_format,
            style,
            cell.anatomy if by_anatomy else "",
        )
        name = content_id("triplet", image.id, DRAWN, task.id, seed, row.raw)
        return replace(row, id=name, generator_id=DRAWN, task_id=task.id, round=self.round), task


def rules_of_drawn(key: bytes, path: Path, source: str) -> Rules:
    """How an image on demand is read: no file of a patient, so its name is kept."""
    return Rules(key=key, keep_paths=True, public=True, drawn={source: file_hash(path)})


def drawn_again(image: Image, drawer: Drawer, folder: Path) -> Path:
    """Write an image on demand again below a folder, from what its row says it was drawn from."""
    made = json.loads(image.drawn or "{}")
    path = folder / image.source
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = Layout.from_dict(made["layout"])
    drawer.write(layout, made["seed"], made["size"], path, f"D-{path.stem}")
    return path
