"""What is made of an image and its twin: rows to imitate in pairs, and pairs for the judge by rule.

A twin is the same image with one thing changed (`generators.phantoms.twins`). One question is put
to both that they answer differently, so that whoever reads the question alone, or sees all of the
image but the change, is right in one of two. Each text is true as often as it is false.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from engine.records import Image, Preference, Task, Triplet
from generators.phantoms.oracle import truth_of
from generators.phantoms.twins import Paired, paired
from reward_model.experts.expert import Exemplar
from reward_model.experts.simulated import expert_row
from reward_model.patient_sets import is_frozen
from reward_model.preferences import preference
from reward_model.swaps import made_of, swapped_answers

RULE = "rule: true of this image, not of its twin"
Pair = tuple[Image, Image]  # an original and its twin
FIRST = 1000  # the number of a pair's first row: what an expert writes of one image comes before


def paired_rows(
    pairs: Iterable[Pair], number: int, styles: Sequence[str], seed: int
) -> list[tuple[Exemplar, Exemplar]]:
    """Up to `number` questions to an image and its twin, with the expert's row of either.

    Pairs take turns, so that of few questions each is of another pair. A pair of which a truth is
    not known gives none.
    """
    found: list[tuple[Exemplar, Exemplar]] = []
    turns = [_asked(pair, styles, seed) for pair in pairs]
    while turns and len(found) < number:
        given = [list(islice(turn, 1)) for turn in turns]
        found += [one for some in given for one in some]
        turns = [turn for turn, some in zip(turns, given) if some]
    return found[:number]


def _asked(pair: Pair, styles: Sequence[str], seed: int) -> Iterator[tuple[Exemplar, Exemplar]]:
    """The questions of one pair, in an order of its own."""
    truths = [truth_of(image) for image in pair]
    if truths[0] is None or truths[1] is None:
        return
    rng = np.random.default_rng([seed, int(pair[1].id[:8], 16)])
    for number, asked in enumerate(paired(truths[0], truths[1], rng)):
        style = styles[int(rng.integers(len(styles)))]
        one, other = (_row(pair, place, asked, style, seed, number) for place in (0, 1))
        yield one, other


def _row(pair: Pair, place: int, asked: Paired, style: str, seed: int, number: int) -> Exemplar:
    return expert_row(pair[place], asked.of(place), style, seed, FIRST + number)


def twin_preferences(
    pairs: Iterable[Pair], number: int, seed: int
) -> tuple[list[Triplet], list[Preference], list[Task]]:
    """Up to `number` pairs for the judge with their rows and tasks, made by RULE.

    Each question gives two, to be used together: the answer that is true of an image before its
    twin's. Patients who measure judges are left out: measured is what experts say.
    """
    learned = [pair for pair in pairs if not is_frozen(pair[0].group)]
    both = paired_rows(learned, number // 2, ("direct",), seed)
    told = []
    for n, rows in enumerate(both):
        told += swapped_answers((row for row, _ in rows), lambda row: "", _stream(seed, n))
    compared = [t for twin in told for t in twin]
    preferences = [
        preference(t.chosen, t.rejected, t.criterion, t.tier, RULE, False) for t in compared
    ]
    tasks = [task for rows in both for _, task in rows]
    return made_of(compared), preferences, tasks


def _stream(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])
