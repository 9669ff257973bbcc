"""The process that decodes: `python -m engine.imaging.child MEMORY_BYTES`, driven by `decode`.

Reads requests and writes replies over its standard streams. A message is two big-endian lengths,
JSON, then raw pixels: nothing here is ever unpickled, so a file that takes this process over gains
no way into the parent. It holds patient ids only while it reads a file, and sends keyed hashes.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom.config

from engine.imaging.decode import LENGTHS, chosen_frames
from engine.imaging.deidentify import group_key, quarantine_reason, safe_facts
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader, flatten
from engine.imaging.nifti import read_nifti, render_slice
from engine.imaging.picture import open_picture, pages, render_picture
from engine.imaging.reader import executable_preamble, file_format, read_dicom, read_file
from engine.imaging.regions import crop_to_regions
from engine.imaging.render import check_header, check_size, frame_count, render_frame

OURS = "triptych-phantoms"  # the manufacturer that phantom files name


def send(stream: BinaryIO, message: dict[str, Any], data: bytes | memoryview = b"") -> None:
    """Write one message."""
    text = json.dumps(message).encode()
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    stream.write(LENGTHS.pack(len(text), size) + text)
    stream.write(data)
    stream.flush()


Frame = tuple[np.ndarray, dict[str, Any]]


def frames_of(path: Path, rule: str, key: bytes) -> Iterator[Frame]:
    """The pixels of every frame that the rule picks, and what may be said of it."""
    data = read_file(path)
    kind = file_format(data)
    if kind == "DICOM":
        yield from _dicom_frames(data, rule, key)
    elif kind == "NIFTI":
        yield from _nifti_slices(data, rule)
    else:
        yield from _pages(data, kind, rule)


def _dicom_frames(data: bytes, rule: str, key: bytes) -> Iterator[Frame]:
    dataset = read_dicom(data)
    flag = {"preamble": "executable"} if executable_preamble(data) else {}
    del data  # the dataset has its own copy of the pixels
    top = FrameHeader(dataset)
    chosen = chosen_frames(rule, frame_count(top))
    check_header(top, len(chosen))
    synthetic = dataset.get("SyntheticData") == "YES"
    about = {
        "group": group_key(dataset, key),
        "quarantine": quarantine_reason(dataset),
        "synthetic": synthetic,
        "phantom": synthetic and dataset.get("Manufacturer") == OURS,
    }
    for frame in chosen:
        header = flatten(dataset, frame)
        pixels, choices = render_frame(dataset, header, frame)
        pixels, box = crop_to_regions(pixels, dataset)
        crop = {"crop": box} if box else {}
        facts = safe_facts(header)
        yield pixels, about | {"frame": frame, "rendering": choices | crop | flag, "facts": facts}


def _nifti_slices(data: bytes, rule: str) -> Iterator[Frame]:
    volume = read_nifti(data)
    chosen = chosen_frames(rule, volume.slices)
    check_size(0, volume.voxels[:, :, 0].size * len(chosen))
    for index in chosen:
        pixels, choices = render_slice(volume, index)
        which = {"frame": index, "frames": volume.slices}
        yield pixels, {"frame": index, "rendering": choices | which}


def _pages(data: bytes, kind: str, rule: str) -> Iterator[Frame]:
    picture = open_picture(data, kind)
    found = pages(picture)
    rendered = 0
    for frame in chosen_frames(rule, len(found)):
        pixels, choices = render_picture(picture, found[frame])
        rendered += pixels.size
        check_size(0, rendered)
        yield (
            pixels,
            {"frame": frame, "rendering": choices | {"frame": frame, "frames": len(found)}},
        )


def _answer(request: dict[str, Any], out: BinaryIO) -> None:
    try:
        key = bytes.fromhex(request["key"])
        if request.get("clean"):
            from engine.imaging.clean import clean_file  # scipy: not needed to render

            send(out, {"shape": None}, clean_file(Path(request["path"]), key))
            return
        for pixels, message in frames_of(Path(request["path"]), request["frames"], key):
            send(out, message | {"shape": pixels.shape}, np.ascontiguousarray(pixels).data)
        send(out, {"done": True})
    except BrokenPipeError:
        raise
    except ImagingError as error:
        send(out, {"reason": error.reason, "detail": error.detail})
    except MemoryError:
        send(out, {"reason": Reason.OUT_OF_MEMORY})
    except OSError:
        send(out, {"reason": Reason.UNREADABLE})
    except BaseException:  # Rust codecs panic past Exception; their words may quote the file
        send(out, {"reason": Reason.DECODING_FAILED})


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
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # codecs that print must not write into the replies
    send(out, {"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.alarm(request["seconds"])  # should the parent die, so does a hung codec
        _answer(request, out)
        signal.alarm(0)


if __name__ == "__main__":
    main()
