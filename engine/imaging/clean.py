"""A DICOM dataset that may leave the hospital: the keep-list's attributes and decoded pixels.

What is not listed in `deidentify` is not there: private tags, overlays, curves, LUTs and palettes,
dates, names, comments. Nothing hides in the preamble, in the file meta information, in unused bits,
behind the pixels or inside a compressed stream, because all of these are written new.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UID_dictionary

from engine.imaging.codecs import stored_values
from engine.imaging.deidentify import (
    GEOMETRY,
    NUMBERS,
    SEQUENCES,
    WORDS,
    group_key,
    hidden_uid,
    kept,
    quarantine_reason,
)
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.header import FrameHeader, flatten
from engine.imaging.ocr import printed_text
from engine.imaging.reader import read_dicom, read_file
from engine.imaging.render import PALETTE, check_header, frame_count, photometric, render

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# Type 2 attributes of the common modules: there, and empty.
EMPTY = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber", "Manufacturer",
    "PositionReferenceIndicator",
)  # fmt: skip
NESTED = SEQUENCES | {
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence",
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
}  # fmt: skip
METHOD = [  # (0012,0063), LO: at most 64 characters a value
    "triptych keep-list 2: attributes not listed are removed",
    "patient and UIDs replaced by keyed hashes (HMAC-SHA256)",
    "dates and times removed",
    "pixels decoded and written again; searched for printed text",
]


def clean_file(path: Path, key: bytes, searched: Callable[[int], None]) -> bytes:
    """A DICOM file's cleaned form. Raises ImagingError where it is none, or may carry text.

    `searched` is told the number of each frame in which no text was found.
    """
    dataset = read_dicom(read_file(path))
    check_header(dataset, frame_count(dataset))
    reason = quarantine_reason(dataset)
    frames = iter(range(frame_count(dataset)))
    while reason is None and (frame := next(frames, None)) is not None:
        reason = printed_text(render(dataset, frame)[0])
        searched(frame)
    if reason is not None:
        raise ImagingError(Reason.QUARANTINED, reason)
    out = BytesIO()
    clean(dataset, key).save_as(out, enforce_file_format=True)
    return out.getvalue()


def clean(dataset: Dataset, key: bytes) -> Dataset:
    """What the keep-list allows of a dataset, with its pixels, ready to be written.

    It claims (0012,0062) that the patient's identity is removed, so the caller must have refused
    pixels that may carry text. Raises ImagingError where pixels need a LUT that cannot come along.
    """
    if "ModalityLUTSequence" in dataset or "PixelData" not in dataset:
        raise ImagingError(Reason.UNSUPPORTED, "modality LUT or float pixels")
    ds = _listed(dataset)
    sop_class = str(dataset.get("SOPClassUID", ""))
    ds.SOPClassUID = sop_class if sop_class in UID_dictionary else SECONDARY_CAPTURE
    for keyword in UIDS:
        if dataset.get(keyword):
            setattr(ds, keyword, hidden_uid(dataset.get(keyword), key))
    for keyword in EMPTY:
        setattr(ds, keyword, None)
    ds.PatientID = group_key(dataset, key)
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", METHOD
    ds.LongitudinalTemporalInformationModified = "REMOVED"
    _write_pixels(ds, _decoded(dataset))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "")
    return ds


def _listed(dataset: Dataset) -> Dataset:
    ds = Dataset()
    for keyword in sorted(NUMBERS | WORDS.keys() | GEOMETRY):
        value = kept(keyword, dataset.get(keyword))
        if value not in (None, []):
            setattr(ds, keyword, _typed(keyword, value))
    for keyword in sorted(NESTED):
        items = [item for raw in dataset.get(keyword) or [] if (item := _listed(raw))]
        if items:
            setattr(ds, keyword, items)
    return ds


def _typed(keyword: str, value: Any) -> Any:
    """Numbers as their VR wants them: whole ones as int, decimals as text of 16 characters."""
    if keyword in WORDS:
        return value
    vr = dictionary_VR(keyword)
    if vr in ("US", "SS", "IS", "US or SS"):
        typed: list[Any] = [int(n) for n in value]
    else:
        typed = [f"{n:.6g}" if vr == "DS" else n for n in value]
    return typed[0] if len(typed) == 1 else typed


def _decoded(dataset: Dataset) -> np.ndarray:
    """Stored values, (frames, H, W) or (frames, H, W, 3), without what unused bits may hold.

    Decoded as for ingest; of a palette its colours. Raises ImagingError where no decoder can.
    """
    frames = range(frame_count(dataset))
    if photometric(dataset) == PALETTE:
        return np.stack([render(dataset, frame)[0] for frame in frames])
    top = FrameHeader(dataset)
    return np.stack([stored_values(dataset, flatten(top, frame), frame) for frame in frames])


def _write_pixels(ds: Dataset, stored: np.ndarray) -> None:
    """The image pixel module (C.7.6.3) of decoded values, in whole bytes."""
    bits = 8 * stored.dtype.itemsize
    ds.Rows, ds.Columns = stored.shape[1:3]
    ds.SamplesPerPixel, ds.NumberOfFrames = 1, len(stored)
    if stored.ndim == 4:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    elif "PlanarConfiguration" in ds:
        del ds.PlanarConfiguration
    ds.BitsAllocated, ds.BitsStored = bits, min(int(ds.get("BitsStored", bits)), bits)
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(stored.dtype.kind == "i")
    data = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))
