"""What of a file may leave the decoder: a keep-list, checked value by value.

A list of what to remove is always one tag short. Here a fact leaves only if its attribute is listed
and its value is a plausible number or in a closed vocabulary, so free text, names, ids, dates,
UIDs, private tags, overlays and the preamble have no way out. Patients, UIDs and file names leave
as keyed hashes. `engine.imaging.clean` writes whole DICOM datasets by the same rule. Nothing is
claimed of PS3.15's profiles.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from engine.imaging.anatomy import ANATOMIES, MODALITIES, REGIONS, Header
from engine.imaging.values import numbers, texts, words
from engine.imaging.voi import FUNCTIONS

PROFILE = "triptych keep-list 2"
LARGEST = 65536.0  # a larger number may be an id; six digits are kept, for the same reason
NUMBERS = frozenset((
    "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PlanarConfiguration", "NumberOfFrames", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope",
    "PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices", "KVP",
    "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "MagneticFieldStrength",
))  # fmt: skip
# Where a plane lies, and the regions of an ultrasound: kept in a cleaned file, not on a row.
GEOMETRY = frozenset((
    "ImagePositionPatient", "ImageOrientationPatient", "RegionSpatialFormat", "RegionDataType",
    "RegionFlags", "RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1",
    "RegionLocationMaxY1", "PhysicalUnitsXDirection", "PhysicalUnitsYDirection", "PhysicalDeltaX",
    "PhysicalDeltaY",
))  # fmt: skip
# What decides grey levels: kept in a cleaned file as exact as it is, for six digits would show.
EXACT = frozenset(("WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope"))
YES_NO = frozenset(("YES", "NO"))
WORDS: dict[str, frozenset[str]] = {
    "Modality": frozenset(MODALITIES) | {"OT", "SC", "ES", "SEG", "NM", "PT"},
    "BodyPartExamined": frozenset(ANATOMIES),
    "PhotometricInterpretation": frozenset((
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422",
        "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")),
    "VOILUTFunction": frozenset(FUNCTIONS),
    "RescaleType": frozenset(("HU", "US", "OD", "HU_MOD")),
    "PresentationLUTShape": frozenset(("IDENTITY", "INVERSE")),
    "LossyImageCompression": frozenset(("00", "01")),
    "BurnedInAnnotation": YES_NO,
    "SyntheticData": YES_NO,
    "Laterality": frozenset(("R", "L")),
    "ImageLaterality": frozenset(("R", "L", "U", "B")),
    "ViewPosition": frozenset(("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "CC", "MLO")),
    "ScanningSequence": frozenset(("SE", "IR", "GR", "EP", "RM")),
    "CodeValue": frozenset(REGIONS),
}  # fmt: skip
SEQUENCES = frozenset(("AnatomicRegionSequence", "FrameAnatomySequence"))
KEPT = sorted(NUMBERS | WORDS.keys() | SEQUENCES)
# Modalities and SOP classes whose pictures are apt to carry text: ultrasound, secondary capture,
# endoscopy, angiography, other (by class too, because secondary captures keep the source's code).
TEXT_MODALITIES = frozenset(("US", "IVUS", "SC", "ES", "XA", "OT"))
PHOTOGRAPH = "XC"
# The codes that rule text out where nothing else is said; one that is not known rules out nothing.
PLAIN_MODALITIES = (WORDS["Modality"] | {PHOTOGRAPH}) - TEXT_MODALITIES
_STORAGE = "1.2.840.10008.5.1.4.1.1."
TEXT_CLASSES = tuple(
    _STORAGE + tail for tail in ("7", "6.1", "6.2", "3.1", "12.1", "77.1.1", "77.1.1.1")
)
TEXT_FAMILIES = (_STORAGE + "7.",)
PHOTOGRAPHS = frozenset((_STORAGE + "77.1.4", _STORAGE + "77.1.4.1"))  # external camera
NO_HEADER = "no header says what the picture shows"  # PNG, JPEG, TIFF, NIfTI


def safe_facts(header: Header) -> dict[str, Any]:
    """The kept facts of a header, recursively, ready for JSON."""
    facts: dict[str, Any] = {}
    for keyword in KEPT:
        value = header.get(keyword)
        if value is not None and (safe := kept(keyword, value)):
            facts[keyword] = safe
    return facts


def kept(keyword: str, value: Any) -> Any:
    """What of an attribute's value may leave: numbers, words of its vocabulary, or None."""
    if value is None:
        return None
    if keyword in SEQUENCES:
        return [facts for item in value if (facts := safe_facts(item))]
    if keyword in NUMBERS or keyword in GEOMETRY:
        return _plausible(numbers(value))
    known = [word for text in texts(value) if (word := text.upper()) in WORDS[keyword]]
    return known[0] if len(known) == 1 else known


