"""Decode files in a child process that may crash, hang or run out of memory without harm to us.

    with Decoder() as decoder:
        for rendered in decoder.decode(path, "middle").frames:
            ...
    with Decoders(workers=2) as decoders:
        for frames in decoders.map(lambda decoder, path: decoder.decode(path, "middle"), paths):
            ...

A bad frame is refused by itself. One child serves many files; it is killed and started again after
a crash, a timeout or a failed allocation, which refuse the whole file. Image codecs are C and Rust
on hostile input: an exception handler cannot stop an abort. What a child says is not trusted
either: a reply that is malformed or too long counts as a crash.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from engine.errors import TriptychError
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.grey import Grey, Scale
from engine.imaging.voi import FUNCTIONS

Answer = TypeVar("Answer")
START_SECONDS = 60.0  # imports on a busy machine; the file's own time starts after it
LENGTHS = struct.Struct(">IQ")  # of a message's JSON and of its pixels
MAX_TEXT = 1 << 20
MAX_REPLY = 1 << 29  # bytes of pixels that one file may give
MAX_SEARCHED = 100_000  # frames of a file that are searched for text
AHEAD = 16  # files in flight a worker: a slow one at the head leaves the others busy
# Where libraries lie, and how file names are encoded.
PASSED_ON = {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}
SPARE = 1 << 16  # bytes read beyond what was asked for, so that a short reply takes one turn
# One thread a codec: workers are what runs in parallel. glibc keeps freed memory for the next file
# from the start, as far as it would learn to (mallopt(3)): pages asked for anew cost more.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rendered:
    """One safe frame. `pixels` is (H, W) or (H, W, 3) uint8; `group` is "" where the file names
    neither patient nor study; `quarantine` says why the pixels may carry burned-in text."""

    pixels: np.ndarray
    frame: int
    rendering: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    quarantine: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's frames, at least one, and why others of the chosen ones were refused."""

    frames: list[Rendered]
    refused: dict[int, ImagingError]


