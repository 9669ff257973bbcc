"""Prompts: a named set's words copied to a file, which `generator.prompts` can name.

triptych prompts mine.yaml --of full
triptych prompts rules.yaml --of policy: the policy that rows of safety cite, for `safety.policy`
"""

from __future__ import annotations

from pathlib import Path

from engine.config.policy import read_policy, shipped_text
from engine.errors import TriptychError
from engine.prompts import NAMES, text_of
from engine.prompts.files import read_set
from pipelines.progress import Display

POLICY = "policy"
OPTION = "generator.prompts"  # that names a set


def copy_words(path: Path, of: str, force: bool, display: Display) -> None:
    """Write the words of a named set, or the policy, to a file; one that is there is looked at, and
    stays.

    Raises TriptychError for a name that nothing has, and for a file that is not what `of` names.
    """
    if of not in (*NAMES, POLICY):
        known = ", ".join((*NAMES, POLICY))
        raise TriptychError(f"--of {of}: no such set of prompts; there are {known}")
    option, what = ("safety.policy", "a policy") if of == POLICY else (OPTION, "a set of prompts")
    if path.exists() and not force:
        read_policy(path) if of == POLICY else read_set(path)
        display.done(f"{path} is {what}; --force writes the words of {of} over it")
        return
    if not path.parent.is_dir():
        raise TriptychError(f"{path.parent} is not a folder: name a file in one that is there")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(shipped_text() if of == POLICY else text_of(of), encoding="utf-8")
    partial.replace(path)
    display.done(f"{path} written: edit it, then set {option}={path}")
