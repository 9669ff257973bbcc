"""Compressed frames, and pictures as they are shown."""

from __future__ import annotations

import io
from typing import Any

import jpeg_ls
import numpy as np
import PIL.Image
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
)

from engine.imaging.codestream import read_codestream
from tests.engine.imaging.datasets import grey

COLOURS = np.zeros((64, 64, 3), np.uint8)


COLOURS[..., 0], COLOURS[:32, :, 1], COLOURS[:, :20, 2] = 200, 120, 250


WINDOW = {"WindowCenter": "2000", "WindowWidth": "3000"}


TWELVE = {"BitsStored": 12, "HighBit": 11}


def compressed(stream: bytes, syntax: str, shape: tuple[int, ...], **attributes: Any) -> Dataset:
    """A file of one codestream, with the header that is right for its array's shape, and more."""
    ds = grey(np.zeros((1, 1)), Rows=shape[0], Columns=shape[1])
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if len(shape) == 3:
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        ds.PhotometricInterpretation = "RGB"
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def jpeg(pixels: np.ndarray, **more: Any) -> bytes:
    out = io.BytesIO()
    options = {"quality": 100} | ({"subsampling": 0} if pixels.ndim == 3 else {}) | more
    PIL.Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def jls(values: np.ndarray, interleave: int = 0) -> bytes:
    """JPEG-LS of as many bits as the largest value needs."""
    planes = values.transpose(2, 0, 1).copy() if values.ndim == 3 and not interleave else values
    out = bytes(jpeg_ls.encode_array(planes, 0, interleave_mode=interleave))
    stream = read_codestream(out)
    assert stream is not None
    assert stream.precision == max(2, int(values.max()).bit_length())
    return out


def written(ds: Dataset, **texts: str | bytes) -> Dataset:
    """A dataset read from a file in which attributes stand as given, allowed or not."""
    for keyword, text in texts.items():
        data = text.encode() if isinstance(text, str) else text
        tag = Tag(tag_for_keyword(keyword) or 0)
        vr = dictionary_VR(tag).split(" or ")[0]
        data += b" " * (len(data) % 2)
        ds[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)
    return ds
