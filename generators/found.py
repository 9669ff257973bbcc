"""What rows turned out to be, whatever was asked for: type, answer format, difficulty, steps.

Type and format are told by a row's own words (`engine.question_types`). Difficulty is told by the
pass rate, the share of a question's samples that give the chosen answer: how hard a question is for
the model that answers it, which no asking settles. Samples that cannot be read do not count: how a
reply is written is no difficulty of its question.

| pass rate | difficulty |
| --- | --- |
| from `EASY` | easy |
| from `MEDIUM` to `EASY` | medium |
| below `MEDIUM` | hard |

Of fewer than `FEWEST` samples it is not known: the chosen answer is one of them, so that two would
never find a question hard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from engine.answers.matching import is_correct
from engine.question_types import found_format, found_type
from engine.records import (
    Found,
    Task,
    Triplet,
    column_table,
    content_id,
    from_arrow,
    schema_of,
)

EASY = 0.75
MEDIUM = 0.5
FEWEST = 3
NOT_KNOWN = ""
AXES = ("question_type", "answer_format", "difficulty", "steps")  # that are found


def difficulty_of(pass_rate: float | None, samples: int) -> str:
    """easy, medium or hard; empty where the pass rate is not known or of too few samples."""
    if pass_rate is None or samples < FEWEST:
        return NOT_KNOWN
    return "easy" if pass_rate >= EASY else "medium" if pass_rate >= MEDIUM else "hard"


def pass_rate(samples: Iterable[Triplet], chosen: str) -> float:
    """The share in [0, 1] of a question's samples, which could be read, that give an answer."""
    right = [is_correct(row.answer, chosen, row.options) for row in samples]
    return sum(right) / len(right)


def found_of(
    rows: Iterable[Triplet], chosen: Mapping[str, str], steps: Mapping[str, int] | None = None
) -> list[Found]:
    """The rows of `found_table`."""
    return from_arrow(Found, found_table(rows, chosen, steps))


def found_table(
    rows: Iterable[Triplet], chosen: Mapping[str, str], steps: Mapping[str, int] | None = None
) -> pa.Table:
    """What each row that could be read turned out to be, those of a question together.

    A table of `Found`. `chosen` has the chosen answer, and `steps` the number of steps of what
    composed it, by the key of the question. Where none is chosen the difficulty is not known; what
    no program composed is of one step.
    """
    asked: dict[str, list[Triplet]] = defaultdict(list)
    for row in rows:
        if row.problem is None:
            asked[row.question_key].append(row)
    columns: dict[str, list[Any]] = {name: [] for name in schema_of(Found).names}
    for key, samples in asked.items():
        columns["id"] += [content_id("found", row.id) for row in samples]
        columns["triplet_id"] += [row.id for row in samples]
        of_all = _of_question(samples, chosen.get(key)) | {"steps": (steps or {}).get(key, 1)}
        for name, value in of_all.items():
            columns[name] += [value] * len(samples)
    return column_table(Found, columns)


def as_asked(found: Found, task: Task) -> bool:
    """Whether all that was found of a row is what its task asked for, as `pipelines.adherence`
    counts it: a difficulty that is not known does not count."""
    known = [axis for axis in AXES if axis != "difficulty" or found.difficulty != NOT_KNOWN]
    return all(getattr(found, axis) == getattr(task, axis) for axis in known)


def _of_question(samples: list[Triplet], chosen: str | None) -> dict[str, Any]:
    """What is the same of all samples of a question."""
    first, rate = samples[0], None
    if chosen is not None:
        rate = round(pass_rate(samples, chosen), 4)
    return {
        "question_type": found_type(first.question),
        "answer_format": found_format(first.options, chosen or first.answer),
        "difficulty": difficulty_of(rate, len(samples)),
        "pass_rate": rate,
        "samples": len(samples),
    }