def _plausible(found: list[float]) -> list[float] | None:
    """Numbers that can be measurements, to six digits; None where one of them cannot."""
    if not found or not all(abs(n) <= LARGEST for n in found):
        return None
    return [float(f"{n:.6g}") for n in found]


def group_key(header_or_text: Header | str, key: bytes) -> str:
    """32 hex digits of HMAC-SHA256: what splits are made by, the same for one key on every worker.

    A file is grouped by its PatientID, else its StudyInstanceUID. The issuer is left out: to
    merge two patients is safe, to split one leaks between splits. Without either the key is "",
    and the caller keys the file's own path (as text).
    """
    text = header_or_text if isinstance(header_or_text, str) else identity(header_or_text)
    data = text.encode(errors="surrogateescape")  # a file's name need not be Unicode
    return hmac.new(key, data, hashlib.sha256).hexdigest()[:32] if text else ""


def identity(header: Header) -> str:
    """Who the file is about. This text never leaves the process that decodes."""
    for kind, keyword in (("patient", "PatientID"), ("study", "StudyInstanceUID")):
        if value := "\\".join(texts(header.get(keyword))):
            return f"{kind}:{value}"
    return ""


def hidden_path(path: str, key: bytes) -> str:
    """A relative path with each part as 12 hex digits of its keyed hash: names name patients."""
    parts = (f"path:{part}".encode(errors="surrogateescape") for part in path.split("/"))
    return "/".join(hmac.new(key, part, hashlib.sha256).hexdigest()[:12] for part in parts)


def key_id(key: bytes) -> str:
    """8 hex digits by which a key is recognised and not found."""
    return hmac.new(key, b"triptych key", hashlib.sha256).hexdigest()[:8]


def hidden_uid(uid: object, key: bytes) -> str:
    """A UID under 2.25 (PS3.5 B.2) from the keyed hash of another; "" where there is none."""
    text = str(uid or "").strip()
    digest = hmac.new(key, f"uid:{text}".encode(), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}" if text else ""


def quarantine_reason(header: Header) -> str | None:
    """Why a picture may name or show who it is of, or None where it may be used.

    By what the header says of burned-in text and of features by which a person can be recognised
    (C.7.6.1.1.3, PS3.15 E.3.2), of a specimen's label (C.8.12.4), and, where it says nothing, by
    the kind of picture. A value that is neither YES nor NO counts as YES, a modality that is not
    known as none, and of several values each counts.
    """
    face, label = _said(header, "RecognizableVisualFeatures"), _said(header, "SpecimenLabelInImage")
    burned = _said(header, "BurnedInAnnotation")
    kinds, modalities = words(header, "ImageType"), words(header, "Modality")
    classes = words(header, "SOPClassUID")
    if face or (face is None and (PHOTOGRAPH in modalities or not PHOTOGRAPHS.isdisjoint(classes))):
        return "recognisable features" if face else "recognisable features not ruled out"
    if label or (label is None and ("LABEL" in kinds or "OVERVIEW" in kinds)):
        return "a slide's label"
    if burned is None:
        by_class = any(c in TEXT_CLASSES or c.startswith(TEXT_FAMILIES) for c in classes)
        ruled_out = modalities and PLAIN_MODALITIES.issuperset(modalities) and not by_class
        return None if ruled_out else "text not ruled out"
    return "burned-in annotation" if burned else None


def _said(header: Header, keyword: str) -> bool | None:
    """What a YES or NO attribute says, None where it is absent or empty."""
    found = words(header, keyword)
    return set(found) != {"NO"} if found else None
