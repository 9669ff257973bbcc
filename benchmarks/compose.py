"""Composed questions about phantoms: how many are true, and how many are answered by their words.

    python -m benchmarks.compose --images 80

Two questions of each image (of every kind so many), from truth and mask, in two sets that are
balanced apart. Who reads the words alone is naive Bayes on a question's clauses, a form at a time,
trained on one set and asked on the other; of a condition it is asked which branch is taken. Ends
with one line of JSON.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from math import log
from typing import Annotated

import numpy as np
import typer

from engine.records import Image, Triplet
from engine.statistics import wilson
from generators import phantoms
from generators.compose.balance import Balance
from generators.compose.composer import Composed, compose
from generators.compose.facts import of_truth
from generators.compose.forms import STEPS
from generators.compose.measures import measure
from generators.compose.program import Apply, Program
from generators.compose.rows import row_of
from generators.filters import reason
from generators.phantoms import oracle
from generators.phantoms.base import Phantom
from generators.phantoms.kinds import KINDS

SIZE = 64  # pixels
EVEN = dict.fromkeys(STEPS, 1.0)
Made = tuple[Phantom, Image, Composed, Triplet]
Asked = tuple[str, str, str]  # a form, a question, what it comes to


def half(image: Image) -> int:
    """Which of the two sets an image is in."""
    return int(image.id, 16) // 7919 % 2


@cache
def from_truth(images: int) -> tuple[Made, ...]:
    """Two questions each of so many phantoms of every kind."""
    found: list[Made] = []
    balances = (Balance(), Balance())
    for place, kind in enumerate(KINDS):
        for seed in range(images):
            phantom = phantoms.draw(kind, seed, SIZE, 0.3)
            name = f"{(place * images + seed + 1) * 7919:032x}"
            image = oracle.image_of(phantom.truth, name)
            spacing = (phantom.pixel_spacing_mm, phantom.pixel_spacing_mm)
            sizes = measure(phantom.mask, spacing, phantom.truth.finding)
            facts = [*of_truth(image), *(sizes.facts(image.id) if sizes else ())]
            width = sizes.width_mm if sizes else None
            rng = np.random.default_rng([place, seed])
            made, _ = compose(facts, width, 2, EVEN, balances[half(image)], rng)
            for number, one in enumerate(made):
                row, _ = row_of(image, one, 0, number, 1)
                found.append((phantom, image, one, row))
    return tuple(found)


def told_by_words(rows: tuple[Made, ...]) -> dict[str, tuple[int, int]]:
    """By form, how many are right by their words alone, and of how many."""
    sets: tuple[list[Asked], list[Asked]] = ([], [])
    for _, image, one, row in rows:
        if comes_to := _comes_to(one):
            sets[half(image)].append((*comes_to[:1], row.question, comes_to[1]))
    right: Counter[str] = Counter()
    number: Counter[str] = Counter()
    for train, test in (sets, sets[::-1]):
        counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for form, asked, answer in train:
            counts[form][answer].update(_shown(asked))
        for form, asked, answer in test:
            scores = dict(_scores(counts[form], _shown(asked)))
            right[form] += bool(scores) and max(scores, key=lambda a: scores[a]) == answer
            number[form] += 1
    return {form: (right[form], number[form]) for form in sorted(number)}


def _comes_to(one: Composed) -> tuple[str, str] | None:
    """A question's form and answer, or branch; None of one that asks for a width."""
    tree = one.program.tree
    assert isinstance(tree, Apply)
    if one.form == "condition":
        return one.form, Program(tree.args[0]).answer
    if one.form == "counting":
        return f"counting {len(tree.args)}", one.answer
    return (one.form, one.answer) if one.closed else None


def _shown(asked: str) -> set[str]:
    """How a question begins, and its clauses."""
    return {asked[:12], *re.findall(r"(?:there|the|hair) [^;,?]+", asked)}


def _scores(counts: dict[str, Counter[str]], shown: set[str]) -> Iterator[tuple[str, float]]:
    for answer, seen in counts.items():
        whole = seen.total() + 500
        yield answer, sum(log((seen[feature] + 1) / whole) for feature in shown)


def main(images: Annotated[int, typer.Option(min=2, help="Of every kind; even.")] = 20) -> None:
    """Compose, and print a line a form."""
    rows = from_truth(images)
    truths = Counter(oracle.is_true(image, row) for _, image, _, row in rows)
    steps = Counter(one.steps for *_, one, _ in rows)
    refused = Counter(found for *_, row in rows if (found := reason(row)))
    asked = f"{len(rows)} questions on {images * len(KINDS)} phantoms"
    print(f"{asked}; by steps {dict(sorted(steps.items()))}")
    print(f"true by the oracle {truths[True]}, false {truths[False]}, of widths {truths[None]}")
    print(f"refused by a filter: {dict(refused)}")
    told = told_by_words(rows)
    for form, (right, number) in told.items():
        low, high = wilson(right, number)
        share = f"{right / number:.2f} [{low:.2f}, {high:.2f}]"
        print(f"{form:12} by its words {right} of {number}: {share}")
    figures = {"true": truths[True], "false": truths[False], "told": told}
    print(json.dumps({"rows": len(rows)} | figures))


if __name__ == "__main__":
    typer.run(main)
