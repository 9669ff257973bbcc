"""What can be found out about a folder and a machine before a configuration is written for them.

A sample of the files is opened, and of each no more than its head. Of patients it is only counted
how many there are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from engine.errors import TriptychError
from engine.imaging.anatomy import modality_name
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import list_files
from engine.imaging.reader import HEAD, file_format
from engine.imaging.table import KNOWN, NAMES, each_row, read_table
from engine.sets.vqa_rad import read_vqa_rad
from reward_model.experts.default_questions import is_common
from reward_model.experts.label_questions import labels_of

SAMPLE = 256  # files that are opened
PATIENT_ID = 0x00100020
COLUMNS = 0x00280011
TEXT_WORDS = 8  # on average, above which a column is free text
_PATIENT = re.compile(r"(?:patient|subject|pat|mrn|case)(?:[\W_]*(?:id|no|number|name))?", re.I)
_REPORT = re.compile(r".*(?:report|impression|narrative|findings?_?text|comments?)", re.I)
_NO_LABEL = re.compile(  # of the patient or the recording, and seen in no picture
    r"(?:.*[\W_])?(?:age|sex|gender|race|ethnicity|dates?|time|year|ids?|uid|name|site|hospital|"
    r"institution|manufacturer|scanner|device|model|split|fold|index|hash|weight|height)"
    r"(?:[\W_].*)?",
    re.I,
)


@dataclass(frozen=True, slots=True)
class TableFound:
    """A table that ingest can read: columns by what they look like, and cells of the labels."""

    name: str
    rows: int
    without_file: int
    patients: int  # 0 without a column of patients
    labels: Mapping[str, Counter[str]]
    reports: bool
    to_rename: Mapping[str, str]  # columns that look like one of ours under another name


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds; counts of kinds and modalities are of the sample."""

    files: int
    opened: int
    kinds: Counter[str]  # DICOM, PNG, JPEG, TIFF, NIFTI
    modalities: Counter[str]
    patients: int  # about how many
    table: TableFound | None
    tables_without_path: list[str] = field(default_factory=list)
    questions: int = 0  # of VQA-RAD's JSON

    @property
    def images(self) -> int:
        """About how many files are images."""
        return round(self.files * self.kinds.total() / max(self.opened, 1))


