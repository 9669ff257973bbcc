"""The table beside the images: labels, reports, patients, splits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from engine.errors import TriptychError
from engine.imaging.table import read_table
from engine.records import Image
from engine.workspace import Workspace
from tests.commands import command, ingested, refused
from tests.engine.imaging.datasets import grey, ramp, save


def table(tmp_path: Path, text: str, name: str = "labels.csv") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_a_table_gives_labels_reports_patients_and_splits(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(4):
        pixels = np.roll(ramp() % 251, 900 * number, axis=number % 2).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "deep" / f"{number}.png")
    table(
        tmp_path,
        "path,patient,split,modality,report,finding,reader\n"
        'deep/0.png,P1,test,MR,"Mild cardiomegaly. No effusion.",cardiomegaly,Anna\n'
        "deep/1.png,P1,,MR,SEEN BY SMITH,Anna Smith,Anna\n"
        "deep/2.png,P2,validation,CT,,3,Anna\n"
        "deep/9.png,P3,,,,,\n",
    )
    said = ingested(tmp_path, tmp_path / "run", "source.labels=[finding]")
    done = command("ingest", "-w", tmp_path / "run", "--release", "all", "--by", "R")
    assert "4 released" in done.stdout, done.stderr
    assert "1 without file, 1 reports refused, 1 labels refused" in " ".join(said.split())
    images = Workspace.existing(tmp_path / "run").read(Image)
    found = {i.labels: i for i in images}
    first = found['{"finding":"cardiomegaly"}']
    assert (first.report, first.split, first.modality) == (
        "Mild cardiomegaly. No effusion.", "test", "MR",
    )  # fmt: skip
    assert [i.split for i in images if i.group == first.group] == ["test", "test"]
    assert found['{"finding":"3"}'].split == "val"
    assert all("Anna" not in str(i.to_dict()) for i in images)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,split\na,train\n", "line 2 has no 'path'"),
        ("path,split\na,training\n", "line 2: split is none of"),
        ("path\na\n./a\n", "lines 2 and 3 are about one file"),
        ("path\n\xff", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(TriptychError, match=re.escape(said)):
        read_table(tmp_path / "labels.csv", [])


def test_json_lines_and_tabs_are_read_too(tmp_path: Path) -> None:
    lines = table(tmp_path, '{"path": "a", "patient": 7, "grade": 2}\n', "t.jsonl")
    tabs = table(tmp_path, "path\tpatient\tgrade\na\t7\t2\n", "t.tsv")
    expected = {"patient": "7", "labels": '{"grade":"2"}'}
    for path in (lines, tabs):
        entry = read_table(path, ["grade"])["a"]
        assert {k: getattr(entry, k) for k in expected} == expected


def test_a_split_that_would_part_a_patient_is_refused_by_line(tmp_path: Path) -> None:
    for number in range(2):
        save(grey(np.roll(ramp(), 900 * number)), tmp_path / f"{number}.dcm")
    table(tmp_path, "path,patient,split\n0.dcm,P1,train\n1.dcm,P1,test\n")
    message = refused(tmp_path, tmp_path / "run")
    assert "line 2" in message
    assert "line 3" in message
    assert "P1" not in message
