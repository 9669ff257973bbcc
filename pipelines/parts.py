"""A round's triplets with what the judge thinks of them, in parts by image: never all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from engine.records import Judgement, Triplet, Verification, from_arrow
from pipelines.context import Context

PART = 50_000  # rows, about


@dataclass(frozen=True)
class Part:
    """Shards that hold all of a round's rows of some images, and between which ids these are."""

    first: str
    last: str
    triplets: tuple[Path, ...]
    judgements: tuple[Path, ...]
    verifications: tuple[Path, ...] = ()

    def rows(self) -> tuple[list[Triplet], dict[str, Judgement]]:
        """The part's triplets, in order of their ids, and the judgements of them by their ids."""
        triplets = [t for path in self.triplets for t in from_arrow(Triplet, pq.read_table(path))]
        judged = [j for path in self.judgements for j in from_arrow(Judgement, pq.read_table(path))]
        return sorted(triplets, key=lambda t: t.id), {j.triplet_id: j for j in judged}

    def verified(self) -> dict[str, Verification]:
        """What was measured of the part's questions, by `question_key`.

        A question that two shards asked has two, of which that of more samples stands.
        """
        tables = map(pq.read_table, self.verifications)
        found = [v for table in tables for v in from_arrow(Verification, table)]
        return {v.question_id: v for v in sorted(found, key=lambda v: (v.samples, v.id))}


def parts_of(context: Context, round: int, size: int = PART) -> list[Part]:
    """What was generated and judged in a round, in parts of about `size` rows.

    Shards whose ids lie between each other's are in one part. Generation keeps an image's rows
    together, so that a part is a few shards; where a round does not, it is one part.
    """
    spans = sorted(
        span for path in context.shards(Triplet, "generate", round) if (span := _span(path))
    )
    judged = _filled(context.shards(Judgement, "judge", round))
    verified = _filled(context.shards(Verification, "verify", round))
    strange = (judged.keys() | verified.keys()) - {_number(span[2]) for span in spans}
    parts: list[Part] = []
    rows = 0
    for first, last, path, count in spans:
        number = _number(path)
        mine = Part(first, last, (path,), _one(judged, number), _one(verified, number))
        if parts and (rows < size or first <= parts[-1].last or strange):
            parts.append(_joined(parts.pop(), mine))
            rows += count
        else:
            parts.append(mine)
            rows = count
    if strange and parts:  # whoever judged did not go by the shards of the triplets
        said, found = tuple(judged.values()), tuple(verified.values())
        parts = [replace(parts[0], judgements=said, verifications=found)]
    return parts


def _filled(paths: Iterable[Path]) -> dict[str, Path]:
    """By number the shards that have rows."""
    return {_number(path): path for path in paths if pq.read_metadata(path).num_rows}


def _one(shards: dict[str, Path], number: str) -> tuple[Path, ...]:
    return (shards[number],) if number in shards else ()


def _joined(before: Part, part: Part) -> Part:
    return Part(
        before.first,
        max(before.last, part.last),
        before.triplets + part.triplets,
        before.judgements + part.judgements,
        before.verifications + part.verifications,
    )


def _number(path: Path) -> str:
    return path.stem.partition("-")[2]


def _span(path: Path) -> tuple[str, str, Path, int] | None:
    """The first and the last image's id in a shard of triplets, and its rows; None of an empty."""
    file = pq.ParquetFile(path)
    if not file.metadata.num_rows:
        return None
    place = file.schema_arrow.names.index("image_id")
    groups = [file.metadata.row_group(n).column(place) for n in range(file.num_row_groups)]
    found = [group.statistics for group in groups]
    first, last = min(s.min for s in found), max(s.max for s in found)
    return first, last, path, file.metadata.num_rows
