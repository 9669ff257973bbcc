"""Palette colour (DICOM PS3.3 C.7.6.3.1.5, C.7.9 and C.7.6.19): stored values to RGB.

pydicom looks the palette up pixel by pixel, expands segments number by number without a bound and
refuses supplemental palettes; here a palette is a table over the stored values of the frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydicom.pixels import apply_color_lut

from engine.imaging.header import FrameHeader
from engine.imaging.values import numbers

COLOURS = ("Red", "Green", "Blue")
DISCRETE, LINEAR, INDIRECT = 0, 1, 2


def has_palette(header: FrameHeader) -> bool:
    """Whether the header holds a palette or names a well-known one."""
    return (
        "RedPaletteColorLookupTableDescriptor" in header or "PaletteColorLookupTableUID" in header
    )


def first_mapped(header: FrameHeader, lowest: float) -> int:
    """The stored value of a palette's first entry; `lowest` of the frame tells its sign."""
    first = int(numbers(header.get("RedPaletteColorLookupTableDescriptor"))[1])
    return first - 65536 if first > 32767 and lowest < 0 else first


def palette_table(header: FrameHeader, values: np.ndarray, little_endian: bool) -> np.ndarray:
    """(N, 3) uint8 colours of N stored values; ValueError for a palette that does not hold."""
    if "RedPaletteColorLookupTableDescriptor" not in header:
        uid = str(header.get("PaletteColorLookupTableUID"))
        return np.asarray(apply_color_lut(values, palette=uid), np.uint8)
    entries = [_entries(header, colour, little_endian) for colour in COLOURS]
    # Entries of 16 bits use the whole range; some writers put 8-bit colours into them.
    shift = 8 if max(int(e.max()) for e in entries) > 255 else 0
    index = np.rint(values - first_mapped(header, float(values.min()))).astype(np.int64)
    looked_up = [e[np.clip(index, 0, len(e) - 1)] >> shift for e in entries]
    return np.stack(looked_up, axis=1).astype(np.uint8)


def _entries(header: FrameHeader, colour: str, little_endian: bool) -> np.ndarray:
    """One colour's entries as integers, as many as its descriptor says."""
    descriptor = numbers(header.get(f"{colour}PaletteColorLookupTableDescriptor"))
    count, bits = int(descriptor[0]) or 65536, int(descriptor[2])
    plain = header.get(f"{colour}PaletteColorLookupTableData")
    if plain:
        words = _words(plain, 8 if len(plain) < 2 * count else 16, little_endian)
    else:
        segments = header.get(f"Segmented{colour}PaletteColorLookupTableData") or b""
        words = _expanded(bytes(segments), bits, little_endian, count)
    if len(words) < count:
        raise ValueError("a palette has fewer entries than it says")
    return words[:count]


@lru_cache(maxsize=12)  # the frames of a clip, and a machine's files, share their palette
def _expanded(segments: bytes, bits: int, little_endian: bool, count: int) -> np.ndarray:
    return expand_segments(_words(segments, bits, little_endian), bits, little_endian, count)


def _words(data: Any, bits: int, little_endian: bool) -> np.ndarray:
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, np.int64))
    kind = "u1" if bits == 8 else "<u2" if little_endian else ">u2"
    size = len(data) // np.dtype(kind).itemsize
    return np.frombuffer(data, kind, size).astype(np.int64)


def expand_segments(words: np.ndarray, bits: int, little_endian: bool, count: int) -> np.ndarray:
    """The entries of a segmented palette (C.7.9.2), at most `count`.

    A linear segment adds one knot and a discrete one a knot an entry, and the entries are
    interpolated between knots, so that no length in the file decides how much is allocated.
    """
    at: list[int] = []
    value: list[int] = []
    end = 0
    for opcode, length, start, stop in _segments(words.tolist(), bits, little_endian):
        if opcode == LINEAR and not at:
            raise ValueError("a palette starts with a linear segment")
        if length:
            at += (end + length - 1,) if opcode == LINEAR else range(end, end + length)
            value += range(start, stop)
        end += length
        if end >= count:
            break
    if not at:
        raise ValueError("a palette has no entries")
    return np.rint(np.interp(np.arange(min(end, count)), at, words[value])).astype(np.int64)


def _segments(
    words: list[int], bits: int, little_endian: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Every segment: opcode, length, where its values (a line: its last one) start and end."""
    offset, last = 0, len(words) - 2
    while offset < last:
        if words[offset] != INDIRECT:
            segment = _segment(words, offset)
            yield segment
            offset = segment[3]
            continue
        # Repeats `length` segments from a byte offset of two words, the less significant first.
        length, size = words[offset + 1], 4 if bits == 8 else 2
        parts = words[offset + 2 : offset + 2 + size]
        if bits == 8:
            order: Literal["little", "big"] = "little" if little_endian else "big"
            low, high = (int.from_bytes(bytes(parts[i : i + 2]), order) for i in (0, 2))
            again = low | high << 16
        else:
            again = int(sum(part << 16 * i for i, part in enumerate(parts))) // 2
        offset += 2 + size
        for _ in range(length):
            segment = _segment(words, again)
            yield segment
            again = segment[3]


def _segment(words: list[int], offset: int) -> tuple[int, int, int, int]:
    """A discrete or linear segment as `_segments` has it; the next one starts where it ends."""
    if offset + 2 >= len(words):
        raise ValueError("a palette segment is cut off")
    opcode, length = words[offset], words[offset + 1]
    if opcode not in (DISCRETE, LINEAR):
        raise ValueError("a palette has an unknown segment")
    end = offset + 2 + (length if opcode == DISCRETE else 1)
    if end > len(words):
        raise ValueError("a palette segment is cut off")
    return opcode, length, offset + 2, end
