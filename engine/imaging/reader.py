"""A file to bytes, what they are, and a pydicom dataset, bounded before anything is inflated.

Runs in the decoder's child process (`engine.imaging.child`), because no check here can stop a codec
from crashing.
"""

from __future__ import annotations

import os
import stat
import zlib
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, FileDataset, dcmread
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from engine.imaging.codestream import JP2, SOC
from engine.imaging.errors import ImagingError, Reason
from engine.imaging.render import MAX_BYTES

MAX_FILE = 1 << 30
PICTURES = {
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF",
    b"II+\0": "TIFF", b"MM\0+": "TIFF",  # BigTIFF
}  # fmt: skip
NIFTI = {344: b"n+1\0", 4: b"n+2\0"}  # where NIfTI-1 and NIfTI-2 have their magic
PAIRS = {344: b"ni1\0", 4: b"ni2\0"}  # the same of a header whose voxels are another file
ANALYZE = (b"\x5c\1\0\0", b"\0\0\1\x5c")  # the size of its header, 348, in either byte order
PAIR = "a NIfTI pair (.hdr, .img) is not read: give it as one .nii file"
# Formats that are known and not read; images in the first table, none in the second.
UNREAD = {
    JP2: "JPEG 2000 file", SOC: "JPEG 2000 codestream", b"GIF8": "GIF", b"NRRD": "NRRD",
    b"ObjectType": "MetaImage", b"\x89HDF": "HDF5", b"\0\0\0\x0cJXL ": "JPEG XL",
}  # fmt: skip
NO_IMAGES = {b"PK\3\4": "a ZIP archive", b"%PDF": "a PDF document", b"PAR1": "Parquet"}
GZIP = b"\x1f\x8b"
# A dataset without preamble starts with a tag of group 0002 or 0008, in either byte order.
BARE = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")
EXECUTABLES = (b"MZ", b"\x7fELF")  # a preamble that is also a program: CVE-2019-11687
HEAD = 1 << 16  # bytes that tell a format
META = 1 << 16  # the transfer syntax stands in here
NEITHER = "neither DICOM, NIfTI, PNG, JPEG nor TIFF"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


