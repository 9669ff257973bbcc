"""RapidOCR as a second detector of printed text, where `triptych[ocr]` is installed.

It reads text that `engine.imaging.text` cannot find: askew, large, faint, spaced. Its wheel carries
its weights (PP-OCRv6, ONNX); nothing is fetched. It is shown pixels that are decoded already,
upright and turned by 90 degrees, on one thread a caller.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import TriptychError
from engine.imaging.text import TEXT_FOUND, text_lines

SHORTEST = 3  # letters and digits of a line that may name: "R" and "PA" are markers
SUREST = 0.6  # mean confidence of a line's characters, below which it is no text
MODELS = {"Det": "det", "Rec": "rec"}  # RapidOCR's sections, and what its files are called
_own = threading.local()


@cache
def installed() -> bool:
    """Whether RapidOCR and what runs it are there."""
    return all(find_spec(name) is not None for name in ("rapidocr", "onnxruntime"))


def printed_text(pixels: np.ndarray) -> str | None:
    """Why (H, W) or (H, W, 3) uint8 may carry printed text, None where neither detector finds any.

    Raises TriptychError where RapidOCR is installed and cannot start.
    """
    if text_lines(pixels):
        return TEXT_FOUND
    try:
        return TEXT_FOUND if installed() and reads_text(pixels) else None
    except TriptychError:
        raise
    except Exception:  # of its C++ libraries; a picture that was not searched is not cleared
        return "text not ruled out"


def reads_text(pixels: np.ndarray) -> bool:
    """Whether a line of text is read in (H, W) or (H, W, 3) uint8, upright or turned by 90 degrees.

    Raises TriptychError where RapidOCR is installed and cannot start.
    """
    colour = np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels
    bgr = colour[..., ::-1]
    return any(_lines(np.ascontiguousarray(shown)) for shown in (bgr, np.rot90(bgr)))


def _lines(bgr: np.ndarray) -> bool:
    found = _engine()(bgr)
    read = zip(found.txts or (), found.scores or ())
    return any(
        score >= SUREST and sum(c.isalnum() for c in text) >= SHORTEST for text, score in read
    )


def _engine() -> Any:
    """This thread's own, because RapidOCR's objects keep state."""
    if not hasattr(_own, "engine"):
        _own.engine = _started()
    return _own.engine


def _started() -> Any:
    import cv2
    import rapidocr

    folder = Path(rapidocr.__file__).parent / "models"
    files = {section: sorted(folder.glob(f"*_{word}_*.onnx")) for section, word in MODELS.items()}
    if not all(files.values()):  # it would fetch them
        raise TriptychError("rapidocr has no weights in its folder: install triptych[ocr] again")
    cv2.setNumThreads(1)
    threads = "EngineConfig.onnxruntime.{}_op_num_threads"
    settings: dict[str, Any] = {"Global.log_level": "critical", "Global.use_cls": False}
    settings |= {f"{section}.model_path": str(found[-1]) for section, found in files.items()}
    settings |= {threads.format(kind): 1 for kind in ("intra", "inter")}
    return rapidocr.RapidOCR(params=settings)
