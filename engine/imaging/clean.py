"""A DICOM dataset that may leave the hospital: the keep-list's attributes and decoded pixels.

What is not listed in `deidentify` is not there: private tags, overlays, curves, LUTs and palettes,
dates, names, comments. Nothing hides in the preamble, in the file meta information, in unused bits,
behind the pixels or inside a compressed stream, because all of these are written new.

A copy is rendered beside its source before it is given away, frame by frame, and is refused where
it looks different: what the list leaves out may have decided grey levels.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UID_dictionary
from pydicom.valuerep import format_number_as_ds

from engine.imaging.codecs import stored_values
from engine.imaging.deidentify import (
    EXACT,
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
from engine.imaging.header import FrameHeader, flatten, items
from engine.imaging.layout import PALETTE, frame_count, photometric
from engine.imaging.ocr import printed_text
from engine.imaging.reader import read_dicom, read_file
from engine.imaging.regions import crop_to_regions
from engine.imaging.render import check_header, padding_range, render
from engine.imaging.values import is_empty, numbers, uid, words
from engine.imaging.voi import Window, file_windows

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
    "FrameVOILUTSequence", "SequenceOfUltrasoundRegions",
}  # fmt: skip
IMAGE_TYPES = frozenset((
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "VOLUME", "LABEL",
    "OVERVIEW", "THUMBNAIL",
))  # fmt: skip
PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
# What may make a copy look different, in the order in which a refusal names it.
DECIDING = (
    "ModalityLUTSequence", "VOILUTSequence", "RescaleSlope", "RescaleIntercept", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "PresentationLUTShape", "PixelPresentation", "SequenceOfUltrasoundRegions", "Modality",
    "ImageType", "RescaleType", "BodyPartExamined",
)  # fmt: skip
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
    data, kind = read_file(path)
    if kind != "DICOM":
        raise ImagingError(Reason.UNSUPPORTED, f"{kind}: only DICOM files are written again")
    dataset = read_dicom(data)
    top = FrameHeader(dataset)
    check_header(top, frame_count(top))
    reason = quarantine_reason(top)
    frames = iter(range(frame_count(dataset)))
    while reason is None and (frame := next(frames, None)) is not None:
        reason = printed_text(render(dataset, frame)[0])
        searched(frame)
    if reason is not None:
        raise ImagingError(Reason.QUARANTINED, reason)
    return copy_of(dataset, key)


def copy_of(dataset: Dataset, key: bytes) -> bytes:
    """A dataset's cleaned file. Raises ImagingError where it would not look as its source does."""
    out = BytesIO()
    clean(dataset, key).save_as(out, enforce_file_format=True)
    data = out.getvalue()
    _check_alike(dataset, dcmread(BytesIO(data)))
    return data


def _check_alike(source: Dataset, copy: Dataset) -> None:
    """Refuse a copy whose frames, or the windows they offer, are not those of its source."""
    frames = range(frame_count(source))
    if frame_count(copy) != len(frames):
        raise ImagingError(Reason.NOT_ALIKE, "NumberOfFrames")
    for frame in frames:
        (ours, windows), (theirs, others) = (_shown(ds, frame) for ds in (source, copy))
        if repr(windows) != repr(others) or not np.array_equal(ours, theirs):
            raise ImagingError(Reason.NOT_ALIKE, _culprit(source, copy, frame))


def _shown(dataset: Dataset, frame: int) -> tuple[np.ndarray, list[Window]]:
    """A frame as ingest shows it, and the windows that it offers."""
    top = FrameHeader(dataset)
    pixels, choices = render(dataset, frame)
    grey = choices["window_source"] != "colour"
    windows = file_windows(flatten(top, frame)) if grey else []
    return crop_to_regions(pixels, top)[0], windows


def _culprit(source: Dataset, copy: Dataset, frame: int) -> str:
    """The first attribute that decides a frame's look and is not in its copy as it was."""
    ours, theirs = (flatten(FrameHeader(ds), frame) for ds in (source, copy))
    for keyword in DECIDING:
        if str(ours.get(keyword)) != str(theirs.get(keyword)):
            return f"{keyword} is not kept as it is"
    return ""


