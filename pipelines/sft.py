"""SFT of a round's policy on the expert's rows and on rows kept so far."""

from __future__ import annotations

from collections.abc import Iterator

from engine.records import Triplet
from engine.workspace import Stage
from pipelines.context import Context
from pipelines.fine_tuning import fine_tune
from pipelines.record import each_kept, further_ids, left_to_grpo, seed_triplets


def sft(context: Context, stage: Stage) -> None:
    """The policy of a round: the base tuned on the seed and on rows kept so far.

    Questions left to GRPO are not among them.
    """

    def rows() -> Iterator[Triplet]:
        yield from seed_triplets(context)
        for row in each_kept(context, stage.round):
            if not left_to_grpo(context, row):
                yield row

    if not any(rows()):
        context.display.warn(f"sft, round {stage.round}: no rows to learn from, so it is left out")
        stage.metrics = {"skipped": "no rows to learn from"}
        return
    further = further_ids(context, stage.round)
    fine_tune(context, stage, context.base(), "sft", rows, further)
