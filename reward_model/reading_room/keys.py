"""Keys by which a page knows what it shows: they tell nothing, and nobody can make one up.

A key holds what is shown, encrypted under a synthetic initialization vector that authenticates it
too (Rogaway & Shrimpton, Eurocrypt 2006). So it needs no list, is the same after a restart, and
does not tell an item from its repeat.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from hashlib import blake2b

SHOWN = struct.Struct(">16s?HH")  # item, repeat, number, spell
VECTOR = 16  # bytes


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys under a secret of up to 64 bytes."""

    secret: bytes

    def seal(self, reader: str, item_id: str, repeat: bool, number: int, spell: int) -> str:
        """The key of a showing: see `queue.Showing` for what its parts are."""
        shown = SHOWN.pack(bytes.fromhex(item_id), repeat, number, spell)
        vector = self._vector(reader, shown)
        return (vector + self._turned(vector, shown)).hex()

    def open(self, reader: str, key: str) -> tuple[str, bool, int, int] | None:
        """What `seal` was given; None where a key is none, or another reader's."""
        try:
            data = bytes.fromhex(key)
        except ValueError:
            return None
        if len(data) != VECTOR + SHOWN.size:
            return None
        vector = data[:VECTOR]
        shown = self._turned(vector, data[VECTOR:])
        if not hmac.compare_digest(vector, self._vector(reader, shown)):
            return None
        item, repeat, number, spell = SHOWN.unpack(shown)
        return item.hex(), repeat, number, spell

    def mark(self, answer_id: str) -> str:
        """What the page knows an answer by that was given."""
        return self._hash(answer_id.encode(), b"answer", VECTOR).hex()

    def _vector(self, reader: str, shown: bytes) -> bytes:
        return self._hash(reader.encode() + b"\0" + shown, b"vector", VECTOR)

    def _turned(self, vector: bytes, data: bytes) -> bytes:
        stream = self._hash(vector, b"stream", len(data))
        return bytes(a ^ b for a, b in zip(data, stream))

    def _hash(self, data: bytes, purpose: bytes, size: int) -> bytes:
        return blake2b(data, digest_size=size, key=self.secret, person=purpose).digest()
