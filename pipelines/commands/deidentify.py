"""DICOM files that may leave: cleaned copies of a folder's files, under keyed names.

triptych deidentify STUDIES OUT --key-file FILE
"""

from __future__ import annotations

import csv
from pathlib import Path

from engine.config.source import Source
from engine.errors import TriptychError
from engine.imaging.decode import Decoder
from engine.imaging.deidentify import hidden_path
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import list_files
from pipelines.progress import Display
from pipelines.source import secret_key, weak_key


def write_cleaned(folder: Path, out: Path, key_file: Path | None, display: Display) -> int:
    """Write OUT/<keyed path>.dcm for each file that can be cleaned, and OUT/report.csv.

    Returns how many. Raises TriptychError where `out` exists or `folder` does not.
    """
    if not folder.is_dir():
        raise TriptychError(f"{folder} is not a folder: give the folder of the DICOM files")
    if out.exists():
        raise TriptychError(f"{out} exists: give a new folder")
    source = Source(path=str(folder), key_file=str(key_file) if key_file else None)
    key = secret_key(source, 0, out)
    weak_key(key, display)
    files = [
        path for path in list_files(folder) if not path.resolve().is_relative_to(out.resolve())
    ]
    out.mkdir(parents=True)
    written = 0
    with Decoder() as decoder, (out / "report.csv").open("w", newline="") as report:
        table = csv.writer(report)
        table.writerow(["path", "status", "reason"])
        for path in files:
            name = hidden_path(path.relative_to(folder).as_posix(), key)
            try:
                data = decoder.clean(path, key)
            except ImagingError as error:
                table.writerow([name, "refused", str(error)])
                continue
            target = out / f"{name}.dcm"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            table.writerow([name, "written", ""])
            written += 1
    display.done(f"{written} of {len(files)} files written to {out}")
    return written
