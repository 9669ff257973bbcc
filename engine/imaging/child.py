"""The process that decodes: `python -m engine.imaging.child MEMORY_BYTES`, driven by `decode`.

Reads requests and writes replies over its standard streams. A message is two big-endian lengths,
JSON, then raw pixels: nothing here is ever unpickled, so a file that takes this process over gains
no way into the parent. It holds patient ids only while it reads a file, and sends keyed hashes.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
import pydicom.config
from pydicom import Dataset

from engine.imaging.decode import LENGTHS, SPARE, chosen_frames
from engine.imaging.deidentify import NO_HEADER, group_key, quarantine_reason, safe_facts
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader, flatten
from engine.imaging.layout import frame_count
from engine.imaging.nifti import Volume, read_nifti, render_slice
from engine.imaging.picture import open_picture, pages, render_picture
from engine.imaging.reader import executable_preamble, read_dicom, read_file
from engine.imaging.regions import crop_to_regions
from engine.imaging.render import check_header, check_kind, check_size, grey_frame, render_frame

MAX_BAD = 1000  # frames refused one by one; a file with more of them is refused


def send(stream: BinaryIO, message: dict[str, Any], data: bytes | memoryview = b"") -> None:
    """Write one message, which leaves once the stream is flushed or its buffer is full."""
    text = json.dumps(message).encode()
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    stream.write(LENGTHS.pack(len(text), size) + text)
    stream.write(data)


Frame = tuple[np.ndarray, dict[str, Any]]
Opened = tuple[Iterable[int], Callable[[int], Frame]]


def open_file(path: Path, rule: str, key: bytes) -> Opened:
    """The frames that the rule picks, and what renders one: its pixels and what may be said."""
    data, kind = read_file(path)
    if kind == "DICOM":
        return _open_dicom(data, rule, key)
    if kind == "NIFTI":
        return _open_volume(data, rule)
    picture = open_picture(data, kind)
    found = pages(picture)
    return chosen_frames(rule, len(found)), partial(_page, picture, found)


def _open_dicom(data: bytes, rule: str, key: bytes) -> Opened:
    dataset = read_dicom(data)
    flag = {"preamble": "executable"} if executable_preamble(data) else {}
    top = FrameHeader(dataset)
    check_kind(top)
    chosen = chosen_frames(rule, frame_count(top))
    check_header(top, len(chosen))
    about = {"group": group_key(top, key), "quarantine": quarantine_reason(top)}
    return chosen, partial(_dicom_frame, dataset, top, about, flag)


def _dicom_frame(
    dataset: Dataset, top: FrameHeader, about: dict[str, Any], flag: dict[str, Any], frame: int
) -> Frame:
    header = flatten(top, frame)
    pixels, choices = render_frame(dataset, header, frame)
    pixels, box = crop_to_regions(pixels, top)
    crop = {"crop": box} if box else {}
    return pixels, about | {"rendering": choices | crop | flag, "facts": safe_facts(header)}


def _open_volume(data: bytes, rule: str) -> Opened:
    volume = read_nifti(data)
    chosen = chosen_frames(rule, volume.slices)
    check_size(0, volume.voxels[:, :, 0].size * len(chosen))
    return chosen, partial(_slice, volume)


def _slice(volume: Volume, index: int) -> Frame:
    pixels, choices = render_slice(volume, index)
    place = {"frame": index, "frames": volume.slices}
    return pixels, {"rendering": choices | place, "quarantine": NO_HEADER}


def _page(picture: PIL.Image.Image, found: list[int], frame: int) -> Frame:
    pixels, choices = render_picture(picture, found[frame])
    place = {"frame": frame, "frames": len(found)}
    return pixels, {"rendering": choices | place, "quarantine": NO_HEADER}


def _send_frames(opened: Opened, out: BinaryIO) -> None:
    """Every frame, or why it was refused; the file is refused where none of them is sent.

    Raises ImagingError where frames are too large together; what ends a codec ends the file.
    """
    frames, render = opened
    refused, rendered = [], 0
    for frame in frames:
        try:
            pixels, message = render(frame)
        except MemoryError:
            raise
        except BaseException as error:
            refused.append(_why(error))
            if len(refused) > MAX_BAD:
                break
            send(out, refused[-1] | {"frame": frame})
            continue
        rendered += pixels.size
        check_size(0, rendered)
        place = {"frame": frame, "shape": pixels.shape}
        send(out, message | place, np.ascontiguousarray(pixels).data)
    whole = rendered and len(refused) <= MAX_BAD
    send(out, {"done": True} if whole else refused[0])


def _send_grey(path: Path, frame: int, out: BinaryIO) -> None:
    """The levels of a frame of a DICOM file; raises ImagingError where it has no window."""
    data, kind = read_file(path)
    if kind != "DICOM":
        raise ImagingError(Reason.UNSUPPORTED, "only DICOM has a window")
    dataset = read_dicom(data)
    top = FrameHeader(dataset)
    check_header(top)
    if not 0 <= frame < frame_count(top):
        raise ImagingError(Reason.NO_SUCH_FRAME)
    grey = grey_frame(dataset, flatten(top, frame), frame)
    if crop_to_regions(grey.index, top)[1]:
        raise ImagingError(Reason.UNSUPPORTED, "a frame that is cut to its regions")
    scale = grey.scale
    about = {
        "shape": grey.index.shape,
        "levels": len(scale.values),
        "inverted": bool(scale.inverted),
        "window": grey.window,
        "function": grey.function,
    }
    parts = (grey.index.astype("<u2"), scale.values.astype("<f8"), scale.hidden, grey.table)
    send(out, about, b"".join(part.tobytes() for part in parts))


def _why(error: BaseException) -> dict[str, str]:
    """A refusal's reason, in our words: codecs' may quote the file, and Rust's panic past
    Exception."""
    if isinstance(error, ImagingError):
        return {"reason": error.reason, "detail": error.detail}
    if isinstance(error, MemoryError):
        return {"reason": Reason.OUT_OF_MEMORY}
    if isinstance(error, PermissionError):
        return {"reason": Reason.UNREADABLE, "detail": "no permission to read it"}
    unreadable = isinstance(error, OSError)
    return {"reason": Reason.UNREADABLE if unreadable else Reason.DECODING_FAILED}


def _answer(request: dict[str, Any], out: BinaryIO) -> None:
    path, key = Path(request["path"]), bytes.fromhex(request["key"])
    try:
        if request.get("clean"):
            from engine.imaging.clean import clean_file  # scipy: not needed to render

            def searched(frame: int) -> None:  # the next frame has as much time
                send(out, {"searched": frame})
                out.flush()
                signal.alarm(request["seconds"])

            send(out, {"shape": None}, clean_file(path, key, searched))
        elif "grey" in request:
            _send_grey(path, int(request["grey"]), out)
        else:
            _send_frames(open_file(path, request["frames"], key), out)
    except BrokenPipeError:
        raise
    except BaseException as error:
        send(out, _why(error))


def main() -> None:
    """Limit this process, then answer requests until the parent closes the pipe."""
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # whoever takes this over writes no file
    warnings.simplefilter("ignore")
    logging.disable()  # codecs' words go nowhere, so that they cost nothing
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to answer
    out = os.fdopen(os.dup(1), "wb", SPARE)  # a short reply is one write
    os.dup2(2, 1)  # codecs that print must not write into the replies
    gc.freeze()  # what was imported is not garbage, and need not be searched for it
    send(out, {"ready": True})
    out.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.alarm(request["seconds"])  # should the parent die, so does a hung codec
        _answer(request, out)
        out.flush()
        signal.alarm(0)


if __name__ == "__main__":
    main()
