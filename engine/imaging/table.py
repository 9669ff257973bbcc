"""The table beside a folder of images: one row a file, CSV, TSV or JSON Lines.

    path,patient,split,modality,anatomy,report,finding
    study1/im1.dcm,P7,train,,,"Mild cardiomegaly. No effusion.",cardiomegaly

`path` is the file below the folder; all else may be left out. Of other columns only those that the
configuration names (`source.labels`) are read. Reports pass `reports.clean_text` first; a label
stays where `reports.harmless_label` knows its words, or a question names it (`expert.templates`).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.answers.gold import NotText, text_of
from engine.errors import TriptychError
from engine.imaging.reports import clean_text, harmless_label
from engine.records import canonical

NAMES = ("labels.csv", "labels.tsv", "labels.jsonl")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
KNOWN = ("path", "patient", "split", "modality", "anatomy", "report")


Named = Callable[[str, str], bool]  # of a column and a cell


@dataclass(frozen=True, slots=True)
class Entry:
    """What the table says of one file. `patient` is as written; only its hash leaves."""

    line: int = 0
    patient: str = ""
    split: str = ""
    modality: str = ""
    anatomy: str = ""
    report: str | None = None
    labels: str | None = None  # JSON
    withheld: tuple[str, ...] = field(default=())  # columns whose text was refused or masked
    problems: tuple[str, ...] = field(default=())  # labels that are no text: which and why


def _nothing(column: str, cell: str) -> bool:
    return False


def find_table(folder: Path, name: str | None) -> Path | None:
    """The configured table, or the one with a known name. Raises TriptychError where missing."""
    if name is None:
        found = [folder / n for n in NAMES if (folder / n).is_file()]
        if len(found) > 1:
            raise TriptychError(
                f"{found[0].name} and {found[1].name} are both there: name one as source.table"
            )
        return found[0] if found else None
    path = folder / name
    if not path.is_file():
        raise TriptychError(f"source.table {name} is not in the folder of the images")
    return path


def read_table(path: Path, labels: list[str], named: Named = _nothing) -> dict[str, Entry]:
    """The table's rows by the path they are about. `named` says of a column and a cell whether it
    is known to be harmless.

    Raises TriptychError, naming the line, for what cannot be read, a column that is missing, a
    split that is none, or a path that comes twice.
    """
    entries: dict[str, Entry] = {}
    for line, row in each_row(path):
        missing = [c for c in ("path", *labels) if c not in row]
        if missing:
            raise TriptychError(f"{path.name} line {line} has no {missing[0]!r}")
        name = _said(path, line, row, "path").removeprefix("./").replace("\\", "/")
        if not name:
            raise TriptychError(f"{path.name} line {line} has no 'path'")
        if name in entries:
            raise TriptychError(
                f"{path.name} lines {entries[name].line} and {line} are about one file: keep one"
            )
        entries[name] = _entry(path, line, row, labels, named)
    return entries


def each_row(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The table's rows by their lines, as they stand; raises TriptychError where it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            for line, part in enumerate(text.splitlines(), 1):
                if part.strip():
                    yield line, dict(json.loads(part))
            return
        table = csv.DictReader(
            text.splitlines(True), delimiter="\t" if path.suffix.lower() == ".tsv" else ","
        )
        for row in table:
            yield table.line_num, {k: v for k, v in row.items() if v is not None}  # a short line
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise TriptychError(f"{path.name} cannot be read: {type(error).__name__}") from None


def _entry(path: Path, line: int, row: dict[str, Any], labels: list[str], named: Named) -> Entry:
    said = {c: _said(path, line, row, c) for c in KNOWN}
    values = {c: _value(row[c]) for c in labels if str(row[c]).strip()}
    split = said["split"].lower()
    if split and split not in SPLITS:
        raise TriptychError(f"{path.name} line {line}: split is none of train, val, test")
    cleaned = {c: clean_text(said[c]) for c in ("report",) if said[c]}
    withheld = [c for c, text in cleaned.items() if text.text is None]
    problems = {c: str(v) for c, v in values.items() if isinstance(v, NotText)}
    kept = {
        c: str(v)
        for c, v in values.items()
        if c not in problems and (harmless_label(str(v)) or named(c, str(v)))
    }
    withheld += [c for c in values if c not in kept]
    return Entry(
        line=line,
        patient=said["patient"],
        split=SPLITS.get(split, ""),
        modality=said["modality"],
        anatomy=said["anatomy"],
        report=cleaned["report"].text if "report" in cleaned else None,
        labels=canonical(kept) if kept else None,
        withheld=tuple(withheld),
        problems=tuple(f"{column} {problem}" for column, problem in problems.items()),
    )


def _value(value: object) -> str | NotText:
    """A value as text, or why it is none: NaN, a boolean, a converter's "nan"."""
    try:
        return text_of(value)
    except NotText as problem:
        return problem


def _said(path: Path, line: int, row: dict[str, Any], column: str) -> str:
    """A column of our own as text, empty where the value is missing."""
    value = row.get(column)
    if isinstance(value, bool | list | dict):
        raise TriptychError(f"{path.name} line {line}: {column} is no text")
    text = _value(value)
    return "" if isinstance(text, NotText) else value.strip() if isinstance(value, str) else text
