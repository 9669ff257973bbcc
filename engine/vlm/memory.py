"""Inference in as large parts as memory holds: a part that does not fit is halved, once for all."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import TriptychError


class MemoryWarning(UserWarning):
    """Memory ran out and the work goes on in smaller parts; shown as one line."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a GPU or the machine has no memory left."""
    import torch

    # On a CPU torch raises a plain RuntimeError that names its allocator.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


class Parts:
    """How many rows at once memory held so far: what was learned from one call serves the next."""

    def __init__(self, what: str, most: int | None = None) -> None:
        self.what, self.most = what, most

    def map(self, work: Callable[[Sequence[Any]], list[Any]], rows: Sequence[Any]) -> list[Any]:
        """`work` on consecutive parts of `rows`, its results joined in order.

        `work` returns one result a row, which may not depend on what else is in its part. Raises
        TriptychError where a single row does not fit.
        """
        found: list[Any] = []
        while len(found) < len(rows):
            part = rows[len(found) :][: self.most]
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
        warnings.warn(
            f"out of memory with {tried} rows at once for the {self.what}: {self.most} at once "
            "from here on, with the same results",
            MemoryWarning,
            stacklevel=2,
        )
