"""A file to a pydicom dataset or plain picture, bounded before anything is inflated or allocated.

Runs in the decoder's child process (`engine.imaging.child`), because no check here can stop a codec
from crashing.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageOps
from pydicom import Dataset, dcmread
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from engine.imaging.errors import ImagingError, Reason
from engine.imaging.render import MAX_BYTES, percentile_window

PICTURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
EXECUTABLES = (b"MZ", b"\x7fELF")  # a preamble that is also a program: CVE-2019-11687
PIL.Image.MAX_IMAGE_PIXELS = MAX_BYTES // 4


def picture_format(path: Path) -> str | None:
    """PNG, JPEG or TIFF by the first bytes, None for anything else (DICOM with a preamble too)."""
    head = _head(path)
    if head[128:132] == b"DICM":  # a preamble may look like a TIFF on purpose (PS3.10 7.1)
        return None
    return next((name for magic, name in PICTURES.items() if head.startswith(magic)), None)


def executable_preamble(path: Path) -> bool:
    """Whether the file starts as a program does (CVE-2019-11687)."""
    return _head(path).startswith(EXECUTABLES)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)


def read_dicom(path: Path) -> Dataset:
    """A DICOM file's dataset, with or without preamble. Raises ImagingError for anything else."""
    try:
        with path.open("rb") as file:
            if read_preamble(file, force=True):
                meta = _read_file_meta_info(file)
                if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                    return _inflate(meta, file.read())
        dataset = dcmread(path, force=True)
    except (ImagingError, MemoryError):
        raise
    except Exception as error:
        raise ImagingError(Reason.UNREADABLE) from error
    if "SOPClassUID" not in dataset:
        if _head(path)[128:132] == b"DICM":
            raise ImagingError(Reason.UNREADABLE, "damaged DICOM")
        raise ImagingError(Reason.NOT_AN_IMAGE, "neither DICOM nor PNG, JPEG or TIFF")
    return dataset


def _inflate(meta: Any, data: bytes) -> Dataset:
    """A deflated dataset (PS3.5 A.5), inflated no further than MAX_BYTES."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data, MAX_BYTES)
    if inflater.unconsumed_tail:
        raise ImagingError(Reason.TOO_LARGE, f"inflates to more than {MAX_BYTES >> 20} MiB")
    dataset = read_dataset(BytesIO(plain), is_implicit_VR=False, is_little_endian=True)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def open_picture(path: Path, kind: str) -> PIL.Image.Image:
    """A PNG, JPEG or TIFF, header only. Raises ImagingError where it is too large or broken."""
    try:
        picture = PIL.Image.open(path, formats=[kind])
    except PIL.Image.DecompressionBombError as error:
        raise ImagingError(Reason.TOO_LARGE) from error
    except OSError as error:
        raise ImagingError(Reason.UNREADABLE) from error
    if picture.width * picture.height * 4 > MAX_BYTES:
        raise ImagingError(Reason.TOO_LARGE, f"more than {MAX_BYTES >> 20} MiB of pixels")
    return picture


def render_picture(picture: PIL.Image.Image, frame: int) -> tuple[np.ndarray, dict[str, Any]]:
    """One page as (H, W) or (H, W, 3) uint8 and the choices made; metadata (EXIF) stays behind.

    Turned as its EXIF orientation says; transparency goes to black; grey of more than 8 bits goes
    through a percentile window, since a PNG does not say how many of its bits are used.
    """
    try:
        picture.seek(frame)
        upright = ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        raise ImagingError(Reason.DECODING_FAILED) from error
    choices = {"frame": frame, "frames": getattr(picture, "n_frames", 1), "mode": picture.mode,
               "format": picture.format}  # fmt: skip
    if upright.mode.startswith("I") or upright.mode == "F":
        return _window_deep(np.asarray(upright, np.float64), choices)
    if upright.mode in ("1", "L"):
        return np.asarray(upright.convert("L")), choices
    black = PIL.Image.new("RGBA", upright.size, "black")
    return np.asarray(
        PIL.Image.alpha_composite(black, upright.convert("RGBA")).convert("RGB")
    ), choices


def _window_deep(values: np.ndarray, choices: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    if not np.isfinite(values).all():
        raise ImagingError(Reason.NOT_FINITE)
    window = percentile_window(values)
    more = {"window": [window.centre, window.width], "voi_function": window.function,
            "window_source": window.source}  # fmt: skip
    return np.round(window.apply(values)).astype(np.uint8), choices | more
