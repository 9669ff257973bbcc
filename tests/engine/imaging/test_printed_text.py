"""Print of any kind in pixels: turned, askew, large, faint, spaced; two detectors, one union."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.burned_in import KINDS, of_kind
from engine.errors import TriptychError
from engine.imaging import ocr
from engine.imaging.decode import Decoder
from engine.imaging.errors import ImagingError
from engine.imaging.ingest import Rules, ingest_file
from engine.imaging.text import TEXT_FOUND, text_lines
from generators.phantoms import draw, to_display
from tests.commands import KEY
from tests.engine.imaging.datasets import grey, save

PLAIN = [to_display(draw(kind, seed, 256)) for kind in ("X-ray", "MR") for seed in range(4)]
EXPECTED = {"faint": 1, "spaced": 5, "askew 10°": 6}  # of 8; all others: 8


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_detector_finds_print_of_the_kind(kind: str) -> None:
    rng = np.random.default_rng(3)
    found = [text_lines(of_kind(picture, kind, rng)) > 0 for picture in PLAIN]
    assert sum(found) >= EXPECTED.get(kind, 8)


def test_our_own_detector_sees_no_print_where_there_is_none() -> None:
    assert [text_lines(picture) for picture in PLAIN] == [0] * len(PLAIN)


@pytest.mark.usefixtures("rapidocr")
def test_the_union_keeps_a_file_out_and_the_row_says_who_looked(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    faint = next(p for n in PLAIN if not text_lines(p := of_kind(n, "faint", rng)))[..., 0]
    pictures = {"faint": faint, "plain": PLAIN[0]}
    window = {"WindowCenter": "128", "WindowWidth": "256"}
    files = {
        name: save(grey(p.astype(np.uint16), **window), tmp_path / name)
        for name, p in pictures.items()
    }
    with Decoder() as decoder:
        done = {name: ingest_file(decoder, tmp_path, path, RULES) for name, path in files.items()}
        with pytest.raises(ImagingError, match=TEXT_FOUND):
            decoder.clean(tmp_path / "faint", KEY.encode())
    assert [r.reason for r in done["faint"].refusals] == [f"quarantined: {TEXT_FOUND}"]
    assert done["plain"].images[0].deidentification.endswith("by RapidOCR neither")


RULES = Rules(KEY.encode())


@pytest.mark.usefixtures("rapidocr")
def test_a_picture_that_cannot_be_searched_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(pixels: np.ndarray) -> bool:
        raise ValueError("a fault in C++")

    monkeypatch.setattr(ocr, "reads_text", fails)
    assert ocr.printed_text(PLAIN[0]) == "text not ruled out"


@pytest.mark.usefixtures("rapidocr")
def test_missing_weights_are_one_line_and_never_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import rapidocr

    monkeypatch.setattr(rapidocr, "__file__", str(tmp_path / "rapidocr" / "__init__.py"))
    monkeypatch.delattr(ocr._own, "engine", raising=False)
    with pytest.raises(TriptychError, match="no weights"):
        ocr.printed_text(PLAIN[0])


@pytest.mark.usefixtures("rapidocr")
def test_rapidocr_says_nothing_and_starts_no_threads_of_its_own() -> None:
    code = (
        "import os, cv2, onnxruntime, rapidocr, numpy as np; from engine.imaging import ocr\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "assert not ocr.reads_text(np.zeros((64, 64), np.uint8))\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
