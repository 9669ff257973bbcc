"""Opinions as a table in CSV, as a spreadsheet writes and reads it.

Written: UTF-8 with a byte order mark and CRLF (RFC 4180), which Excel opens as it is. No cell runs
as a formula: where one begins with = + - @ or a control character, or would after the delimiter of
another country's Excel, an apostrophe stands before it, and an import takes it away again.

Read: UTF-8, UTF-16 with a mark (Excel's "Unicode text") or Windows-1252; comma, semicolon or tab.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from engine.errors import TriptychError
from reward_model.exchange.given import COLUMNS, JOINED, LISTS, Entry, Given, known_columns

_RUNS = "=+\\-@\t\r\uff1d\uff0b\uff0d\uff20"  # what a spreadsheet takes for a formula's beginning
_WOULD_RUN = re.compile(f"(^|[,;|\t\r\n])('*)(?=[{_RUNS}])")
_KEPT_FROM = re.compile(f"(^|[,;|\t\r\n])'('*)(?=[{_RUNS}])")
DELIMITERS = ",;\t|"


def harmless(cell: str) -> str:
    """A cell that no spreadsheet runs; `meant` is its inverse."""
    return _WOULD_RUN.sub(r"\1'\2", cell)


def meant(cell: str) -> str:
    """A cell without the apostrophes that kept it from being run."""
    return _KEPT_FROM.sub(r"\1\2", cell)


def write(rows: Iterable[dict[str, object]]) -> bytes:
    """Rows of COLUMNS as a file."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([harmless(_told(name, row.get(name))) for name in COLUMNS])
    return codecs.BOM_UTF8 + out.getvalue().encode("utf-8", "replace")


def _told(column: str, value: object) -> str:
    if column in LISTS and isinstance(value, list | tuple):
        return JOINED[column].join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else ""
    return "" if value is None else str(value)


def read(data: bytes) -> Given:
    """Entries of a file. Raises TriptychError where it is no table of opinions."""
    text, notes = decoded(data)
    start = 0
    if separator := re.match(r"sep=(.)\r?\n", text):  # what Excel writes and hides
        text, start = text[separator.end() :], 1
    given = Given(notes=notes)
    delimiter = separator[1] if separator else _delimiter(text)
    with _no_limit(len(text)):
        rows = _rows(text, delimiter, start, given)
        for _, cells in rows:
            if any(cells):
                names = _header(cells, delimiter)
                break
        else:
            raise TriptychError(f"the file is empty: its first line names columns ({_some()})")
        given.notes += known_columns([name for name in names if name])
        for line, cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if any(cell.strip() for cell in cells[len(names) :]):
                given.refused.append(
                    f"line {line}: {len(cells)} cells and {len(names)} columns: put a cell that "
                    f"holds {_called(delimiter)} into double quotes"
                )
                continue
            values = {name: meant(cell) for name, cell in zip(names, cells) if name in COLUMNS}
            given.entries.append(Entry(f"line {line}", values))
    return given


def decoded(data: bytes) -> tuple[str, list[str]]:
    """A file's text, and what to say of how it was read. Raises TriptychError."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            try:
                return data.decode(name), []
            except UnicodeDecodeError:
                break
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise TriptychError("the file is no text: save it as CSV UTF-8")
    return text, ["it is not UTF-8 and was read as Windows-1252: look at letters with accents"]


def _delimiter(text: str) -> str:
    """That by which most of the header's names are columns of ours."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def known(delimiter: str) -> int:
        return len({_name(cell) for cell in first.split(delimiter)} & COLUMNS.keys())

    return max(DELIMITERS, key=known)


def _header(cells: list[str], delimiter: str) -> list[str]:
    names = [_name(cell) for cell in cells]
    if not set(names) & COLUMNS.keys():
        raise TriptychError(
            f"the first line names no column of opinions: it needs some of {_some()}; it has "
            f"{', '.join(repr(name[:30]) for name in names[:6])}"
        )
    twice = [name for name in names if name in COLUMNS and names.count(name) > 1]
    if twice:
        places = [str(n + 1) for n, name in enumerate(names) if name == twice[0]]
        raise TriptychError(
            f"the column {twice[0]!r} is there {len(places)} times (columns {', '.join(places)}): "
            "keep the one that counts"
        )
    return names


def _name(cell: str) -> str:
    return re.sub(r"[\s-]+", "_", cell.strip().strip('"').strip().lower())


def _rows(text: str, delimiter: str, start: int, given: Given) -> Iterator[tuple[int, list[str]]]:
    """(the line on which a row begins, its cells); what cannot be taken apart is refused."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = start + reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = "a quote that is opened is never closed" if "end of data" in str(error) else error
            given.refused.append(f"line {line}: {why}; a quote inside a cell is written twice")


@contextmanager
def _no_limit(size: int) -> Iterator[None]:
    """Cells of any size: too long a one is a row's fault, not the file's."""
    before = csv.field_size_limit(max(size, 1 << 17))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _called(delimiter: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(delimiter, repr(delimiter))


def _some() -> str:
    return "item_id, triplet_id, reader, verdict, …: docs/verdicts.md lists them"
