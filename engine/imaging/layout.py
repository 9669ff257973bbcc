"""How stored pixel values lie (the image pixel module, PS3.3 C.7.6.3).

Each attribute is as the header has it, as it must be where the header has none, or the reason why
the file is refused, by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.imaging.anatomy import Header
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.values import number, unreadable, whole, words

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
YBR = ("YBR_FULL", "YBR_FULL_422")
# Colour spaces that nothing here converts, unless the codestream does (YBR_ICT, YBR_RCT).
UNCONVERTED = ("YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT", "HSV", "ARGB", "CMYK")
KNOWN = (*GREY, PALETTE, "RGB", *YBR, *UNCONVERTED)
ALLOCATED = (1, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Size:
    """What every frame has. `bits` are allocated for a sample."""

    rows: int
    columns: int
    samples: int
    bits: int
    photometric: str


def photometric(header: Header) -> str:
    """Photometric Interpretation (0028,0004). Raises ImagingError where it is absent or unknown."""
    found = words(header, "PhotometricInterpretation")
    if not found:
        raise ImagingError(Reason.UNREADABLE, "no PhotometricInterpretation")
    if len(found) > 1 or found[0] not in KNOWN:
        raise ImagingError(Reason.UNSUPPORTED, "photometric interpretation")
    return found[0]


def read_size(header: Header) -> Size:
    """The size of a frame; absent SamplesPerPixel is what the photometric interpretation has.

    Raises ImagingError for what is absent, cannot be read or contradicts itself.
    """
    space = photometric(header)
    one = space in (*GREY, PALETTE)
    rows, columns = (whole(header, keyword) for keyword in ("Rows", "Columns"))
    samples = whole(header, "SamplesPerPixel", 1 if one else 3)
    bits = whole(header, "BitsAllocated")
    if rows < 1 or columns < 1:
        raise ImagingError(Reason.UNREADABLE, "no image size")
    if bits not in ALLOCATED:
        raise ImagingError(Reason.UNSUPPORTED, "BitsAllocated is none of 1, 8, 16, 32, 64")
    if samples not in (1, 3, 4):
        raise ImagingError(Reason.UNSUPPORTED, "SamplesPerPixel is none of 1, 3, 4")
    if one != (samples == 1):
        differ = "SamplesPerPixel and PhotometricInterpretation"
        raise ImagingError(Reason.CONTRADICTION, differ)
    return Size(rows, columns, samples, bits, space)


def is_signed(header: Header) -> bool:
    """Whether stored values are two's complement: Pixel Representation (0028,0103)."""
    found = whole(header, "PixelRepresentation")
    if found not in (0, 1):
        raise unreadable("PixelRepresentation", "is neither 0 nor 1")
    return found == 1


def planar(header: Header) -> int:
    """Planar Configuration (0028,0006) of uncompressed colours: 0 by pixel, 1 by plane."""
    found = whole(header, "PlanarConfiguration")
    if found not in (0, 1):
        raise unreadable("PlanarConfiguration", "is neither 0 nor 1")
    return found


def stored_bits(header: Header, allocated: int) -> tuple[int, int]:
    """Bits Stored (0028,0101) and High Bit (0028,0102), which is one less where it is absent."""
    stored = whole(header, "BitsStored")
    high = whole(header, "HighBit", stored - 1)
    if not 1 <= stored <= allocated:
        raise ImagingError(Reason.CONTRADICTION, "BitsStored and BitsAllocated")
    if not stored - 1 <= high < allocated:
        raise ImagingError(Reason.CONTRADICTION, "HighBit and BitsStored")
    return stored, high


def frame_count(header: Header) -> int:
    """Number of Frames (0028,0008), 1 where it is absent or 0. Raises ImagingError if no count."""
    count = number(header, "NumberOfFrames", 1)
    if count < 0 or count != int(count):
        raise unreadable("NumberOfFrames")
    return max(1, int(count))
