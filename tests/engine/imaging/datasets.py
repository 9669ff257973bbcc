"""DICOM data sets and files as the tests of this folder ask for them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from engine.imaging.decode import Decoder
from engine.imaging.ingest import Rules, ingest_file
from engine.records import Image, Refusal
from tests.pictures import PNG

REAL = Path(__file__).parents[4] / "shared/data/dicom"


KEY = b"a key of the tests"


CANARY = "KANARIE"


def grey(stored: np.ndarray, **attributes: Any) -> Dataset:
    """A minimal CR image of 16-bit values: (H, W), or (N, H, W) for several frames."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "2.25.1"
    ds.Modality, ds.PatientID, ds.StudyInstanceUID = "CR", "P1", "2.25.2"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.add_new("PixelData", "OW", stored.astype("<u2").tobytes())
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def ramp(side: int = 64) -> np.ndarray:
    return np.arange(side * side).reshape(side, side)


def save(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


def ingest(decoder: Decoder, path: Path, **more: Any) -> tuple[list[Image], list[Refusal]]:
    read = ingest_file(decoder, path.parent, path, Rules(KEY, keep_paths=True, **more))
    PNG.update({picture.id: picture.png for picture in read.pictures})
    return read.images, read.refusals


def pixels_of(image: Image) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(PNG[image.id])))
