"""A published benchmark as what rows may not be of: its questions and pictures, in any usual form.

Read leniently, since a question that cannot be gold is on the benchmark all the same: VQA-RAD's own
JSON, a list or dictionary of rows as JSON, JSON Lines, CSV, TSV, Parquet, a folder of these with
pictures beside them, or what `datasets` saved. A row's question, id and picture are found by the
names that such files give them; pictures are files in the folder, or bytes in the rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import TriptychError

QUESTION = ("question", "query", "prompt", "problem", "instruction")
ID = ("qid", "question_id", "questionid", "id", "index", "idx", "uid")
IMAGE = (
    "image", "image_name", "image_path", "image_file", "image_id", "img", "img_name", "img_path",
    "figure_path", "file_name", "filename", "images",
)  # fmt: skip
TABLES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"}
PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif"}
FORMS = "JSON, JSON Lines, CSV, TSV, Parquet, pictures, or a dataset that `datasets` saved"


@dataclass(frozen=True, slots=True)
class Asked:
    """A benchmark's question: its own id, else its place; its picture's name, empty without."""

    id: str
    question: str
    image: str


@dataclass
class Published:
    """A benchmark's questions, its files of pictures, and the pictures that its rows held."""

    name: str
    questions: list[Asked] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    held: list[tuple[str, bytes]] = field(default_factory=list)

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Each picture's name with its file's bytes."""
        for path in self.files:
            yield path.name, path.read_bytes()
        yield from self.held


def read_published(name: str, path: Path) -> Published:
    """A benchmark from a file or folder; raises TriptychError where it holds neither questions nor
    pictures, or a file of it cannot be read."""
    check_published(name, path)
    where, found = _where(name, path), Published(name)
    saved = path.is_dir() and any((path / n).exists() for n in ("dataset_dict.json", "state.json"))
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    try:
        if saved:
            _take(found, _saved(path), path.name)
        else:
            for file in files:
                if file.suffix.lower() in TABLES:
                    _take(found, _rows(file), file.name)
    except (OSError, ValueError, RecursionError, KeyError) as error:
        raise TriptychError(f"{where} cannot be read: {' '.join(str(error).split())}") from None
    found.files += [file for file in files if file.suffix.lower() in PICTURES]
    if not (found.questions or found.files or found.held):
        raise TriptychError(f"{where} holds no question and no picture: give {FORMS}")
    return found


def check_published(name: str, path: Path) -> None:
    """Raise TriptychError where a benchmark's file or folder is not there."""
    if not path.exists():
        raise TriptychError(
            f"{_where(name, path)} does not exist: give the benchmark's file or folder"
        )


def _where(name: str, path: Path) -> str:
    return f"select.contamination.benchmarks.{name}: {path}"


def _saved(path: Path) -> Iterator[dict[str, Any]]:
    from datasets import Dataset, DatasetDict, Image, load_from_disk

    loaded = load_from_disk(str(path))
    splits: Iterable[Dataset] = loaded.values() if isinstance(loaded, DatasetDict) else [loaded]
    for split in splits:
        for column, feature in split.features.items():
            if isinstance(feature, Image):
                split = split.cast_column(column, Image(decode=False))
        yield from split


def _rows(file: Path) -> Iterator[Any]:
    """A table's rows."""
    kind = file.suffix.lower()
    if kind == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(1000):
                yield from batch.to_pylist()
    elif kind in (".csv", ".tsv"):
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield from csv.DictReader(text, delimiter="\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        yield from _listed(json.loads(file.read_text(encoding="utf-8-sig")))
    else:
        with file.open(encoding="utf-8-sig") as text:
            yield from (json.loads(line) for line in text if line.strip())


def _listed(value: Any) -> Iterator[Any]:
    """The rows of a JSON document: of a list, of lists in an object, or of an object by id."""
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        if _field(value, QUESTION):
            yield value
            return
        for key, inner in value.items():
            if isinstance(inner, list):
                yield from inner
            elif isinstance(inner, dict):
                yield {"id": key, **inner}


def _take(found: Published, rows: Iterable[Any], file: str) -> None:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            continue
        question, image = _field(row, QUESTION), _field(row, IMAGE)
        name = _picture(found, image, f"{file}#{number}")
        if isinstance(question, str) and question.strip():
            own = _field(row, ID)
            told = str(own) if isinstance(own, str | int) and str(own) else f"{file}#{number}"
            found.questions.append(Asked(told, question, name))


def _picture(found: Published, value: Any, place: str) -> str:
    """The name of a row's first picture; bytes are kept under it."""
    if isinstance(value, list | tuple):
        names = [_picture(found, one, f"{place}.{n}") for n, one in enumerate(value)]
        return names[0] if names else ""
    if isinstance(value, dict):
        name = Path(str(value.get("path") or place)).name
        if value.get("bytes"):
            found.held.append((name, value["bytes"]))
        return name
    if isinstance(value, bytes):
        found.held.append((place, value))
        return place
    return Path(value).name if isinstance(value, str) else ""


def _field(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    """A row's value under the first of some names that it has, whatever their case."""
    by_name = {str(key).strip().lower(): value for key, value in row.items()}
    return next((by_name[n] for n in names if by_name.get(n) not in (None, "")), None)
