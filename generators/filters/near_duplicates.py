"""Near-duplicates: of rows that ask the same of the same picture the surest stays.

The same picture: the same image, or a near copy of it (recompressed, resized, brightened, mirrored,
turned: `engine.imaging.duplicates`). The same question: the same wording
(`generators.filters.wording`) and the same options in any order. Of a copy that is mirrored or
turned the answer has to be the same too: "left" of a picture is "right" of its mirror image, and
such a pair is no repetition.

A row that says otherwise of the same picture goes as well: one of the two is wrong, and the less
sure is the likelier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.answers.matching import resolve
from engine.answers.spelling import normalise
from engine.reasons import NEAR
from generators.filters.wording import asked


@dataclass(frozen=True, slots=True)
class Seen:
    """A row that would be kept, or was in an earlier round; `orientation` is its picture's among
    the copies of one, any number where a picture has none."""

    id: str
    image_id: str
    question: str
    options: tuple[str, ...]
    answer: str
    orientation: int = 0
    kept_before: bool = False


def repeated(rows: Iterable[Seen]) -> Iterator[tuple[str, str]]:
    """(id, reason) of rows of one picture and its copies that say what a row before them says.

    `rows` are in the order in which they have a right to stay: those kept before, then the surest.
    """
    stay: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Seen]] = {}
    for row in rows:
        same = stay.setdefault(asked(row.question, row.options), [])
        other = next((one for one in same if _repeats(row, one)), None)
        if other is None:
            same.append(row)
        elif not row.kept_before:
            yield row.id, _reason(row, other)


def _repeats(row: Seen, other: Seen) -> bool:
    return row.orientation == other.orientation or _answer(row) == _answer(other)


def _answer(row: Seen) -> str:
    return normalise(resolve(row.answer, row.options) or row.answer)


def _reason(row: Seen, other: Seen) -> str:
    if row.image_id == other.image_id:
        where = "of the same image"
    elif row.orientation == other.orientation:
        where = f"of image {other.image_id}, a near copy"
    else:
        where = f"of image {other.image_id}, a mirrored or turned copy"
    answered = "" if _answer(row) == _answer(other) else ", and answers otherwise"
    when = " of an earlier round" if other.kept_before else ""
    return f"{NEAR}: asks what row {other.id}{when} asks {where}{answered}"
