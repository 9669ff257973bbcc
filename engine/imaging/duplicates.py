"""The same picture twice: exact copies, and near ones (recompressed, resized, brightened).

Perceptual hashes (pHash, 64 bits) within MAX_BITS of each other are candidates, found by bands: two
hashes that differ in k bits agree in one of k + 1 bands (pigeonhole), so no image is compared with
all others. A candidate counts only where the fine structure agrees too, because pictures of one
anatomy share what pHash looks at. `benchmarks/duplicates.py` measures both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import PIL.Image
from scipy import ndimage

MAX_BITS = 6
MIN_CORRELATION = 0.95
SIDE = 64
_BITS = 64
_EDGES = np.linspace(0, _BITS, MAX_BITS + 2).astype(int)


@dataclass(frozen=True, slots=True)
class Signature:
    """What two pictures are compared by: pHash bits, and unit-norm fine structure at 64 x 64."""

    bits: int
    detail: np.ndarray  # (4096,) float16; zeros for a picture without structure

    def to_bytes(self) -> bytes:
        """8 bytes of the hash, then the structure."""
        return self.bits.to_bytes(8, "big") + self.detail.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Signature:
        return cls(int.from_bytes(data[:8], "big"), np.frombuffer(data[8:], np.float16))


def signature(picture: PIL.Image.Image) -> Signature:
    """The signature of a picture of any size and mode."""
    import imagehash

    grey = picture.convert("L")
    bits = int(str(imagehash.phash(grey)), 16)
    small = np.asarray(grey.resize((SIDE, SIDE), PIL.Image.Resampling.BOX), np.float32)
    detail = (small - ndimage.gaussian_filter(small, 2)).ravel()
    detail -= detail.mean()
    return Signature(bits, (detail / max(float(np.linalg.norm(detail)), 1.0)).astype(np.float16))


def correlation(one: Signature, other: Signature) -> float:
    """Normalised correlation of fine structure, in [-1, 1]."""
    return float(np.dot(one.detail.astype(np.float32), other.detail.astype(np.float32)))


def near_pairs(signatures: Sequence[Signature]) -> Iterator[tuple[int, int]]:
    """Indices (i, j), i < j, of near duplicates, each pair once."""
    seen: set[tuple[int, int]] = set()
    for low, high in pairwise(_EDGES):
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(signatures):
            buckets[item.bits >> int(low) & (1 << int(high - low)) - 1].append(index)
        for members in buckets.values():
            for pair in _close(members, signatures):
                if pair not in seen:
                    seen.add(pair)
                    if correlation(*(signatures[i] for i in pair)) >= MIN_CORRELATION:
                        yield pair


def _close(members: list[int], signatures: Sequence[Signature]) -> Iterator[tuple[int, int]]:
    """Pairs of a bucket whose hashes differ in at most MAX_BITS."""
    hashes = np.array([signatures[i].bits for i in members], np.uint64)
    for place, member in enumerate(members[:-1]):
        apart = np.bitwise_count(hashes[place + 1 :] ^ hashes[place])
        for step in np.flatnonzero(apart <= MAX_BITS):
            yield member, members[place + 1 + int(step)]


def joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each name to the smallest name that it is tied to, directly or through others."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {name: root(name) for name in list(parent)}