def look_into(folder: Path) -> Found:
    """What a folder of images holds.

    Raises TriptychError where it is none, where nothing in it is an image that ingest reads, and
    what ingest would raise of its table.
    """
    if not folder.is_dir():
        raise TriptychError(f"--images {folder} is not a folder")
    files = list_files(folder)
    sample = files[:: max(1, len(files) // SAMPLE)]
    kinds: Counter[str] = Counter()
    modalities: Counter[str] = Counter()
    patients: Counter[object] = Counter()
    for path in sample:
        kind, head = _kind(path)
        if kind:
            kinds[kind] += 1
            modality, patient = _dicom(head) if kind == "DICOM" else ("", path)
            modalities.update([modality] if modality else [])
            patients[patient] += 1
    if not kinds:
        raise TriptychError(
            f"{folder} holds no DICOM, PNG, JPEG, TIFF or NIfTI file (of {len(files)} files "
            f"{len(sample)} were opened): give the folder of your images"
        )
    table, others = _table(folder)
    share = len(sample) / len(files)
    return Found(
        files=len(files),
        opened=len(sample),
        kinds=kinds,
        modalities=modalities,
        patients=(table.patients if table else 0) or _how_many(patients, share),
        table=table,
        tables_without_path=others,
        questions=_questions(folder),
    )


def picture_sizes(folder: Path) -> tuple[list[tuple[int, int]], int]:
    """(sizes, as width and height, of a sample of a folder's pictures; about how many there are).

    Of DICOM those that the header tells; of NIfTI none.
    """
    files = list_files(folder)
    sample = files[:: max(1, len(files) // SAMPLE)]
    kinds = [_kind(path) for path in sample]
    images = sum(bool(kind) for kind, _ in kinds)
    found = [_size(path, *kind) for path, kind in zip(sample, kinds)]
    return [size for size in found if size], round(len(files) * images / max(len(sample), 1))


def _size(path: Path, kind: str, head: bytes) -> tuple[int, int] | None:
    from PIL import Image
    from pydicom.filereader import read_partial

    try:
        if kind == "DICOM":
            header = read_partial(BytesIO(head), stop_when=lambda tag, vr, size: tag > COLUMNS)
            return int(header.Columns), int(header.Rows)
        if kind in ("PNG", "JPEG", "TIFF"):
            with Image.open(path) as image:
                return image.size
    except Exception:  # whatever the libraries raise of a damaged file: ingest says what it is
        return None
    return None


def _kind(path: Path) -> tuple[str, bytes]:
    """A file's format and its head, "" where it is no image that ingest reads."""
    try:
        if not path.is_file():
            return "", b""
        with path.open("rb") as file:
            head = file.read(HEAD)
        return file_format(head), head
    except (OSError, ImagingError):
        return "", b""


def _dicom(head: bytes) -> tuple[str, str]:
    """Modality and patient of a DICOM file, of whose head only what stands before is parsed."""
    from pydicom.filereader import read_partial

    try:
        header = read_partial(BytesIO(head), stop_when=lambda tag, vr, size: tag > PATIENT_ID)
        return modality_name(header.get("Modality")), str(header.get("PatientID"))
    except Exception:  # whatever pydicom raises of a damaged file: ingest says what it is
        return "other", ""


def _how_many(seen: Counter[object], share: float) -> int:
    """About how many patients there are, by how many of a sample were met once and twice.

    A lower bound after Chao (1984, Scandinavian Journal of Statistics 11:265-270).
    """
    times = Counter(seen.values())
    if share == 1:
        return len(seen)
    if len(seen) == seen.total():
        return round(len(seen) / share)
    return min(round(len(seen) / share), len(seen) + times[1] ** 2 // max(2 * times[2], 1))


def _questions(folder: Path) -> int:
    """How many questions VQA-RAD's JSON in the folder has; 0 where there is none."""
    if not (folder / "images").is_dir():
        return 0
    try:
        return len(read_vqa_rad(folder).questions)
    except (TriptychError, OSError):
        return 0


def _table(folder: Path) -> tuple[TableFound | None, list[str]]:
    """The one table with paths of files, and the names of those without a column `path`.

    Raises TriptychError where there are several with one, or what ingest would read is no table.
    """
    ends = {Path(name).suffix for name in NAMES}
    with_path: list[Path] = []
    without: list[Path] = []
    found = (p for p in folder.iterdir() if p.suffix.lower() in ends and p.name.isprintable())
    for path in sorted(p for p in found if p.is_file()):
        try:
            first = next(each_row(path), (0, {}))[1]
        except TriptychError:
            if path.name in NAMES:  # ingest would read it
                raise
            continue
        (with_path if "path" in first else without).append(path)
    if len(with_path) > 1:
        named = [path for path in with_path if path.name in NAMES]
        if len(named) != 1:
            names = ", ".join(path.name for path in with_path)
            raise TriptychError(f"{folder} has several tables with paths ({names}): keep one there")
        with_path = named
    return (_read(with_path[0], folder) if with_path else None), [path.name for path in without]


def _read(path: Path, folder: Path) -> TableFound:
    rows = [row for _, row in each_row(path)]
    shared = set(rows[0]).intersection(*rows) if rows else set()
    there = [column for column in rows[0] if column in shared and column and column not in KNOWN]
    to_rename = {
        column: ours
        for ours, looks in (("patient", _PATIENT), ("report", _REPORT))
        if not any(row.get(ours) for row in rows)
        for column in there
        if looks.fullmatch(column)
    }
    columns = [c for c in there if c not in to_rename and not _NO_LABEL.fullmatch(c)]
    entries = read_table(path, columns, is_common)
    cells: dict[str, Counter[str]] = {column: Counter() for column in columns}
    for entry in entries.values():
        for column, cell in labels_of(entry.labels).items():
            cells[column][cell] += 1
    labels = {c: cells[c] for c in columns if _is_label(cells[c], [row[c] for row in rows])}
    return TableFound(
        name=path.name,
        rows=len(entries),
        without_file=sum(not (folder / name).is_file() for name in entries),
        patients=len({entry.patient for entry in entries.values() if entry.patient}),
        labels=labels,
        reports=any(entry.report for entry in entries.values()),
        to_rename=to_rename,
    )


def _is_label(kept: Counter[str], cells: Sequence[Any]) -> bool:
    """Whether most of a column's cells may be used, and they are few words."""
    said = [str(cell) for cell in cells if cell is not None and str(cell).strip()]
    words = sum(len(cell.split()) * number for cell, number in kept.items())
    return bool(kept) and kept.total() >= 0.5 * len(said) and words <= TEXT_WORDS * kept.total()


def gpu_memory() -> list[int]:
    """The memory of each NVIDIA GPU of this machine, in MiB, as its driver tells."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [int(line) for line in told.split() if line.isdigit()]
