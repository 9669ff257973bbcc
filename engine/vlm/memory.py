"""Inference in as large parts as memory holds: a part that does not fit is halved, once for all."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import TriptychError

LOG = logging.getLogger("triptych")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a GPU or the machine has no memory left."""
    import torch

    # On a CPU torch raises a plain RuntimeError that names its allocator.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


_divisor = 1  # of what this process runs at once


def spare(deaths: int) -> None:
    """So many processes died of their rows: run a quarter as many at once for each of them.

    The kernel kills a process that takes the machine's last memory: nothing is raised then.
    """
    global _divisor
    _divisor = max(_divisor, 4**deaths)


class Parts:
    """How many rows at once memory held so far: what was learned from one call serves the next."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.most = sys.maxsize

    def map(
        self,
        work: Callable[[Sequence[Any]], list[Any]],
        rows: Sequence[Any],
        at_most: int = sys.maxsize,
    ) -> list[Any]:
        """`work` on consecutive parts of `rows`, its results joined in order.

        `work` returns one result a row, which may not depend on what else is in its part. Raises
        TriptychError where a single row does not fit.
        """
        found: list[Any] = []
        at_most = min(self.most, -(-min(at_most, len(rows)) // _divisor))
        while len(found) < len(rows):
            part = rows[len(found) :][: min(self.most, at_most)]
            done = self._try(work, part)
            if done is None:
                self._halve(len(part))
            else:
                found += done
        return found

    @staticmethod
    def _try(work: Callable[[Sequence[Any]], list[Any]], part: Sequence[Any]) -> list[Any] | None:
        """The results, or None where memory ran out; what the attempt held is free by then."""
        try:
            return work(part)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            return None

    def _halve(self, tried: int) -> None:
        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried < 2:
            raise TriptychError(
                f"out of memory with a single row for the {self.what}: use a larger device, or "
                "lower max_pixels or max_tokens"
            )
        self.most = tried // 2
        LOG.warning(
            "triptych: out of memory with %d rows at once for the %s: %d at once from here on, "
            "with the same results",
            tried,
            self.what,
            self.most,
        )
