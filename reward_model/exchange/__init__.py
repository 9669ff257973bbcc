"""Opinions in and out: a file for each format, and which of them a file is in.

    in    csv, jsonl, parquet (ours), label-studio, argilla
    out   csv, jsonl, parquet (ours), label-studio (what is to be asked), trl

What a file says becomes answers in `opinions`; `given` has our columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine.errors import TriptychError
from reward_model.exchange import argilla, csv, jsonl, label_studio, parquet
from reward_model.exchange.given import Given

OURS: dict[str, Callable[[Iterable[dict[str, object]]], bytes]] = {
    "csv": csv.write,
    "jsonl": jsonl.write,
    "parquet": parquet.write,
}
IN = (*OURS, "label-studio", "argilla")
OUT = (*OURS, "label-studio", "trl")
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".json": "json",
}


def read(path: Path, format: str = "") -> Given:
    """What a file gives, in the format that its name and what is in it tell, or the one named.

    Raises TriptychError where it is in none, or cannot be read.
    """
    _check(format, IN)
    name = format or _by_name(path)
    data = path.read_bytes()
    try:
        if name == "csv":
            return csv.read(data)
        if name == "parquet":
            table = parquet.opened(data)
            if any(column.endswith(argilla.RESPONSES) for column in table.column_names):
                return argilla.read(table.to_pylist(), "row")
            return parquet.read(data)
        if name == "jsonl":
            first = _first_line(data)
            if first is not None and argilla.is_one([first]):
                return argilla.read(_lines(data), "line")
            return jsonl.read(data)
        return _of_json(data, format)
    except TriptychError as error:
        raise TriptychError(f"{path}: {error}") from None


def out_format(path: Path, format: str = "") -> str:
    """In which format a file of this name is written. Raises TriptychError where none is."""
    _check(format, OUT)
    name = format or _by_name(path)
    if name not in OUT:
        raise TriptychError(f"{path.name}: which format? Give --format: {', '.join(OUT)}")
    return name


def _check(format: str, known: tuple[str, ...]) -> None:
    if format and format not in known:
        raise TriptychError(f"--format {format}: there are {', '.join(known)}")


def _by_name(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix.startswith(".xls") or suffix == ".ods":
        raise TriptychError(
            f"{path.name} is a workbook: save the sheet as CSV UTF-8, and give that"
        )
    raise TriptychError(
        f"{path.name}: its format cannot be told by its name; give --format or one of "
        f"{', '.join(_SUFFIXES)}"
    )


def _of_json(data: bytes, format: str) -> Given:
    text, notes = csv.decoded(data)
    try:
        content = jsonl.loaded(text)
    except jsonl.Twice as error:
        raise TriptychError(f"an object has the key {str(error)!r} twice: keep one") from None
    except json.JSONDecodeError as error:
        if format == "argilla" and text.lstrip().startswith("{"):
            return argilla.read(_lines(data), "line")
        raise TriptychError(
            f"is no JSON ({error.msg}, line {error.lineno} column {error.colno})"
        ) from None
    if format == "label-studio" or (not format and label_studio.is_one(content)):
        if not label_studio.is_one(content):
            raise TriptychError("is no list of tasks with annotations: export JSON, not JSON-MIN")
        given = label_studio.read(content)
    elif format == "argilla" or argilla.is_one(content):
        given = argilla.read(content)
    else:
        raise TriptychError(
            "is neither Label Studio's export (JSON, not JSON-MIN) nor Argilla's; of opinions of "
            "ours is JSON Lines, FILE.jsonl"
        )
    given.notes[:0] = notes
    return given


def _first_line(data: bytes) -> dict[str, Any] | None:
    for line in csv.decoded(data)[0].splitlines():
        if line.strip():
            try:
                found = json.loads(line)
            except ValueError:
                return None
            return found if isinstance(found, dict) else None
    return None


def _lines(data: bytes) -> list[Any]:
    """JSON Lines as a list; raises TriptychError where a line is none."""
    found = []
    for number, line in enumerate(csv.decoded(data)[0].split("\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError:
                raise TriptychError(f"line {number} is no JSON") from None
    return found
