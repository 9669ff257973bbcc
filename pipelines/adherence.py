"""What was asked, what came of it, and what it turned out to be: by cell, and by axis.

A cell of these tables has a value of each axis that the quotas speak of; where they speak of none,
of modality and question type, which the mix is of. A row is as asked where all that was found of it
(`generators.found`) is what its task asked for; a difficulty that is not known does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from engine.config.quotas import Quotas
from engine.reasons import FURTHER
from engine.sql import Scan
from generators.found import AXES as FOUND
from generators.quotas import in_words
from pipelines.progress import verbatim

USUAL = ("modality", "question_type")  # cells where quotas speak of no axis
KEPT_LINES, SHOWN_LINES = 500, 15  # in the metrics of a stage; where a person reads
_COLUMN = {"style": "prompt_style"}  # of a task, where it has another name
COUNTS = ("asked", "generated", "kept", "read", "read_as_asked", "kept_as_asked")

_MATCHES = " AND ".join(
    f"f.{axis} = k.{axis}" if axis != "difficulty" else f"f.{axis} IN (k.{axis}, '')"
    for axis in FOUND
)
_KEPT = f"d.keep AND d.reason <> '{FURTHER}'"  # a row a question
_BY_TASK = f"""
WITH wanted AS (SELECT DISTINCT ON (id) * FROM tasks ORDER BY id),
planned AS (SELECT task_id, count(*) AS asked FROM assignments GROUP BY task_id),
written AS (
    SELECT t.task_id, count(DISTINCT hash(t.image_id, t.question, t.options)) AS generated,
        count(*) FILTER ({_KEPT}) AS kept, count(*) AS read,
        count(*) FILTER ({_MATCHES}) AS read_as_asked,
        count(*) FILTER ({_KEPT} AND {_MATCHES}) AS kept_as_asked
    FROM triplets t JOIN wanted k ON k.id = t.task_id JOIN found f ON f.triplet_id = t.id
    LEFT JOIN decisions d ON d.triplet_id = t.id GROUP BY t.task_id
)
SELECT {{axes}}, {", ".join(f"coalesce(sum({count}), 0)::BIGINT AS {count}" for count in COUNTS)}
FROM planned p JOIN wanted ON wanted.id = p.task_id LEFT JOIN written USING (task_id)
GROUP BY ALL ORDER BY ALL
"""
# Cells of which no row could be read, with the commonest problem of their rows.
_NOT_READ = """
WITH wanted AS (SELECT DISTINCT ON (id) * FROM tasks ORDER BY id),
planned AS (SELECT task_id, count(*) AS asked FROM assignments GROUP BY task_id),
written AS (
    SELECT task_id, bool_or(problem IS NULL) AS readable, mode(problem ORDER BY problem) AS problem
    FROM triplets GROUP BY task_id
)
SELECT {axes}, sum(asked)::BIGINT AS asked, coalesce(mode(problem ORDER BY problem), '')
FROM planned p JOIN wanted ON wanted.id = p.task_id LEFT JOIN written USING (task_id)
GROUP BY {axes} HAVING NOT coalesce(bool_or(readable), false) ORDER BY asked DESC, {axes}
"""
_BY_AXIS = f"""
SELECT {", ".join(f"avg((f.{a} = k.{a})::INT) FILTER (f.{a}::VARCHAR <> '')" for a in FOUND)},
    avg(({_MATCHES})::INT)
FROM triplets t JOIN (SELECT DISTINCT ON (id) * FROM tasks ORDER BY id) k ON k.id = t.task_id
JOIN found f ON f.triplet_id = t.id LEFT JOIN decisions d ON d.triplet_id = t.id
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A cell's numbers, of which `COUNTS` are the names."""

    cell: tuple[str, ...]
    counts: tuple[int, ...]

    def __getitem__(self, name: str) -> int:
        return self.counts[COUNTS.index(name)]

    def as_asked(self, of: str) -> float | None:
        """The share of the rows `read` or `kept` that are as asked; None of none."""
        return self[f"{of}_as_asked"] / self[of] if self[of] else None


def axes_of(quotas: Quotas) -> tuple[str, ...]:
    """The axes whose values tell cells apart."""
    return quotas.spoken_of or USUAL


def lines_of(scan: Scan, axes: Sequence[str]) -> list[Line]:
    """The cells of a round, from its assignments, tasks, triplets, found and decisions."""
    columns = ", ".join(_COLUMN.get(axis, axis) for axis in axes)
    rows = scan.values(_BY_TASK.format(axes=columns))
    return [Line(tuple(map(str, row[: len(axes)])), row[len(axes) :]) for row in rows]


