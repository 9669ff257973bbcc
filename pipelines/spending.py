"""What a stage's models read and wrote in tokens, and its cost where the configuration has prices.

Every reply counts: what could not be read or was asked for again, and what a worker got that then
died. Not: what a server was asked and never answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.config.backend import Backend
from engine.vlm.journal import spent_in

JOURNALS = "journals"  # a folder of a stage that its commit takes away
MILLION = 1_000_000


def spending(asked: Iterable[tuple[Path | None, Backend | None]]) -> dict[str, Any]:
    """Metrics of a stage, of its journals' folders and the backends that wrote them.

    Tokens of prompts and of completions; how many replies did not tell theirs, where some did not;
    the cost, where a backend has prices, of what was told. Nothing where no model told anything.
    """
    prompt = completion = untold = 0
    cost: float | None = None
    for folder, backend in asked:
        if folder is None or backend is None:
            continue
        spent = spent_in(folder)
        prompt += spent.prompt
        completion += spent.completion
        untold += spent.untold
        if prices := backend.prices:
            each = prices.prompt * spent.prompt + prices.completion * spent.completion
            cost = (cost or 0.0) + each / MILLION
    if not (prompt or completion or untold):
        return {}
    told: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    told |= {"untold_replies": untold} if untold else {}
    return told | ({"cost": round(cost, 6)} if cost is not None else {})
