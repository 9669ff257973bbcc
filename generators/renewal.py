"""Two generators compared on the same held-out tasks: whether the new one takes the other's place.

Of each task two shares of rows are compared: of those that are right, and of those that are as
asked (`generators.found.as_asked`). A row that cannot be read, or that a filter refuses, is neither
of the two. The test is that of a refined judge: paired, with patients drawn again
(`engine.statistics.verdict_of`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from engine.answers.matching import is_correct
from engine.answers.spelling import normalise_question
from engine.records import Image, Judgement, Task, Triplet
from engine.statistics import mean_gains, verdict_of
from generators.found import AXES, as_asked, found_of
from generators.phantoms.oracle import is_true

PRECISION, ADHERENCE = "precision", "adherence"
Share = float | None  # in [0, 1]; None where it is not known


@dataclass(frozen=True, slots=True)
class Held:
    """Tasks on held-out images, as (image's id, task), and what is known of these images.

    `golds` are right answers by image and question, in one spelling.
    """

    pairs: list[tuple[str, Task]]
    images: Mapping[str, Image]
    golds: Mapping[tuple[str, str], str]

    @property
    def patients(self) -> list[str]:
        """Whose image each task is of."""
        return [self.images[image_id].group for image_id, _ in self.pairs]

    @property
    def all_true(self) -> bool:
        """Whether each image's truth is known."""
        return all(image.truth for image in self.images.values())


def right(row: Triplet, held: Held, judged: Mapping[str, Judgement] | None) -> Share:
    """How likely a row is right: by its image's truth, else a gold answer, else the judge.

    `judged` are opinions by row, None without a judge, and then nothing is known where there is no
    truth. A row on which a judge has no opinion is not right, as selection rejects it.
    """
    image = held.images[row.image_id]
    if not image.truth and judged is None:
        return None
    if row.problem is not None:
        return 0.0
    known = is_true(image, row)
    gold = held.golds.get((row.image_id, normalise_question(row.question)))
    if known is None and gold is not None:
        known = is_correct(row.answer, gold, row.options)
    if known is not None:
        return float(known)
    return judged[row.id].probability if judged and row.id in judged else 0.0


def shares(
    held: Held,
    rows: Sequence[Triplet],
    chosen: Mapping[str, str],
    judged: Mapping[str, Judgement] | None,
) -> dict[str, list[Share]]:
    """By PRECISION, by ADHERENCE and by axis the share of each task's rows, in the tasks' order.

    Of an axis the share is of rows that could be read. `chosen` has the chosen answer by the key of
    the question, `judged` is as in `right`.
    """
    found = {one.triplet_id: one for one in found_of(rows, chosen)}
    of_task: dict[tuple[str, str], list[Triplet]] = defaultdict(list)
    for row in rows:
        of_task[row.image_id, row.task_id].append(row)
    told: dict[str, list[Share]] = defaultdict(list)
    for image_id, task in held.pairs:
        mine = of_task[image_id, task.id]
        read = [found[row.id] for row in mine if row.id in found]
        told[PRECISION].append(mean([right(row, held, judged) for row in mine]))
        told[ADHERENCE].append(sum(as_asked(one, task) for one in read) / max(len(mine), 1))
        for axis in AXES:
            told[axis].append(mean([getattr(one, axis) == getattr(task, axis) for one in read]))
    return told


def mean(values: Sequence[Share]) -> Share:
    """The mean of what is known; None of nothing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A share of the rows of the same `tasks` of `patients`, by who generates `now` and a new one.

    `gain` is the new one's less that of now, with its 90 % interval, and `verdict` as `verdict_of`
    has it; `unknown` where nothing was measured.
    """

    verdict: str
    tasks: int
    patients: int
    now: Share = None
    new: Share = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def passes(self) -> bool:
        """Whether the new one may take over by it."""
        return self.verdict in ("better", "not worse")

    def in_words(self, name: str) -> str:
        """For a line, with the name of the share."""
        told = (self.now, self.new, self.gain, self.low, self.high)
        if None in told:
            return f"{name} is not known"
        now, new, gain, low, high = (100 * (value or 0.0) for value in told)
        return (
            f"{name} {now:.1f} % → {new:.1f} % ({gain:+.1f} points, 90 % interval {low:+.1f} to "
            f"{high:+.1f}: {self.verdict})"
        )


def paired(now: Sequence[Share], new: Sequence[Share], patients: Sequence[str]) -> Paired:
    """The test of two generators' shares, one a task, on the tasks where both are known."""
    known = [
        (one, other, patient)
        for one, other, patient in zip(now, new, patients)
        if one is not None and other is not None
    ]
    if not known:
        return Paired(verdict="unknown", tasks=0, patients=0)
    before, after = (np.array([row[place] for row in known]) for place in (0, 1))
    whose = [patient for _, _, patient in known]
    gain, drawn = mean_gains(before, after, whose, seed=0)
    verdict, low, high = verdict_of(drawn)
    told = {"now": before.mean(), "new": after.mean(), "gain": gain, "low": low, "high": high}
    rounded = {name: round(float(value), 4) for name, value in told.items()}
    return Paired(verdict=verdict, tasks=len(known), patients=len(set(whose)), **rounded)
