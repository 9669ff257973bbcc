"""A folder that leaves the workspace, written whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.errors import TriptychError


def begun(out: Path) -> Path:
    """An empty folder beside `out`, in which it is made; it has another name until it is whole."""
    partial = _partial(out)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def put(partial: Path, out: Path) -> None:
    """Put the finished folder in place; an old export goes only when it is out of the way.

    Raises TriptychError where `out` has something, and no `data/` as every export has.
    """
    old = _old(out)
    if out.exists():
        if any(out.iterdir()) and not (out / "data").is_dir():
            shutil.rmtree(partial)
            raise TriptychError(f"{out} holds something that is no export: choose another folder")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)  # or of an export that was cut short between the two


def cut_short(out: Path) -> list[Path]:
    """What an export to `out` may leave where it is cut short."""
    return [_partial(out), _old(out)]


def _partial(out: Path) -> Path:
    return out.with_name(f".{out.name}.partial")


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")
