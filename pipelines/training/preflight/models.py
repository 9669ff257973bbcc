"""What is known of a model that is not loaded: from its folder, the Hub's cache, or here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import TriptychError
from engine.vlm.known import known_models
from engine.vlm.weights import located
from pipelines.training.preflight.images import Processor, processor_of
from pipelines.training.preflight.shapes import Shape, shape_of

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
LETTERS = 4  # of a token, where no tokenizer is at hand: English words have a few more
Count = Callable[[str], int]  # tokens of a text


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model by its name, where what is known of it came from, and how its texts are counted."""

    name: str
    source: str
    shape: Shape
    processor: Processor
    count: Count
    tokenizer: bool  # whether texts are counted by the model's own


def describe(name: str) -> Described:
    """A model's shape and processor.

    Raises TriptychError with a line on what to do where nothing is known of it, or it is of a kind
    that is not reckoned with.
    """
    config, processor, tokenizer, source = _found(name)
    try:
        shape = shape_of(config)
    except TriptychError as error:
        raise TriptychError(f"{name}: {error}") from None
    return Described(
        name=name,
        source=source,
        shape=shape,
        processor=processor_of(processor),
        count=_by_tokenizer(tokenizer) if tokenizer else by_letters,
        tokenizer=tokenizer is not None,
    )


def by_letters(text: str) -> int:
    """Tokens of a text, from its length."""
    return -(-len(text) // LETTERS)


def _found(name: str) -> tuple[Mapping[str, Any], Mapping[str, Any], Path | None, str]:
    """(config, processor, tokenizer's file, where they are from)."""
    place, revision = located(name)
    if Path(name).is_dir():
        files = {path.name: path for path in Path(name).iterdir()}
        source = "its folder"
    else:
        files = _cached(place, revision)
        source = f"the Hub's cache{f', {commit}' if (commit := _commit(files)) else ''}"
    if "config.json" in files:
        processor = next((files[n] for n in PROCESSORS if n in files), None)
        values = _read(processor) if processor else {}
        return _read(files["config.json"]), values, files.get("tokenizer.json"), source
    if place in known_models() and not Path(name).is_dir():
        model = known_models()[place]
        if revision not in (None, model["commit"]):
            source = f"known here of another commit, {model['commit'][:8]}"
        else:
            source = f"known here, commit {model['commit'][:8]}"
        return model["config"], model["processor"], None, source
    if Path(name).is_dir():
        raise TriptychError(f"{name} has no config.json: give a model's folder")
    raise TriptychError(
        f"{name} is no folder, not in the Hub's cache and not known here, so nothing is told of "
        f"it: fetch what it is with `hf download {place} --include '*.json'`, or give a folder"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TriptychError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise TriptychError(f"{path} is no JSON object")
    return found


def _cached(name: str, revision: str | None) -> dict[str, Path]:
    from huggingface_hub import try_to_load_from_cache

    found: dict[str, Path] = {}
    for file in ("config.json", *PROCESSORS, "tokenizer.json"):
        try:
            path = try_to_load_from_cache(name, file, revision=revision)
        except ValueError:  # no name of the Hub's
            return {}
        if isinstance(path, str):
            found[file] = Path(path)
    return found


def _commit(files: Mapping[str, Path]) -> str:
    return files["config.json"].parent.name[:8] if "config.json" in files else ""


@cache
def _by_tokenizer(path: Path) -> Count:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
