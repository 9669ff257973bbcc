"""Prompts: a named set's words copied to a file, which `generator.prompts` can name.

triptych prompts mine.yaml --of full
"""

from __future__ import annotations

from pathlib import Path

from engine.errors import TriptychError
from engine.prompts import NAMES, text_of
from engine.prompts.files import read_set
from pipelines.progress import Display


def copy_words(path: Path, of: str, force: bool, display: Display) -> None:
    """Write the words of a named set to a file; one that is there is looked at, and stays.

    Raises TriptychError for a name that no set has, and for a file that is no set of prompts.
    """
    if of not in NAMES:
        raise TriptychError(f"--of {of}: no such set of prompts; there are {', '.join(NAMES)}")
    if path.exists() and not force:
        read_set(path)
        display.done(f"{path} is a set of prompts; --force writes the words of {of} over it")
        return
    if not path.parent.is_dir():
        raise TriptychError(f"{path.parent} is not a folder: name a file in one that is there")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text_of(of), encoding="utf-8")
    partial.replace(path)
    display.done(f"{path} written: edit it, then set generator.prompts={path}")
