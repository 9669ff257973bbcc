"""Wrong steps of a rationale: how many are found, by rules, by the judge, by both; and how many
true rationales are taken for wrong.

    python -m benchmarks.process                                    # rules alone, on drawn truths
    python -m benchmarks.process --workspace runs/demo --images 150 # its newest judge besides

A row is a true question about a phantom with its true answer, and a rationale: the reporter's own,
or one with a single thing wrong. Images of a workspace are those of patients from whom its judge
never learned. A judge without a calibration of its reasoning criterion gets one here, on true
rationales and those of another image, of patients of the set calibrate; the figures are of the
other ones. `auc` is that of the process score without the rules, a kind's rows against the true
ones of one step (of two, where a second step is wrong). Ends with one line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from engine.records import Image
from engine.statistics import auc, wilson
from generators import phantoms
from generators.phantoms import reporter
from generators.phantoms.bank import QA, SUBJECTS, shown_kind
from generators.phantoms.base import Truth
from generators.phantoms.composer import compose_any
from generators.phantoms.oracle import answer_of, truth_of
from reward_model.calibration import fit_platt
from reward_model.patient_sets import CALIBRATE, is_frozen, set_of
from reward_model.process import EVEN, IMAGE, REASONING, Reasoning, Reply, reasonings
from reward_model.scoring import Judge

Rng = np.random.Generator
# A truth, that of another image, what is asked, chance -> a rationale, None where there is none.
Write = Callable[[Truth, Truth, QA, Rng], str | None]
TRUE = ("true, one step", "true, two steps")
SWAPPED, SECOND = "another image's", "second step wrong"


def _of(change: Callable[[Truth, Rng], Truth | None]) -> Write:
    def write(truth: Truth, other: Truth, asked: QA, rng: Rng) -> str | None:
        changed = change(truth, rng)
        return reporter.describe(changed) if changed else None

    return write


def _side(truth: Truth, rng: Rng) -> Truth | None:
    return (
        replace(truth, side={"left": "right", "right": "left"}[truth.side]) if truth.side else None
    )


def _count(truth: Truth, rng: Rng) -> Truth | None:
    others = [n for n in range(1, 5) if n != truth.count]
    return replace(truth, count=int(rng.choice(others))) if truth.count else None


def _broken(truth: Truth, other: Truth, asked: QA, rng: Rng) -> str | None:
    words = reporter.describe(truth).rstrip(".").split()
    return " ".join(rng.permutation(words)) + "."


def _leads_elsewhere(truth: Truth, other: Truth, asked: QA, rng: Rng) -> str | None:
    """One fact changed, from which another answer to the question follows."""
    changed = (reporter.corrupt(truth, rng) for _ in range(30))
    for one in changed:
        if answer_of(one, asked.question) != asked.answer:
            return reporter.describe(one)
    return None


def _another(truth: Truth, other: Truth, asked: QA, rng: Rng) -> str | None:
    said = reporter.describe(other)
    return said if said != reporter.describe(truth) else None


KINDS: dict[str, Write] = {
    TRUE[0]: lambda truth, other, asked, rng: reporter.rationale(truth, "step", rng),
    TRUE[1]: lambda truth, other, asked, rng: reporter.rationale(truth, "meta", rng),
    "one fact changed": _of(reporter.corrupt),
    "the fact asked for changed": _leads_elsewhere,
    "the other side": _of(_side),
    "another count": _of(_count),
    SWAPPED: _another,
    "words shuffled": _broken,
    SECOND: lambda truth, other, asked, rng: (
        f"{reporter.describe(truth)} " + (f"Not {truth.finding}.")
    ),
}


@dataclass(frozen=True)
class Row:
    """A reply whose rationale is of a kind, about an image of a patient of a set."""

    kind: str
    reply: Reply
    set: str


def rows_of(shown: Sequence[tuple[Truth, bytes, str]], seed: int) -> Iterator[Row]:
    """Of each image (truth, PNG, set of its patient) a question with a rationale of each kind."""
    rng = np.random.default_rng(seed)
    for truth, png, where in shown:
        _, asked = compose_any(truth, rng)
        alike = [other for other, _, _ in shown if shown_kind(other) == shown_kind(truth)]
        other = alike[rng.integers(len(alike))]
        for kind, write in KINDS.items():
            said = write(truth, other, asked, rng)
            if said is not None:
                reply = Reply(png, asked.question, asked.options, said, asked.answer)
                yield Row(kind, reply, where)


def drawn(images: int) -> list[tuple[Truth, bytes, str]]:
    """Truths of phantoms of every kind in turn, without their pictures."""
    kinds = list(SUBJECTS)
    return [(phantoms.draw(kinds[n % len(kinds)], n, 64).truth, b"", "") for n in range(images)]


def of_workspace(root: Path, images: int) -> tuple[list[tuple[Truth, bytes, str]], Path]:
    """Images of patients from whom no judge learns, and the folder of the newest judge."""
    import pyarrow.parquet as pq

    from engine.pixels import Pixels
    from engine.records import Model, from_arrow

    def read(table: type[Image] | type[Model]) -> list[Image | Model]:
        shards = sorted(root.glob(f"events/*/{table.table}-*.parquet"))
        return [row for shard in shards for row in from_arrow(table, pq.read_table(shard))]

    every = [i for i in read(Image) if isinstance(i, Image)]
    frozen = [i for i in every if is_frozen(i.group) and i.split == "train"]
    chosen = sorted(frozen, key=lambda i: i.id)[:images]
    pixels = Pixels(root)
    shown = [
        (truth, pixels[i.id], set_of(i.group)) for i in chosen if (truth := truth_of(i)) is not None
    ]
    judges = [m for m in read(Model) if isinstance(m, Model) and m.role == "judge"]
    return shown, root / judges[-1].path


def calibrated(judge: Judge, rows: Sequence[Row]) -> tuple[float, float]:
    """Platt's slope and offset of the reasoning criterion, from whole rationales."""
    words, some = judge.settings.prompts, [row for row in rows if row.kind in (TRUE[0], SWAPPED)]
    logits = judge.scores([row.reply.request(words, row.reply.rationale) for row in some])
    return fit_platt(logits[:, REASONING], np.array([row.kind == TRUE[0] for row in some]))


