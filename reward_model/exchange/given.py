"""What a file of opinions gives, whatever its format: entries of our columns, each with its place.

An entry is one reader's opinion of one row, or of which of two is better. Its values are as they
were found; `reward_model.exchange.opinions` makes sense of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from reward_model.criteria import CRITERIA
from reward_model.verdicts import PREFERENCES, REASONS, VERDICTS

COLUMNS: dict[str, str] = {  # in the order in which they are written
    "item_id": "what was asked; empty where nobody asked",
    "triplet_id": "the row, or the first of two",
    "other_id": "the second of two, else empty",
    "image_id": "of which image",
    "question": "the row's question",
    "options": "its options, with ` | ` between them",
    "answer": "its answer",
    "other_answer": "of two, the second one's answer",
    "reader": "who says so: a pseudonym",
    "verdict": f"of one row: {', '.join(VERDICTS)}",
    "reasons": f"why it is rejected, with `; ` between them: {', '.join(REASONS)}",
    "correction": "the right answer, where it is rejected",
    **{name: f"which of two is better by it: {', '.join(PREFERENCES)}" for name in CRITERIA},
    "comment": "anything else",
    "at": "when, RFC 3339; without a zone it is UTC, and empty it is when it was imported",
    "seconds": "that the reader looked at it",
    "repeat": "true where the reader had answered it before, for self-agreement",
    "stream": "why it was asked: random, informative or test; given: nobody did",
    "round": "in which round",
}
TOLD = ("options", "stream", "round")  # for who looks at the file; an import does not read them
LISTS = ("reasons", "options")
JOINED = {"reasons": "; ", "options": " | "}


@dataclass(frozen=True)
class Entry:
    """An opinion as it stands in a file: `values` by column, and where each is."""

    place: str  # "line 7", or a JSON Pointer (RFC 6901)
    values: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)  # of a column that is elsewhere

    def where(self, column: str) -> str:
        """Where a column's value is."""
        found = self.places.get(column)
        if found is not None:
            return found
        return f"{self.place}, column {column}" if column else self.place


@dataclass
class Given:
    """What a file gives: entries, what of it could not be read, and what a person should know."""

    entries: list[Entry] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Bad(ValueError):
    """An entry that cannot be taken: which column, and what is wrong and would be right."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(why)
        self.column = column


def known_columns(names: Collection[str], what: str = "columns") -> list[str]:
    """What to say of names that are no columns of ours."""
    unknown = [name for name in names if name not in COLUMNS]
    if not unknown:
        return []
    shown = ", ".join(repr(name[:40]) for name in unknown[:8])
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    return [f"{what} that are not read: {shown}{more}"]


def pointer(*parts: object) -> str:
    """A JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(p).replace('~', '~0').replace('/', '~1')}" for p in parts)