def not_read(scan: Scan, axes: Sequence[str]) -> list[str]:
    """The cells that were asked for and of which no row could be read, a line each, most first."""
    columns = ", ".join(_COLUMN.get(axis, axis) for axis in axes)
    return [
        f"{in_words(dict(zip(axes, row)))}: {row[-2]} asked, no row could be read"
        + (f" (most often {row[-1]})" if row[-1] else "")
        for row in scan.values(_NOT_READ.format(axes=columns))
    ]


def adherence_of(scan: Scan) -> dict[str, dict[str, float | None]]:
    """Of the rows read and of those kept the share that is as asked, by axis and in all."""
    names = (*FOUND, "all")
    found = {}
    for of, where in (("read", ""), ("kept", f" WHERE {_KEPT}")):
        (shares,) = scan.values(_BY_AXIS + where)
        found[of] = {n: None if s is None else round(s, 4) for n, s in zip(names, shares)}
    return found


def worst_first(lines: Sequence[Line], most: int) -> tuple[list[Line], Line | None]:
    """The cells that lose most, and the sum of the others where there are more than `most`.

    A cell loses what it would have kept at the rate of all cells together, and has not.
    """
    asked = sum(line["asked"] for line in lines)
    rate = sum(line["kept"] for line in lines) / asked if asked else 0.0
    ordered = sorted(lines, key=lambda one: (one["kept"] - rate * one["asked"], one.cell))
    rest = ordered[most:]
    if not rest:
        return ordered, None
    sums = tuple(map(sum, zip(*(line.counts for line in rest))))
    return ordered[:most], Line((f"{len(rest)} other cells",), sums)


def recorded(axes: Sequence[str], lines: Sequence[Line]) -> dict[str, Any]:
    """Cells as a stage's metrics hold them."""
    worst, rest = worst_first(lines, KEPT_LINES)
    told: dict[str, Any] = {"axes": list(axes), "of": list(COUNTS)}
    told["lines"] = [[*line.cell, *line.counts] for line in worst]
    return told | {"rest": [*rest.cell, *rest.counts] if rest else None}


def of_record(told: Mapping[str, Any]) -> tuple[list[Line], Line | None]:
    """The inverse of `recorded`, with no more cells than a person reads."""

    def line(values: Sequence[Any]) -> Line:
        return Line(tuple(values[: -len(COUNTS)]), tuple(values[-len(COUNTS) :]))

    lines = [line(values) for values in told["lines"]]
    if not told["rest"]:
        return worst_first(lines, SHOWN_LINES)
    more = line(told["rest"])
    shown, rest = lines[:SHOWN_LINES], [more, *lines[SHOWN_LINES:]]
    number = int(more.cell[0].split()[0]) + len(rest) - 1
    sums = tuple(map(sum, zip(*(one.counts for one in rest))))
    return shown, Line((f"{number} other cells",), sums)


NUMBERS = ("asked", "generated", "kept", "as asked: read", "as asked: kept")


def cells_of(line: Line) -> tuple[str, ...]:
    """A line's numbers in words, below NUMBERS."""
    shares = (line.as_asked(of) for of in ("read", "kept"))
    numbers = (f"{line[count]:,}" for count in ("asked", "generated", "kept"))
    return (*numbers, *("–" if share is None else f"{share:.0%}" for share in shares))


def table(round: int, told: Mapping[str, Any]) -> Table:
    """The cells of a round for the terminal, the worst first and the rest summed."""
    shown, rest = of_record(told)
    drawn = Table(title=f"Round {round} by cell, those that lose most first", title_justify="left")
    drawn.add_column(" · ".join(axis.replace("_", " ") for axis in told["axes"]), overflow="fold")
    for name in NUMBERS:
        drawn.add_column(name, justify="right")
    for line in shown:
        drawn.add_row(verbatim(name_of(line)), *cells_of(line))
    if rest:
        drawn.add_row(verbatim(name_of(rest)), *cells_of(rest), style="dim")
    drawn.caption = "questions asked, with an answer that could be read, kept; rows as asked"
    drawn.caption_justify = "left"
    return drawn


def name_of(line: Line) -> str:
    """A cell's values in a line; of an anatomy that is not asked for, any."""
    return " · ".join(value or "any" for value in line.cell)
