"""The losses that a judge is trained by, a file each: what stands here is found by its place.

A module has `loss`, as `Loss` says; its name, with hyphens, is `reward.objective`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol

from engine.errors import TriptychError

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Protocol):
    """What a loss makes of a batch of N pairs."""

    def __call__(self, scores: Tensor, tiers: Tensor) -> Tensor:
        """(N,) losses of (2, N) scores and tiers in [-6, 10]: the chosen rows, the rejected."""
        ...


def names() -> list[str]:
    """The losses that there are, in order of name; found without torch."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def check_loss(name: str) -> None:
    """Raise TriptychError where there is no such loss."""
    if name not in names():
        raise TriptychError(f"reward.objective: no loss {name!r}: one of {', '.join(names())}")


def open_loss(name: str) -> Loss:
    """A loss by its name; raises TriptychError where there is none."""
    check_loss(name)
    loss: Loss = import_module(f"{__name__}.{name.replace('-', '_')}").loss
    return loss
