"""PNG, JPEG and TIFF to 8-bit pixels. EXIF, ICC profiles and comments stay behind."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageOps

from engine.imaging.codestream import JPEG, read_codestream
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.levels import Levels
from engine.imaging.render import MAX_BYTES, check_size
from engine.imaging.voi import not_finite, only_finite, percentile_window

PIL.Image.MAX_IMAGE_PIXELS = MAX_BYTES // 4
MAX_PAGES = 10_000
# TIFF tags: what kind of page, and whether 0 is white.
SUBFILE_TYPE, PHOTOMETRIC = 254, 262
REDUCED, WHITE_IS_ZERO = 1, 0
DAMAGED = (OSError, SyntaxError, EOFError, ValueError, KeyError, IndexError, TypeError)


def open_picture(data: bytes, kind: str) -> PIL.Image.Image:
    """A PNG, JPEG or TIFF, header only. Raises ImagingError where it is too large or broken."""
    try:
        picture = PIL.Image.open(BytesIO(data), formats=[kind])
    except PIL.Image.DecompressionBombError as error:
        limit = f"more than {MAX_BYTES >> 20} MiB of pixels"
        raise ImagingError(Reason.TOO_LARGE, limit) from error
    except DAMAGED as error:
        raise _unopened(data, kind) from error
    _check_page(picture)
    return picture


def _unopened(data: bytes, kind: str) -> ImagingError:
    """Why pillow does not open a file: it may be sound, and of a kind that pillow does not read."""
    with suppress(ImagingError):
        stream = read_codestream(data)
        if stream is not None and stream.kind != JPEG:
            return ImagingError(Reason.UNSUPPORTED, stream.kind)
    other = ", or one of a kind that is not read" if kind == "TIFF" else ""
    return ImagingError(Reason.UNREADABLE, f"damaged {kind}{other}")


def pages(picture: PIL.Image.Image) -> list[int]:
    """The pages of a TIFF that are images of their own; a PNG or JPEG is one.

    Reduced pages (thumbnails and, in slide scans, labels that name the patient) are left out, the
    first page excepted.
    """
    if picture.format != "TIFF":
        return [0]
    found = []
    try:
        for page in range(MAX_PAGES):
            picture.seek(page)
            if page == 0 or not int(picture.tag_v2.get(SUBFILE_TYPE, 0)) & REDUCED:  # type: ignore[attr-defined]
                found.append(page)
    except DAMAGED:  # pillow ends a file of several pages so
        pass
    return found


def render_picture(picture: PIL.Image.Image, page: int) -> tuple[np.ndarray, dict[str, Any]]:
    """One page as (H, W) or (H, W, 3) uint8 and the choices made.

    Turned as its EXIF orientation says; transparency goes to black; grey of more than 8 bits goes
    through a percentile window, since a picture does not say how many of its bits are used.
    """
    try:
        picture.seek(page)
        _check_page(picture)
        upright = ImageOps.exif_transpose(picture)
        choices = {"mode": picture.mode, "format": picture.format}
        if upright.mode.startswith("I") or upright.mode == "F":
            return _window_deep(np.asarray(upright), _white_is_zero(picture), choices)
        if upright.mode in ("1", "L"):
            return np.asarray(upright.convert("L")), choices
        black = PIL.Image.new("RGBA", upright.size, "black")
        flat = PIL.Image.alpha_composite(black, upright.convert("RGBA")).convert("RGB")
    except DAMAGED as error:
        raise ImagingError(Reason.DECODING_FAILED) from error
    return np.asarray(flat), choices


def _check_page(picture: PIL.Image.Image) -> None:
    check_size(picture.width * picture.height * 4, 0)


def _white_is_zero(picture: PIL.Image.Image) -> bool:
    """Pillow turns such 8-bit TIFFs itself, and leaves deeper ones as they are."""
    tags = getattr(picture, "tag_v2", {})
    return tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def _window_deep(
    stored: np.ndarray, inverted: bool, choices: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    levels = Levels.of(stored)
    values, finite = only_finite(levels.values.astype(np.float64))
    window = percentile_window(values, levels.counts * finite)
    shown = window.apply(values)
    more = {"window": [window.centre, window.width], "voi_function": window.function,
            "window_source": window.source, "inverted": inverted}  # fmt: skip
    shown = 255 - shown if inverted else shown
    table = np.where(finite, np.round(shown), 0).astype(np.uint8)
    return levels.look_up(table), choices | more | not_finite(levels, finite)
