"""The same picture twice: exact copies, and near ones (recompressed, resized, brightened, turned).

Two pictures are near copies where their fine structure correlates in one of the eight symmetries
of the square (mirrored, turned by 90, 180 or 270 degrees): fine, because pictures of one anatomy
share what is coarse. Near copies are found without comparing all pairs. A signature begins with a
code: signs of random projections of the mean of the eight symmetries, which is the same however
a picture is turned. The share of bits in which two codes differ grows with the angle between what
they are of (Charikar 2002). The codes are sorted ORDERS times, each time from other bits on, and
only WINDOW neighbours are compared (sorted neighbourhood, Hernandez and Stolfo 1995): near copies
are neighbours unless they differ in an order's first bits, and are missed only if they do in every
order. So the cost is linear in the number of pictures, however alike they are.
`benchmarks/duplicates.py` measures what is found, what is joined, time and memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import PIL.Image
from scipy import ndimage, sparse

MIN_CORRELATION = 0.94
SIDE = 40  # of the square in which a picture is looked at, whatever its aspect
SIGMA = 1.25  # of SIDE's pixels; what is coarser is no fine structure
CODE_BYTES = 192
ORDERS, WINDOW = 64, 4
MAX_SHARE = 0.14  # of a code's bits in which candidates may differ
BLOCK, PAIRS = 8192, 1024  # pictures, and pairs, at a time
FEW = 32  # pictures of which all pairs are compared

_STEP = 21  # a level is a 21st of the root of the mean fine structure
_FLOOR = 0.25  # grey levels; noise below it is no structure
SIGNATURE_BYTES = CODE_BYTES + SIDE * SIDE


def signature(picture: PIL.Image.Image) -> bytes:
    """The SIGNATURE_BYTES by which a picture of any size and mode is compared.

    First CODE_BYTES of code, then SIDE x SIDE signed bytes of fine structure.
    """
    # A smooth filter, because a box takes other pixels of a picture of half the size.
    grey = picture.convert("L").convert("F").resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS)
    values = np.asarray(grey)
    detail = values - ndimage.gaussian_filter(values, SIGMA)
    # The root keeps a few strong edges, as of the skull or the field of view, from outweighing all.
    root = np.sqrt(np.abs(detail) / (np.sqrt((detail**2).mean()) + _FLOOR))
    levels = np.clip(np.round(_STEP * root * np.sign(detail)), -127, 127).astype(np.int8)
    return of_detail(levels[None]).tobytes()


def of_detail(levels: np.ndarray) -> np.ndarray:
    """Signatures of fine structure: (N, SIDE, SIDE) int8 to (N, SIGNATURE_BYTES) uint8."""
    half = SIDE // 2
    symmetric = np.zeros(levels.shape, np.float32)
    for square in symmetries(levels):
        symmetric += square
    corner = symmetric[:, *np.triu_indices(half)]
    # Sums of whole numbers below 2^24, so that every machine and BLAS gives the same bits.
    bits = np.packbits(corner @ _planes() > 0, axis=1)
    return np.concatenate([bits, levels.reshape(len(levels), -1).view(np.uint8)], axis=1)


def symmetries(squares: np.ndarray) -> Iterator[np.ndarray]:
    """The last two axes mirrored and turned in all eight ways, the first as they are."""
    for square in (squares, np.swapaxes(squares, -1, -2)):
        yield square
        yield square[..., ::-1]
        yield square[..., ::-1, :]
        yield square[..., ::-1, ::-1]


def stacked(signatures: Iterable[bytes]) -> np.ndarray:
    """Signatures as rows: (N, SIGNATURE_BYTES) uint8."""
    return np.frombuffer(b"".join(signatures), np.uint8).reshape(-1, SIGNATURE_BYTES)


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far fine structure agrees, row by row: the best of the eight symmetries, in [-1, 1].

    Both are (N, SIGNATURE_BYTES) uint8, the result (N,) float32. A picture without structure
    agrees with none: 0.
    """
    return np.max(_each(one, other), axis=0)


def orientation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """In which of the eight symmetries the other agrees most, row by row: (N,) of 0 to 7, 0 as is.

    Shapes are those of `correlation`.
    """
    return np.argmax(_each(one, other), axis=0)


