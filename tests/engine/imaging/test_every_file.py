"""Every file of the folder has a row in ingest-report.csv, whatever its name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.imaging.ingest import Rules, belongs, list_files
from tests.commands import ingested, report_of
from tests.engine.imaging.datasets import grey, ramp, save

NAMES = ("plain.dcm", "scan.txt", "IM0001.json", "notes.md", "img.csv", "x.yaml", "DICOMDIR",
         "a.parquet", ".hidden", "deep/.folder/IM2", "x.truth.json", "no ending", "labels.tsv",
         "LABELS.CSV", "b.jsonl")  # fmt: skip
OTHERS = {
    "labels.csv": ("skipped", "the table"),
    "plain.dcm.truth.json": ("skipped", "the truth of a phantom"),
    "alone.truth.json": ("refused", "not an image: neither DICOM, NIfTI, PNG, JPEG nor TIFF"),
    ".truth.json": ("refused", "not an image: neither DICOM, NIfTI, PNG, JPEG nor TIFF"),
    "README.md": ("refused", "not an image: neither DICOM, NIfTI, PNG, JPEG nor TIFF"),
    ".DS_Store": ("refused", "unreadable file: empty file"),
    "link": ("refused", "unreadable file: a link to a folder, which is not followed"),
    "pipe": ("refused", "unreadable file: not a regular file"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of names that are not an image's, and files that are none."""
    folder = tmp_path_factory.mktemp("folder")
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        stored = np.roll(ramp(), 277 * number, axis=0) // (1 + number % 3)
        save(grey(stored, PatientID=f"P{number}", WindowCenter="2000", WindowWidth="3500"),
             folder / name)  # fmt: skip
    for name in OTHERS:
        (folder / name).write_text("" if name == ".DS_Store" else "{}") if name[0] != "l" else None
    (folder / "labels.csv").write_text("path,finding\nplain.dcm,nodule\n")
    (folder / "pipe").unlink()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "deep")
    return folder


def test_every_file_has_a_row_and_its_name_decides_nothing(folder: Path) -> None:
    run = folder / "run"  # a workspace below the folder is none of its files
    settings = ("source.paths=keep", "expert.kind=none", "source.table=labels.csv")
    ingested(folder, run, *settings)
    rows = {row["path"]: (row["status"], row["reason"]) for row in report_of(run)}
    assert {name: row for name, row in rows.items() if name not in NAMES} == OTHERS
    assert {rows[name][0] for name in NAMES} <= {"used", "duplicate"}
    assert sum(row[0] == "used" for row in rows.values()) >= 10


def test_a_limit_counts_images_and_says_what_it_leaves_out(folder: Path, tmp_path: Path) -> None:
    settings = ("source.paths=keep", "expert.kind=none", "source.table=labels.csv")
    said = ingested(folder, tmp_path / "run", *settings, "source.limit=4")
    looked_at = [row for row in report_of(tmp_path / "run") if row["status"] != "skipped"]
    assert len(looked_at) == 4
    assert "files beyond source.limit were not looked at" in said


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, which no folder is closed to."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_may_not_be_read_is_listed_and_ends_no_listing(mode: int) -> None:
    """444 tells the names in it and nothing else of them, 111 no names."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "closed" / "below").mkdir(parents=True)
        for name in ("a", "closed/b", "closed/b.truth.json", "closed/below/c", "z"):
            (folder / name).write_text("x")
        (folder / "closed").chmod(mode)
        with as_nobody():
            found = [path.relative_to(folder).as_posix() for path in list_files(folder)]
            assert not any(belongs(folder / name, name, Rules(b"")) for name in found)
        (folder / "closed").chmod(0o755)
    inside = ["closed/b", "closed/b.truth.json", "closed/below"] if mode == 0o444 else ["closed"]
    assert found == ["a", *inside, "z"]


def test_a_closed_folder_has_a_row_and_the_rest_is_ingested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    for number, name in enumerate(("one", "closed/two", "open/three")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        stored = np.roll(ramp(), 900 * number, axis=0) // (1 + number)
        save(grey(stored, PatientID=f"P{number}"), folder / name)
    scan = os.scandir

    def closed_to_root_too(path: str | int = ".") -> Iterator[os.DirEntry[str]]:
        if not isinstance(path, int) and os.fspath(path) == str(folder / "closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed_to_root_too)
    ingested(folder, tmp_path / "run", "source.paths=keep", "expert.kind=none")
    rows = {row["path"]: (row["status"], row["reason"]) for row in report_of(tmp_path / "run")}
    assert rows == {
        "closed": ("refused", "unreadable file: a closed folder"),
        "one": ("used", ""),
        "open/three": ("used", ""),
    }