class Decoder:
    """A context manager around the child. `timeout_s` is per file, `memory` a limit in bytes."""

    def __init__(self, timeout_s: float = 60.0, memory: int = 4 << 30) -> None:
        self.timeout_s, self.memory = timeout_s, memory
        self._child: subprocess.Popen[bytes] | None = None
        self._replies: Replies | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id while one runs."""
        return self._child.pid if self._child else None

    def kill(self) -> None:
        """Kill the child from any thread: a `decode` under way refuses its file as a crash."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Kill the child; the next `decode` starts another."""
        self.kill()
        child, self._child = self._child, None
        if child is None:
            return
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        child.wait()

    def decode(self, path: Path, frames_rule: str, key: bytes = b"") -> Decoded:
        """The frames of one file that the rule ("middle", "every:n", "all") picks.

        `key` makes the group's hash. Raises ImagingError, with the reason, for a file of which no
        chosen frame can be rendered, and TriptychError for a rule that is none.
        """
        chosen_frames(frames_rule, 1)
        return self._answered(path, key, {"frames": frames_rule}, self._decoded)

    def clean(self, path: Path, key: bytes) -> bytes:
        """A DICOM file's de-identified form (`engine.imaging.clean`). Raises ImagingError."""
        return self._answered(path, key, {"clean": True}, self._cleaned)

    def grey(self, path: Path, frame: int) -> Grey:
        """A DICOM frame's levels, for another window. Raises ImagingError where it has none."""
        return self._answered(path, b"", {"grey": frame}, _grey)

    def _answered(
        self,
        path: Path,
        key: bytes,
        wish: dict[str, Any],
        read: Callable[[Replies, float], Answer],
    ) -> Answer:
        try:
            child, replies = self._ready_child()
            deadline = time.monotonic() + self.timeout_s
            request = {"path": str(path.absolute()), "key": key.hex()} | wish
            self._ask(child, request | {"seconds": int(self.timeout_s) + 10})
            return read(replies, deadline)
        except ImagingError as error:
            if error.reason in (Reason.TIMEOUT, Reason.CRASHED, Reason.OUT_OF_MEMORY):
                self.close()
            raise
        except BaseException:  # an interrupt leaves half a reply in the pipe
            self.close()
            raise

    def _ready_child(self) -> tuple[subprocess.Popen[bytes], Replies]:
        if self._child is not None and self._replies is not None and self._child.poll() is None:
            return self._child, self._replies
        self.close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "engine.imaging.child", str(self.memory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env=_environment(),
        )  # fmt: skip
        assert self._child.stdout is not None
        fcntl.fcntl(self._child.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)  # fewer turns for large frames
        self._replies = Replies(self._child.stdout.fileno())
        self._replies.receive(time.monotonic() + START_SECONDS)
        return self._child, self._replies

    def _ask(self, child: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise ImagingError(Reason.CRASHED) from error

    def _cleaned(self, replies: Replies, deadline: float) -> bytes:
        """The file; each frame that was searched for text gives the next one as much time."""
        for _ in range(MAX_SEARCHED):
            message, data = replies.receive(deadline, MAX_REPLY)
            if "reason" in message:
                raise ImagingError(message["reason"], message.get("detail", ""))
            if "searched" not in message:
                return data.tobytes()
            deadline = time.monotonic() + self.timeout_s
        raise ImagingError(Reason.CRASHED)

    def _decoded(self, replies: Replies, deadline: float) -> Decoded:
        decoded = Decoded([], {})
        left = MAX_REPLY
        while True:
            message, pixels = replies.receive(deadline, left)
            left -= pixels.size
            try:
                if "done" in message:
                    return decoded
                if "reason" in message:
                    error = ImagingError(message["reason"], message.get("detail", ""))
                    if "frame" not in message:
                        raise error
                    decoded.refused[int(message["frame"])] = error
                else:
                    shape = message.pop("shape")
                    decoded.frames.append(Rendered(pixels.reshape(shape), **message))
            except (TypeError, ValueError, KeyError) as error:
                raise ImagingError(Reason.CRASHED) from error


def _grey(replies: Replies, deadline: float) -> Grey:
    message, data = replies.receive(deadline, MAX_REPLY)
    if "reason" in message:
        raise ImagingError(message["reason"], message.get("detail", ""))
    try:
        height, width = (int(side) for side in message["shape"])
        number, pixels = int(message["levels"]), height * width
        if min(height, width) < 1 or not 1 <= number <= 1 << 16:
            raise ValueError("no frame")
        ends = np.cumsum((2 * pixels, 8 * number, number, number))
        if data.size != ends[-1]:
            raise ValueError("another size")
        index, values, hidden, table = np.split(data, ends[:-1])
        scale = Scale(values.view("<f8"), hidden.astype(bool), bool(message["inverted"]))
        levels = index.view("<u2").reshape(height, width)
        window = message["window"] and (float(message["window"][0]), float(message["window"][1]))
        if levels.max() >= number or message["function"] not in FUNCTIONS:
            raise ValueError("another level")
        return Grey(levels, scale, table, window, message["function"])
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ImagingError(Reason.CRASHED) from error


class Replies:
    """What a child sends over a pipe, message by message, and nothing of it trusted."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._waiting = select.poll()
        self._waiting.register(pipe, select.POLLIN)
        self._spare = memoryview(bytearray(SPARE))
        self._ahead = self._spare[:0]  # what of it was read and not yet asked for

    def receive(self, deadline: float, limit: int = 0) -> tuple[dict[str, Any], np.ndarray]:
        """One message and its pixels, at most `limit` bytes of them. Raises ImagingError."""
        text_size, size = LENGTHS.unpack(self._read(LENGTHS.size, deadline).tobytes())
        if text_size > MAX_TEXT or size > limit:
            raise ImagingError(Reason.CRASHED)
        text, pixels = self._read(text_size, deadline), self._read(size, deadline)
        try:
            message = json.loads(text.tobytes())
        except ValueError as error:
            raise ImagingError(Reason.CRASHED) from error
        if not isinstance(message, dict):
            raise ImagingError(Reason.CRASHED)
        return message, pixels

    def _read(self, size: int, deadline: float) -> np.ndarray:
        """Exactly `size` bytes, or ImagingError once the pipe closes or the deadline passes."""
        got = np.empty(size, np.uint8)
        at = min(size, len(self._ahead))
        got.data[:at], self._ahead = self._ahead[:at], self._ahead[at:]
        while at < size:
            left = deadline - time.monotonic()
            if left <= 0 or not self._waiting.poll(left * 1000):
                raise ImagingError(Reason.TIMEOUT)
            count = os.readv(self._pipe, [got.data[at:], self._spare])
            if not count:
                raise ImagingError(Reason.CRASHED)
            self._ahead = self._spare[: max(0, at + count - size)]
            at += count
        return got


Result = TypeVar("Result")
Item = TypeVar("Item")


class Decoders:
    """A context manager around several decoders that work side by side, a child each."""

    def __init__(self, workers: int = 2, timeout_s: float = 60.0, memory: int = 4 << 30) -> None:
        self._decoders = [Decoder(timeout_s, memory) for _ in range(max(1, workers))]
        self._threads = ThreadPoolExecutor(len(self._decoders))

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for decoder in self._decoders:
            decoder.kill()
        self._threads.shutdown()
        for decoder in self._decoders:
            decoder.close()

    def map(
        self, work: Callable[[Decoder, Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """work(decoder, item) of every item, in order; few are in flight, so memory is bounded.

        An exception of `work` is raised when its turn comes.
        """
        free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self._decoders:
            free.put(decoder)

        def run(item: Item) -> Result:
            decoder = free.get()
            try:
                return work(decoder, item)
            finally:
                free.put(decoder)

        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._threads.submit(run, item))
            if len(waiting) > AHEAD * len(self._decoders):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _environment() -> dict[str, str]:
    """What Python needs to start, and none of the keys and tokens that this process may hold."""
    needed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith("PYTHON")
    }
    return needed | ENVIRONMENT


def chosen_frames(rule: str, count: int) -> range:
    """Frame indices by the rule "middle", "every:n" or "all". Raises TriptychError for another."""
    if rule == "middle":
        return range(count // 2, count // 2 + 1)
    if rule == "all":
        return range(count)
    word, _, step = rule.partition(":")
    if word != "every" or not step.isdigit() or int(step) < 1:
        raise TriptychError(f"frames: {rule!r} is none of middle, all, every:n")
    return range(0, count, int(step))
