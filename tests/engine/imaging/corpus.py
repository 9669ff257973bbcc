"""The files that pydicom brings, and which of them are refused, and why."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pydicom.data

from engine.imaging import compressed
from engine.imaging.ingest import list_files
from engine.imaging.reader import NEITHER
from tests.engine.imaging.datasets import REAL

WHEEL = Path(pydicom.data.__file__).parent


FOLDERS = [
    f
    for f in (REAL, *(WHEEL / n for n in ("charset_files", "palettes", "test_files")))
    if f.is_dir()
]


NO_PIXELS = "not an image: no pixel data"


SEGMENTATION = "not an image: Segmentation Storage"


DOSE = "not an image: RT Dose Storage"


NOT_DICOM = f"not an image: {NEITHER}"


DIRECTORY = "not an image: DICOM directory"


NO_SPACE = "unreadable file: no PhotometricInterpretation"


# Every file that is refused, by its path's end, and why; all others must be rendered.
REFUSED = {
    "LICENSE": NOT_DICOM,
    "README.*": NOT_DICOM,
    "FileInfo.txt": NOT_DICOM,
    "test*.json": NOT_DICOM,
    "DICOMDIR": DIRECTORY,
    "liver*.dcm": SEGMENTATION,
    "emri_small_jpeg_2k_lossless_too_short.dcm": "unreadable file: damaged DICOM",  # cut off
    "chrJapMulti*.dcm": NO_PIXELS,
    "chrKoreanMulti.dcm": NO_PIXELS,
    "chrSQEncoding*.dcm": NO_PIXELS,
    "palettes/*": NO_PIXELS,
    "ExplVR_*EndNoMeta.dcm": NO_PIXELS,  # plans without images
    "JPEG-lossy.dcm": f"unsupported encoding: 12-bit JPEG {compressed.NEEDS_EXTRA}",
    "JPGExtended.dcm": f"unsupported encoding: 12-bit JPEG {compressed.NEEDS_EXTRA}",
    "SC_rgb_jpeg_gdcm.dcm": f"unsupported encoding: lossless JPEG {compressed.NEEDS_EXTRA}",
    # A damaged codestream, of 3,722,445,056 columns.
    "JPEG2000-embedded-sequence-delimiter.dcm": "contradictory header: the codestream has another "
    "size",
    "MR_truncated.dcm": "unreadable file: fewer pixels than the header says",
    "UN_sequence.dcm": NO_PIXELS,
    "empty_charset_LEI.dcm": NO_PIXELS,
    "meta_missing_tsyntax.dcm": NO_SPACE,
    "nested_priv_SQ.dcm": NO_SPACE,
    "no_meta.dcm": NOT_DICOM,  # a byte too many at its start
    "no_meta_group_length.dcm": NO_PIXELS,
    "priv_SQ.dcm": NO_PIXELS,
    "reportsi*.dcm": NO_PIXELS,
    "rtplan*.dcm": NO_PIXELS,
    "rtstruct.dcm": NO_PIXELS,
    "*.dump": NOT_DICOM,
    "test-SR.dcm": NO_PIXELS,
    "waveform_ecg.dcm": NO_PIXELS,
    "rtdose*.dcm": DOSE,
    "badVR.dcm": DOSE,
    "crayons.icc": NOT_DICOM,
    "zipMR.gz": "not an image: gzip of something other than NIfTI",
    "dicomdirtests/DICOMDIR-*": DIRECTORY,
    "TINY_ALPHA/PT*": NO_PIXELS,
    "TINY_ALPHA/README": NOT_DICOM,
}


WITH_EXTRA = ("JPEG-lossy.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm")


def corpus() -> list[Path]:
    return [path for folder in FOLDERS for path in list_files(folder)]


def expected_reason(path: Path) -> str | None:
    """Why a file of the corpus is refused; None where it is to be rendered."""
    if compressed.has_extra() and path.name in WITH_EXTRA:
        return None
    return next((r for end, r in REFUSED.items() if fnmatch(path.as_posix(), f"*/{end}")), None)
