"""Rows that teach safety, about phantoms and VQA-RAD: how many are true, and what gives them away.

    python -m benchmarks.safety --images 40 --vqa-rad FOLDER --read 40

Answers come from truths, and from VQA-RAD's gold answers that are yes or no. Counted are rows that
the oracle finds true, that a filter or a rule of reasoning refuses, and how often one is right who
does not look: who chooses "cannot be told from this image" wherever it is offered; who answers what
the text in the picture says; who reads the words of questions alone (naive Bayes, trained on half
of the groups and asked on the other, each way) and tells which cannot be told.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from engine.config.safety import Safety
from engine.imaging.ocr import _engine
from engine.prompts import CANNOT_BE_TOLD
from engine.records import Image
from engine.sets.vqa_rad import read_vqa_rad
from engine.statistics import wilson
from generators import phantoms
from generators.filters import reason
from generators.phantoms import oracle
from generators.phantoms.kinds import KINDS
from generators.safety import elsewhere, instruction, unanswerable
from generators.safety.inscription import lay_out, written
from generators.safety.lessons import Answered, Lesson, Pool, of_truth
from generators.safety.rows import row_of
from reward_model.process import Reply, reasonings

SIZE = 64  # pixels
MAKERS = {
    "instruction": instruction.groups,
    "organ": elsewhere.groups,
    "unanswerable": unanswerable.groups,
}
Groups = list[list[Lesson]]


def of_phantoms(images: int) -> Pool:
    """So many phantoms of every kind, in a shuffled order, with questions from their truth."""
    rng = np.random.default_rng(0)
    names = [(kind, seed) for kind in KINDS for seed in range(images)]
    drawn = []
    for place in rng.permutation(len(names)):
        kind, seed = names[place]
        truth = phantoms.draw(kind, seed, SIZE, 0.3).truth
        drawn.append(oracle.image_of(truth, f"{(int(place) + 1) * 7919:032x}"))
    return Pool(drawn, [known for image in drawn for known in of_truth(image, rng)])


def of_vqa_rad(folder: Path) -> Pool:
    """Its images, of which no modality is known, and its closed questions."""
    rng = np.random.default_rng(0)
    asked = read_vqa_rad(folder).questions
    shown = {q.image: q.anatomy for q in asked}
    images = {
        name: Image(
            id=f"{(n + 1) * 7919:032x}", width=1, height=1, modality="other", anatomy=anatomy,
            group="", split="train", source=name, rendering="{}", deidentification="",
            is_synthetic=False,
        )
        for n, (name, anatomy) in enumerate(sorted(shown.items()))
    }  # fmt: skip
    answered = [
        Answered(images[q.image], q.question, q.options, q.answer, "", (f"{n}",))
        for n, q in enumerate(asked)
        if q.options
    ]
    order = list(images.values())
    return Pool(
        [order[n] for n in rng.permutation(len(order))],
        [answered[n] for n in rng.permutation(len(answered))],
    )


def told_by_words(groups: Groups) -> tuple[int, int, float]:
    """How many questions are told rightly by their words whether they can be told, of how many.

    And what is right by chance: the larger of the two classes.
    """
    sets = groups[::2], groups[1::2]
    right = number = refusals = 0
    for train, test in (sets, sets[::-1]):
        counts: dict[bool, Counter[str]] = defaultdict(Counter)
        prior: Counter[bool] = Counter()
        for lesson in (lesson for group in train for lesson in group):
            counts[_refused(lesson)].update(_words(lesson))
            prior[_refused(lesson)] += 1
        known = len(set().union(*counts.values()))
        for lesson in (lesson for group in test for lesson in group):
            scores = {
                refused: log(prior[refused])
                + sum(log((seen[word] + 1) / (seen.total() + known)) for word in _words(lesson))
                for refused, seen in counts.items()
            }
            right += max(scores, key=lambda refused: scores[refused]) == _refused(lesson)
            refusals += _refused(lesson)
            number += 1
    return right, number, max(refusals, number - refusals) / number


def _refused(lesson: Lesson) -> bool:
    return lesson.answer == CANNOT_BE_TOLD


def _words(lesson: Lesson) -> set[str]:
    words = re.findall(r"\w+", " ".join((lesson.question, *lesson.options)).lower())
    return {*words, *map(" ".join, pairwise(words))}


def _by_option(groups: Groups) -> tuple[int, int, float]:
    lessons = [lesson for group in groups for lesson in group]
    chance = float(np.mean([1 / len(lesson.options) for lesson in lessons]))
    return sum(map(_refused, lessons)), len(lessons), chance


def _by_text(groups: Groups) -> tuple[int, int, float]:
    lessons = [lesson for group in groups for lesson in group]
    right = sum(json.loads(lesson.rule)["names"] == lesson.answer for lesson in lessons)
    chance = float(np.mean([1 / len(lesson.options) for lesson in lessons]))
    return right, len(lessons), chance


def read_again(number: int, size: int) -> tuple[int, int]:
    """Of so many phantoms with a text, how many texts RapidOCR reads letter by letter.

    It is shown the plate, twice as large.
    """
    rng = np.random.default_rng(2)
    right = 0
    for place in range(number):
        phantom = phantoms.draw(list(KINDS)[place % len(KINDS)], place, size, 0.3)
        pixels = phantoms.to_display(phantom)
        text = instruction.instruction("Is there a mass?", ("yes", "no"), "yes", rng)
        how = lay_out(pixels, text, rng, phantom.mask)
        left, top, right_, bottom = how.box
        plate = written(pixels, how)[top:bottom, left:right_]
        colour = np.stack([plate] * 3, -1) if plate.ndim == 2 else plate
        edged = np.pad(colour, ((20, 20), (20, 20), (0, 0)), mode="edge")
        told = _engine()(np.ascontiguousarray(edged.repeat(2, 0).repeat(2, 1))).txts or ()
        right += _letters(" ".join(told)) == _letters(text)
    return right, number


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def report(name: str, pool: Pool) -> dict[str, dict[str, float]]:
    """Print a part for each kind of lesson; its figures."""
    policy = Safety().policy
    print(f"\n{name}: {len(pool.answered)} answered questions on {len(pool.images)} images")
    figures: dict[str, dict[str, float]] = {}
    for kind, make in MAKERS.items():
        groups = list(make(pool, policy, np.random.default_rng(1)))
        rows = [(one, row_of(one, 0, n, 1)[0]) for group in groups for n, one in enumerate(group)]
        truths = Counter(oracle.is_true(one.image, row) for one, row in rows)
        refused = Counter(found for _, row in rows if (found := reason(row)))
        replies = [Reply(b"", r.question, r.options, r.rationale, r.answer) for _, r in rows]
        unsound = sum(bool(one.found) for one in reasonings(replies, None))
        words = [len(row.rationale.split()) for _, row in rows]
        print(
            f"{kind}: {len(rows)} rows in {len(groups)} groups; true {truths[True]}, "
            f"false {truths[False]}, not known {truths[None]}; "
            f"refused by a filter {dict(refused)}; "
            f"a rule finds a contradiction in {unsound}; words of reasoning {np.median(words):.0f}"
        )
        blind = {"by the text": _by_text} if kind == "instruction" else {
            "by the option": _by_option, "by words, refuse or not": told_by_words}  # fmt: skip
        for how, count in blind.items():
            right, number, chance = count(groups)
            low, high = wilson(right, number)
            print(
                f"  right {how}: {right} of {number}: {right / number:.3f} "
                f"[{low:.3f}, {high:.3f}], chance {chance:.3f}"
            )
        figures[kind] = {"rows": len(rows), "true": truths[True], "false": truths[False]}
    return figures


def main(
    images: Annotated[int, typer.Option(min=2, help="Of every kind.")] = 20,
    vqa_rad: Annotated[Path | None, typer.Option(help="VQA-RAD's folder.")] = None,
    read: Annotated[int, typer.Option(help="Texts to be read by RapidOCR.")] = 0,
) -> None:
    """Make lessons, and print their figures; ends with one line of JSON."""
    for size in (128, 256) if read else ():
        right, number = read_again(read, size)
        print(f"texts of {size} px phantoms read letter by letter: {right} of {number}")
    figures = {"phantoms": report("phantoms", of_phantoms(images))}
    if vqa_rad:
        figures["vqa_rad"] = report("VQA-RAD", of_vqa_rad(vqa_rad))
    print(json.dumps(figures))


if __name__ == "__main__":
    typer.run(main)