def _each(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The correlations in all symmetries, in their order: (8, N) float32."""
    ours, theirs = _unit(_levels(one)), _unit(_levels(other))
    flat = ours.reshape(len(ours), -1)
    return np.stack(
        [
            np.einsum("ij,ij->i", flat, np.ascontiguousarray(turned).reshape(flat.shape))
            for turned in symmetries(theirs)
        ]
    )


def near_pairs(signatures: np.ndarray) -> Iterator[tuple[int, int]]:
    """Index pairs (i, j), i < j, of near copies: enough to tie each picture to all its copies.

    `signatures` is (N, SIGNATURE_BYTES) uint8 and may be a memory map. Of pictures that are tied
    through others not every pair is told. What is tied does not depend on the order of rows.
    """
    rows, same = _distinct(signatures)
    yield from _sorted(same)
    octets = np.ascontiguousarray(signatures[rows, :CODE_BYTES])
    codes = octets.view(np.uint64)
    group = np.arange(len(rows))
    for first in range(0, CODE_BYTES, CODE_BYTES // ORDERS):
        key = np.take(octets, range(first, first + 8), axis=1, mode="wrap").view(">u8")[:, 0]
        order = np.argsort(key, kind="stable")
        near = [
            pairs[correlation(*(signatures[rows[side]] for side in pairs.T)) >= MIN_CORRELATION]
            for pairs in _candidates(codes, order, group)
        ]
        for pairs in near:
            yield from _sorted(rows[pairs])
        group = _merged(group, near)


def near_within(signatures: np.ndarray, groups: np.ndarray) -> Iterator[tuple[int, int]]:
    """As `near_pairs`, where near copies are known to be of one group: (N,) whole numbers.

    Of a group of up to `FEW` all pairs are compared.
    """
    order = np.argsort(groups, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(groups[order])) + 1).tolist(), len(order)]
    few: list[np.ndarray] = []
    waiting = 0
    for start, end in pairwise(bounds):
        rows = order[start:end]
        if len(rows) > FEW:
            picked = np.array(list(near_pairs(signatures[rows])), np.int64).reshape(-1, 2)
            yield from _sorted(rows[picked])
        elif len(rows) > 1:
            few.append(rows[np.stack(np.triu_indices(len(rows), 1), axis=1)])
            waiting += len(few[-1])
        if waiting >= PAIRS:
            yield from _near(signatures, np.concatenate(few))
            few, waiting = [], 0
    if few:
        yield from _near(signatures, np.concatenate(few))


def _near(signatures: np.ndarray, pairs: np.ndarray) -> Iterator[tuple[int, int]]:
    close = correlation(*(signatures[side] for side in pairs.T)) >= MIN_CORRELATION
    yield from _sorted(pairs[close])


def _sorted(pairs: np.ndarray) -> Iterator[tuple[int, int]]:
    for one, other in pairs.tolist():
        yield min(one, other), max(one, other)


def _distinct(signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows to compare, in an order that their content gives, and (K, 2) rows that are equal.

    Pictures without structure are left out.
    """
    structured = np.concatenate(
        [np.empty(0, np.int64)]
        + [
            low + np.flatnonzero(signatures[low : low + BLOCK, CODE_BYTES:].any(axis=1))
            for low in range(0, len(signatures), BLOCK)
        ]
    )
    digests = np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(signatures[row], digest_size=8).digest(), "big")
            for row in structured
        ),
        np.uint64,
        len(structured),
    )
    order = np.argsort(digests, kind="stable")
    again = np.zeros(len(order), bool)
    again[1:] = digests[order[1:]] == digests[order[:-1]]
    rows = structured[order]
    repeated = np.flatnonzero(again)
    return rows[~again], np.stack([rows[repeated - 1], rows[repeated]], axis=1)


def _candidates(codes: np.ndarray, order: np.ndarray, group: np.ndarray) -> Iterator[np.ndarray]:
    """(K, 2) pairs of neighbours in an order that are not tied yet and whose codes are close."""
    for low in range(0, len(order), BLOCK):
        here = order[low : low + BLOCK + WINDOW]
        own = codes[here]
        for step in range(1, WINDOW + 1):
            one, other = here[:-step][:BLOCK], here[step:][:BLOCK]
            apart = np.flatnonzero(group[one] != group[other])
            bits = np.bitwise_count(own[apart] ^ own[apart + step]).sum(axis=1, dtype=np.int64)
            close = apart[bits <= MAX_SHARE * 8 * CODE_BYTES]
            for start in range(0, len(close), PAIRS):
                some = close[start : start + PAIRS]
                yield np.stack([one[some], other[some]], axis=1)


def _merged(group: np.ndarray, near: list[np.ndarray]) -> np.ndarray:
    """The groups, numbered anew, after those of near pairs have become one."""
    ties = group[np.concatenate([np.empty((0, 2), np.int64), *near])]
    graph = sparse.coo_array(
        (np.ones(len(ties), bool), (ties[:, 0], ties[:, 1])), (len(group), len(group))
    )
    return sparse.csgraph.connected_components(graph, directed=False)[1][group]


def _levels(signatures: np.ndarray) -> np.ndarray:
    """(N, SIGNATURE_BYTES) uint8 to fine structure, (N, SIDE, SIDE) int8."""
    return signatures[:, CODE_BYTES:].view(np.int8).reshape(-1, SIDE, SIDE)


def _unit(levels: np.ndarray) -> np.ndarray:
    """(N, SIDE, SIDE) to float32 of zero mean and unit norm; zeros where all is one value."""
    values = levels.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    norms = np.sqrt((values**2).sum(axis=(1, 2), keepdims=True))
    return values / np.maximum(norms, 1)


@cache
def _planes() -> np.ndarray:
    """(values, bits) of 1 and -1, the same everywhere; columns of sum 0 look at no mean."""
    values, bits = SIDE // 2 * (SIDE // 2 + 1) // 2, CODE_BYTES * 8
    stream = hashlib.shake_256(b"near-duplicates").digest(4 * values * bits)
    ranks = np.frombuffer(stream, "<u4").reshape(values, bits).argsort(axis=0, kind="stable")
    return np.where(ranks.argsort(axis=0) < values // 2, 1, -1).astype(np.float32)


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
