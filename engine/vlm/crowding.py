"""How many requests a server is sent at once: as many as it bears.

Additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it (RFC 5681): one more
for each round of answers, half as many where the server is too busy. What was under way when the
number was halved says nothing new of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One request under way: after how many halvings it began, and whether others could be too."""

    halvings: int
    crowded: bool


class Crowd:
    """At most `most` requests under way at once, `bears` of them at the moment. For threads."""

    def __init__(self, most: int) -> None:
        self.most, self.bears = most, float(most)
        self.halvings = self._under_way = 0
        self._not_before = 0.0  # of time.monotonic()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Wait until one more may be sent, which is under way until the block ends."""
        with self._changed:
            while (wait_s := self._not_before - time.monotonic()) > 0 or not self._room():
                self._changed.wait(wait_s if wait_s > 0 else None)
            self._under_way += 1
            turn = Turn(self.halvings, self.bears >= 2)
        try:
            yield turn
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _room(self) -> bool:
        return self._under_way < int(self.bears)

    def answered(self) -> None:
        """A request was answered. It says that one more is borne only where no more were let in."""
        with self._changed:
            if not self._room():
                self.bears = min(self.bears + 1 / self.bears, self.most)
                self._changed.notify_all()

    def refused(self, turn: Turn, wait_s: float = 0.0) -> None:
        """The server was too busy for a request, and is sent nothing for `wait_s` seconds."""
        with self._changed:
            self._not_before = max(self._not_before, time.monotonic() + wait_s)
            if turn.halvings == self.halvings:
                self.bears = max(self.bears / 2, 1.0)
                self.halvings += 1
