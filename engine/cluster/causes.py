"""What Ray raises, told in one line."""

from __future__ import annotations

from engine.errors import TriptychError

FAULTS = (ConnectionError, ValueError, RuntimeError, OSError)  # of an address, by Ray's ways in
DIED_OF = "killed, as for want of memory, or crashed"


def cause(error: BaseException) -> str:
    """The last line of the innermost error that says something.

    Ray Data wraps what a worker raised and ends with advice on retries; the worker's own error
    stands before.
    """
    told, wrapped, _ = str(error).partition("\nThe above exception was the direct cause")
    inner = getattr(error, "cause", None) or error.__cause__ or error
    lines = [line for line in (told if wrapped else str(inner)).splitlines() if line.strip()]
    own = f"{TriptychError.__module__}.{TriptychError.__name__}: "  # says enough without its name
    return lines[-1].strip().removeprefix(own) if lines else type(inner).__name__
