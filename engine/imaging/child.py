"""The process that decodes: `python -m engine.imaging.child MEMORY_BYTES`, driven by `decode`.

Reads requests and writes replies over its standard streams. A message is two big-endian lengths,
JSON, then raw pixels: nothing here is ever unpickled, so a file that takes this process over gains
no way into the parent. It holds patient ids only while it reads a file, and sends keyed hashes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.imaging.decode import chosen_frames
from engine.imaging.deidentify import group_key, quarantine_reason, safe_facts
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.reader import (
    executable_preamble,
    open_picture,
    picture_format,
    read_dicom,
    render_picture,
)
from engine.imaging.regions import crop_to_regions
from engine.imaging.render import check_header, flatten, frame_count, render

LENGTHS = struct.Struct(">IQ")
OURS = "triptych-phantoms"  # the manufacturer that phantom files name


def send(stream: BinaryIO, message: dict[str, Any], data: bytes = b"") -> None:
    """Write one message."""
    text = json.dumps(message).encode()
    stream.write(LENGTHS.pack(len(text), len(data)) + text)
    stream.write(data)
    stream.flush()


def _frames(path: Path, rule: str, key: bytes) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """The pixels of every chosen frame and what may be said of it."""
    kind = picture_format(path)
    if kind is None:
        yield from _dicom_frames(path, rule, key)
        return
    picture = open_picture(path, kind)
    for frame in chosen_frames(rule, getattr(picture, "n_frames", 1)):
        pixels, choices = render_picture(picture, frame)
        yield pixels, {"frame": frame, "rendering": choices}


def _dicom_frames(path: Path, rule: str, key: bytes) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    dataset = read_dicom(path)
    check_header(dataset)
    synthetic = dataset.get("SyntheticData") == "YES"
    about = {
        "group": group_key(dataset, key),
        "quarantine": quarantine_reason(dataset),
        "synthetic": synthetic,
        "phantom": synthetic and dataset.get("Manufacturer") == OURS,
    }
    flag = {"preamble": "executable"} if executable_preamble(path) else {}
    for frame in chosen_frames(rule, frame_count(dataset)):
        pixels, choices = render(dataset, frame)
        pixels, box = crop_to_regions(pixels, dataset)
        crop = {"crop": box} if box else {}
        facts = safe_facts(flatten(dataset, frame))
        yield pixels, about | {"frame": frame, "rendering": choices | crop | flag, "facts": facts}


def _answer(request: dict[str, Any], out: BinaryIO) -> None:
    try:
        key = bytes.fromhex(request["key"])
        if request.get("clean"):
            from engine.imaging.clean import clean_file  # scipy: not needed to render

            send(out, {"shape": None}, clean_file(Path(request["path"]), key))
            return
        for pixels, message in _frames(Path(request["path"]), request["frames"], key):
            send(out, message | {"shape": pixels.shape}, pixels.tobytes())
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
