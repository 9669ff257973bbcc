"""A round's triplets with what the judge thinks of them, in parts by image: never all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from engine.records import Judgement, Triplet
from engine.scan import Scan, part_of
from pipelines.context import Context

PART = 200_000  # rows, about


@dataclass(frozen=True)
class Parts:
    """Committed shards of triplets and judgements, and in how many parts they are read."""

    triplets: tuple[Path, ...]
    judgements: tuple[Path, ...]
    number: int

    def mine(self, part: int) -> str:
        """SQL for the rows of a part, by `image_id`."""
        return part_of("image_id", part, self.number)

    def rows(self, part: int) -> tuple[list[Triplet], dict[str, Judgement]]:
        """A part's triplets, in order of their ids, and the judgements of them by their ids."""
        with Scan() as scan:
            scan.table("triplets", Triplet, self.triplets)
            scan.table("judgements", Judgement, self.judgements)
            mine = self.mine(part)
            triplets = scan.rows(Triplet, f"SELECT * FROM triplets WHERE {mine} ORDER BY id")
            judged = scan.rows(
                Judgement,
                "SELECT * FROM judgements WHERE triplet_id IN "
                f"(SELECT id FROM triplets WHERE {mine})",
            )
        return triplets, {j.triplet_id: j for j in judged}

    def __iter__(self) -> Iterator[tuple[list[Triplet], dict[str, Judgement]]]:
        return (self.rows(part) for part in range(self.number))


def parts_of(context: Context, round: int) -> Parts:
    """The parts of what was generated and judged in a round."""
    triplets = context.shards(Triplet, "generate", round)
    judgements = context.shards(Judgement, "judge", round)
    rows = sum(pq.read_metadata(path).num_rows for path in triplets)
    return Parts(tuple(triplets), tuple(judgements), -(-rows // PART) or 1)
