"""Decode files in a child process that may crash, hang or run out of memory without harm to us.

    with Decoder() as decoder:
        for rendered in decoder.decode(path, "middle"):
            ...

One child serves many files; it is killed and started again after a crash, a timeout or a failed
allocation. Image codecs are C and Rust on hostile input: an exception handler cannot stop an abort.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from engine.errors import TriptychError
from engine.imaging.errors import ImagingError, Reason

Answer = TypeVar("Answer")
START_SECONDS = 60.0  # imports on a busy machine; the file's own time starts after it
LENGTHS_SIZE = 12
# One thread a codec: workers are what runs in parallel.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


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
    synthetic: bool = False
    phantom: bool = False


class Decoder:
    """A context manager around the child. `timeout_s` is per file, `memory` a limit in bytes."""

    def __init__(self, timeout_s: float = 60.0, memory: int = 4 << 30) -> None:
        self.timeout_s, self.memory = timeout_s, memory
        self._child: subprocess.Popen[bytes] | None = None

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

    def close(self) -> None:
        """Kill the child; the next `decode` starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        child.wait()

    def decode(self, path: Path, frames_rule: str, key: bytes = b"") -> list[Rendered]:
        """The frames of one file that the rule ("middle", "every:n", "all") picks.

        `key` makes the group's hash. Raises ImagingError, with the reason, for every bad file, and
        TriptychError for a rule that is none.
        """
        list(chosen_frames(frames_rule, 1))
        return self._answered(path, key, {"frames": frames_rule}, self._replies)

    def clean(self, path: Path, key: bytes) -> bytes:
        """A DICOM file's de-identified form (`engine.imaging.clean`). Raises ImagingError."""
        return self._answered(path, key, {"clean": True}, self._cleaned)

    def _answered(
        self,
        path: Path,
        key: bytes,
        wish: dict[str, Any],
        read: Callable[[subprocess.Popen[bytes], float], Answer],
    ) -> Answer:
        try:
            child = self._ready_child()
            deadline = time.monotonic() + self.timeout_s
            request = {"path": str(path.absolute()), "key": key.hex()} | wish
            self._ask(child, request | {"seconds": int(self.timeout_s) + 10})
            return read(child, deadline)
        except ImagingError as error:
            if error.reason in (Reason.TIMEOUT, Reason.CRASHED, Reason.OUT_OF_MEMORY):
                self.close()
            raise
        except BaseException:  # an interrupt leaves half a reply in the pipe
            self.close()
            raise

    def _ready_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "engine.imaging.child", str(self.memory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env=os.environ | ONE_THREAD,
        )  # fmt: skip
        self._receive(self._child, time.monotonic() + START_SECONDS)
        return self._child

    def _ask(self, child: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise ImagingError(Reason.CRASHED) from error

    def _cleaned(self, child: subprocess.Popen[bytes], deadline: float) -> bytes:
        message, data = self._receive(child, deadline)
        if "reason" in message:
            raise ImagingError(message["reason"], message.get("detail", ""))
        return data

    def _replies(self, child: subprocess.Popen[bytes], deadline: float) -> list[Rendered]:
        frames: list[Rendered] = []
        while True:
            message, data = self._receive(child, deadline)
            if "reason" in message:
                raise ImagingError(message["reason"], message.get("detail", ""))
            if "done" in message:
                return frames
            shape = message.pop("shape")
            frames.append(Rendered(np.frombuffer(data, np.uint8).reshape(shape), **message))

    def _receive(
        self, child: subprocess.Popen[bytes], deadline: float
    ) -> tuple[dict[str, Any], bytes]:
        assert child.stdout is not None
        head = _read(child.stdout.fileno(), LENGTHS_SIZE, deadline)
        text = _read(child.stdout.fileno(), int.from_bytes(head[:4], "big"), deadline)
        data = _read(child.stdout.fileno(), int.from_bytes(head[4:], "big"), deadline)
        return json.loads(text), data


def _read(pipe: int, size: int, deadline: float) -> bytes:
    """Exactly `size` bytes of a pipe, or ImagingError once it closes or the deadline passes."""
    got = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(got) < size:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise ImagingError(Reason.TIMEOUT)
            chunk = os.read(pipe, min(size - len(got), 1 << 20))
            if not chunk:
                raise ImagingError(Reason.CRASHED)
            got += chunk
    return bytes(got)


def chosen_frames(rule: str, count: int) -> Iterator[int]:
    """Frame indices by the rule "middle", "every:n" or "all". Raises TriptychError for another."""
    if rule == "middle":
        yield count // 2
    elif rule == "all":
        yield from range(count)
    else:
        word, _, step = rule.partition(":")
        if word != "every" or not step.isdigit() or int(step) < 1:
            raise TriptychError(f"frames: {rule!r} is none of middle, all, every:n")
        yield from range(0, count, int(step))