def clean(dataset: Dataset, key: bytes) -> Dataset:
    """What the keep-list allows of a dataset, with its pixels, ready to be written.

    It claims (0012,0062) that the patient's identity is removed, so the caller must have refused
    pixels that may carry text. `copy_of` sees to it that it looks as before. Raises ImagingError.
    """
    if "PixelData" not in dataset:
        raise ImagingError(Reason.UNSUPPORTED, "float pixel data")
    if not dataset.get("SOPInstanceUID"):
        raise ImagingError(Reason.UNREADABLE, "no SOPInstanceUID")
    top = FrameHeader(dataset)
    ds = _listed(top)
    if kinds := _image_type(top):
        ds.ImageType = kinds
    sop_class = uid(top, "SOPClassUID")
    ds.SOPClassUID = sop_class if sop_class in UID_dictionary else SECONDARY_CAPTURE
    for keyword in UIDS:
        if dataset.get(keyword):
            setattr(ds, keyword, hidden_uid(dataset.get(keyword), key))
    for keyword in EMPTY:
        setattr(ds, keyword, None)
    ds.PatientID = group_key(dataset, key)
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", METHOD
    ds.LongitudinalTemporalInformationModified = "REMOVED"
    _write_pixels(ds, *_decoded(dataset), top)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "")
    return ds


def _listed(header: FrameHeader) -> Dataset:
    """The keep-list's attributes. Items stay where they are, empty ones too: place has meaning."""
    ds = Dataset()
    for keyword in sorted(NUMBERS | WORDS.keys() | GEOMETRY):
        value = header.get(keyword)
        exact = keyword in EXACT and (found := numbers(value)) and all(map(isfinite, found))
        value = found if exact else kept(keyword, value)
        if value not in (None, []):
            setattr(ds, keyword, _typed(keyword, value))
        elif keyword in DECIDING and keyword in header and is_empty(header.get(keyword)):
            setattr(ds, keyword, None)  # over a value of another layer
    for keyword in sorted(NESTED):
        listed = [_listed(FrameHeader(item)) for item in items(header, keyword)]
        if any(listed):
            setattr(ds, keyword, listed)
    return ds


def _typed(keyword: str, value: Any) -> Any:
    """Numbers as their VR wants them: whole ones as int, decimals as text of 16 characters."""
    if keyword in WORDS:
        return value
    vr = dictionary_VR(keyword)
    if vr in ("US", "SS", "UL", "SL", "IS", "US or SS"):
        typed: list[Any] = [int(n) for n in value]
    else:
        typed = [format_number_as_ds(n) if vr == "DS" else n for n in value]
    return typed[0] if len(typed) == 1 else typed


def _image_type(header: FrameHeader) -> list[str]:
    """Image Type (0008,0008), each value in its place: what is not known is OTHER."""
    said = [word if word in IMAGE_TYPES else "OTHER" for word in words(header, "ImageType")]
    while len(said) > 3 and said[-1] == "OTHER":
        said.pop()
    return said


def _decoded(dataset: Dataset) -> tuple[np.ndarray, int]:
    """Stored values, (frames, H, W) or (frames, H, W, 3), without what unused bits may hold.

    Decoded as for ingest, with how many bits they have; of a palette its colours. Raises
    ImagingError where no decoder can.
    """
    frames = range(frame_count(dataset))
    if photometric(dataset) == PALETTE:
        return np.stack([render(dataset, frame)[0] for frame in frames]), 8
    top = FrameHeader(dataset)
    found = [stored_values(dataset, flatten(top, frame), frame) for frame in frames]
    return np.stack([values for values, _ in found]), max(bits for _, bits in found)


def _write_pixels(ds: Dataset, stored: np.ndarray, bits: int, source: FrameHeader) -> None:
    """The image pixel module (C.7.6.3) of decoded values, in whole bytes, and their padding."""
    allocated = 8 * stored.dtype.itemsize
    ds.Rows, ds.Columns = stored.shape[1:3]
    ds.SamplesPerPixel, ds.NumberOfFrames = 1, len(stored)
    if stored.ndim == 4:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    elif "PlanarConfiguration" in ds:
        del ds.PlanarConfiguration
    ds.BitsAllocated, ds.BitsStored = allocated, min(bits, allocated)
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(stored.dtype.kind == "i")
    data = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OB" if allocated == 8 else "OW", data + b"\0" * (len(data) % 2))
    _write_padding(ds, stored.dtype, source)


def _write_padding(ds: Dataset, kind: np.dtype[Any], source: FrameHeader) -> None:
    """Padding with the sign of the values, which some writers give another."""
    ends = padding_range(kind, source) if ds.SamplesPerPixel == 1 else None
    for keyword, end in zip(PADDING, ends or (None, None)):
        if keyword in ds:
            del ds[keyword]
        vr, limits = ("SS", np.iinfo("i2")) if kind.kind == "i" else ("US", np.iinfo("u2"))
        if end is not None and limits.min <= end <= limits.max and end == int(end):
            ds.add_new(keyword, vr, int(end))