def found(reasoning: Reasoning, by: str) -> bool:
    """Whether something is found, by rules, by the judge, or by either."""
    rules = any(one.of != IMAGE for one in reasoning.found)
    judge = any(chance < EVEN for chance in reasoning.sound)
    return {"rules": rules, "judge": judge, "both": rules or judge}[by]


def table(rows: Sequence[Row], read: Sequence[Reasoning], by: Sequence[str]) -> dict[str, object]:
    """Of each kind how many rows, and the share in which something is found, with its interval."""
    told: dict[str, object] = {}
    for kind in KINDS:
        mine = [each for row, each in zip(rows, read) if row.kind == kind]
        if not mine:
            continue
        figures: dict[str, object] = {"n": len(mine)}
        for name in by:
            hits = sum(found(each, name) for each in mine)
            low, high = wilson(hits, len(mine))
            figures[name] = [round(v, 3) for v in (hits / len(mine), low, high)]
        if "judge" in by and kind not in TRUE:
            right = TRUE[kind == SECOND]
            true = [min(each.sound) for row, each in zip(rows, read) if row.kind == right]
            scores = [*true, *(min(each.sound) for each in mine)]
            figures["auc"] = round(auc(scores, [True] * len(true) + [False] * len(mine)), 3)
        told[kind] = figures
    return told


def main(
    workspace: Annotated[Path | None, typer.Option(help="whose newest judge reads too")] = None,
    images: Annotated[int, typer.Option(help="how many")] = 150,
    threads: Annotated[int, typer.Option(help="torch threads")] = 2,
) -> None:
    """Count what is found."""
    if workspace is None:
        rows = list(rows_of(drawn(images), 0))
        result = table(rows, reasonings([row.reply for row in rows], None), ["rules"])
    else:
        shown, folder = of_workspace(workspace, images)
        judge = Judge(str(folder), "benchmark", threads)
        rows = list(rows_of(shown, 0))
        if judge.settings.reasoning is None:
            fit = calibrated(judge, [row for row in rows if row.set == CALIBRATE])
            judge.settings = replace(judge.settings, reasoning=fit)
        rows = [row for row in rows if row.set != CALIBRATE]
        read = reasonings([row.reply for row in rows], judge)
        result = table(rows, read, ["rules", "judge", "both"])
    for kind, figures in result.items():
        typer.echo(f"{kind:26} {figures}")
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