def read_file(path: Path) -> tuple[bytes, str]:
    """A regular file's bytes and format. Raises ImagingError where it is too large or no image.

    Of what is no image the head alone is read.
    """
    about = _about(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
        try:
            kind = file_format(head)
        except ImagingError as error:
            raise _in_pair(path) or error from None
        if about.st_size > MAX_FILE:
            raise ImagingError(Reason.TOO_LARGE, f"a file of more than {MAX_FILE >> 20} MiB")
        if about.st_size > HEAD:
            file.seek(0)
            head = file.read(about.st_size)
        return head, kind


def _about(path: Path) -> os.stat_result:
    """What the file system says of a regular file; a pipe is not opened, since it may never end."""
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
        raise ImagingError(Reason.UNREADABLE, "not there, or a link that leads nowhere") from error
    if stat.S_ISDIR(about.st_mode):
        why = "a link to a folder, which is not followed"
        raise ImagingError(Reason.UNREADABLE, why if path.is_symlink() else "a closed folder")
    if not stat.S_ISREG(about.st_mode):
        raise ImagingError(Reason.UNREADABLE, "not a regular file")
    if about.st_size == 0:
        raise ImagingError(Reason.UNREADABLE, "empty file")
    return about


def file_format(data: bytes) -> str:
    """DICOM, NIFTI, PNG, JPEG or TIFF by content, whatever the name. Raises ImagingError else."""
    if data[128:132] == b"DICM":  # a preamble may look like a TIFF on purpose (PS3.10 7.1)
        return "DICOM"
    picture = next((name for magic, name in PICTURES.items() if data.startswith(magic)), None)
    if picture is not None:
        return picture
    packed = data.startswith(GZIP)
    head = inflate(data, 348, gzip=True) if packed else data
    if any(head[at : at + 4] == magic for at, magic in NIFTI.items()):
        return "NIFTI"
    _check_unread(head, packed)
    if data.startswith(BARE):
        return "DICOM"
    raise ImagingError(Reason.NOT_AN_IMAGE, NEITHER)


def _check_unread(head: bytes, packed: bool) -> None:
    """Refuse, by its name, what is known and not read."""
    if any(head[at : at + 4] == magic for at, magic in PAIRS.items()):
        raise ImagingError(Reason.UNSUPPORTED, PAIR)
    if head.startswith(ANALYZE):
        raise ImagingError(Reason.UNSUPPORTED, "Analyze 7.5")
    if packed:
        raise ImagingError(Reason.NOT_AN_IMAGE, "gzip of something other than NIfTI")
    for reason, names in ((Reason.UNSUPPORTED, UNREAD), (Reason.NOT_AN_IMAGE, NO_IMAGES)):
        for magic, name in names.items():
            if head.startswith(magic):
                raise ImagingError(reason, name)


def _in_pair(path: Path) -> ImagingError | None:
    """The refusal of the voxels of a pair: the header beside them says what they are."""
    if not path.name.lower().endswith((".img", ".img.gz")):
        return None
    stem = path.name[: path.name.lower().rindex(".img")]
    for header in (path.with_name(stem + end) for end in (".hdr", ".HDR", ".hdr.gz")):
        try:
            with header.open("rb") as file:
                file_format(file.read(HEAD))
        except ImagingError as error:
            return error if error.reason is Reason.UNSUPPORTED else None
        except OSError:
            continue
    return None


def inflate(data: bytes, limit: int, gzip: bool = False) -> bytes:
    """Raw deflate or gzip data inflated as far as `limit` bytes. Raises ImagingError if damaged."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS if gzip else -zlib.MAX_WBITS)
    try:
        return inflater.decompress(data, limit)
    except zlib.error as error:
        raise ImagingError(Reason.UNREADABLE, "damaged compression") from error


def inflate_whole(data: bytes, gzip: bool = False) -> bytes:
    """All of raw deflate or gzip data; ImagingError where that is more than MAX_BYTES."""
    plain = inflate(data, MAX_BYTES + 1, gzip)
    if len(plain) > MAX_BYTES:
        raise ImagingError(Reason.TOO_LARGE, f"inflates to more than {MAX_BYTES >> 20} MiB")
    return plain


def executable_preamble(data: bytes) -> bool:
    """Whether the file starts as a program does (CVE-2019-11687)."""
    return data.startswith(EXECUTABLES)


def read_dicom(data: bytes) -> Dataset:
    """A DICOM dataset, with or without preamble. Raises ImagingError for anything else."""
    try:
        dataset = _read(data)
    except (ImagingError, MemoryError):
        raise
    except Exception as error:
        bare = data[128:132] != b"DICM"
        raise ImagingError(Reason.UNREADABLE, f"damaged DICOM{', or none' * bare}") from error
    listing = "DirectoryRecordSequence" in dataset and "PixelData" not in dataset
    if listing or dataset.get("SOPClassUID") == MEDIA_DIRECTORY:
        raise ImagingError(Reason.NOT_AN_IMAGE, "DICOM directory")
    if "SOPClassUID" not in dataset and data[128:132] != b"DICM":
        raise ImagingError(Reason.NOT_AN_IMAGE, NEITHER)
    if not len(dataset):
        raise ImagingError(Reason.UNREADABLE, "damaged DICOM")
    return dataset


def _read(data: bytes) -> Dataset:
    if DeflatedExplicitVRLittleEndian.encode() in data[:META]:
        file = BytesIO(data)
        read_preamble(file, force=True)
        meta = _read_file_meta_info(file)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            plain = inflate_whole(data[file.tell() :])
            dataset = read_dataset(BytesIO(plain), is_implicit_VR=False, is_little_endian=True)
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.file_meta = meta
            return dataset
    dataset = dcmread(BytesIO(data), force=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _encoding(dataset)
    return dataset


def _encoding(dataset: FileDataset) -> UID:
    """The transfer syntax of a dataset that names none, as pydicom found it to be written."""
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
