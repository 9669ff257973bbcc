"""Opinions as JSON Lines: an object a line, its keys our columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from engine.errors import TriptychError
from engine.records import canonical
from reward_model.exchange.csv import decoded
from reward_model.exchange.given import COLUMNS, Entry, Given, known_columns


class Twice(ValueError):
    """A key that an object has more than once."""


def write(rows: Iterable[dict[str, object]]) -> bytes:
    """Rows of COLUMNS as a file."""
    return b"".join(canonical(row).encode("utf-8", "replace") + b"\n" for row in rows)


def read(data: bytes) -> Given:
    """Entries of a file. Raises TriptychError where it is no text."""
    text, notes = decoded(data)
    given, names = Given(notes=notes), set[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = loaded(line)
        except Twice as error:
            given.refused.append(f"line {number}, column {error}: is there twice: keep one")
            continue
        except ValueError:
            values = None
        if not isinstance(values, dict):
            given.refused.append(f"line {number}: is no JSON object, of one opinion")
            continue
        names |= values.keys()
        known = {name: value for name, value in values.items() if name in COLUMNS}
        given.entries.append(Entry(f"line {number}", known))
    given.notes += known_columns(sorted(names))
    if given.entries and not names & COLUMNS.keys():
        raise TriptychError("no line has a column of opinions: docs/verdicts.md lists them")
    return given


def loaded(text: str) -> Any:
    """JSON as values; raises Twice where an object has a key twice, ValueError for no JSON."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise Twice(next(name for name in names if names.count(name) > 1))
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except RecursionError:
        raise ValueError("too deep") from None
