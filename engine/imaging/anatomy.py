"""DICOM's modality and body part codes in our own names: a closed vocabulary, so nothing leaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Header(Protocol):
    """What both a pydicom dataset and the facts kept of one can do."""

    def get(self, key: str, default: Any = None, /) -> Any: ...


MODALITIES = {
    **dict.fromkeys(("CT",), "CT"),
    **dict.fromkeys(("MR",), "MR"),
    **dict.fromkeys(("CR", "DX", "RF", "MG", "XA", "RG", "IO", "PX"), "X-ray"),
    **dict.fromkeys(("US", "IVUS"), "ultrasound"),
    "OP": "fundus",
    **dict.fromkeys(("OPT", "OCT"), "OCT"),
    "DMS": "dermoscopy",
    **dict.fromkeys(("SM", "GM"), "histology"),
}
MODALITY_NAMES = frozenset(MODALITIES.values()) | {"other"}
# Defined terms of BodyPartExamined (PS3.16 annex L) by our name; a name stands for itself too.
BODY_PARTS = {
    "head": ("SKULL", "FACE", "SINUS", "ORBIT", "HEADNECK", "MAXILLA", "JAW", "TMJ"),
    "brain": ("CEREBELLUM", "PITUITARY"),
    "neck": ("THYROID", "LARYNX", "CAROTID"),
    "chest": ("THORAX", "LUNG", "RIB", "STERNUM", "CLAVICLE", "MEDIASTINUM"),
    "heart": ("HEART", "CORONARYARTERY", "CARDIAC"),
    "breast": (),
    "abdomen": (
        "LIVER",
        "KIDNEY",
        "PANCREAS",
        "SPLEEN",
        "STOMACH",
        "BOWEL",
        "GALLBLADDER",
        "ABDOMENPELVIS",
    ),
    "colon": (),
    "pelvis": ("PROSTATE", "UTERUS", "BLADDER", "OVARY", "RECTUM", "SACRUM"),
    "spine": ("CSPINE", "TSPINE", "LSPINE", "SSPINE", "COCCYX"),
    "extremity": (
        "ARM",
        "LEG",
        "HAND",
        "FOOT",
        "KNEE",
        "HIP",
        "ELBOW",
        "WRIST",
        "ANKLE",
        "SHOULDER",
        "FEMUR",
        "HUMERUS",
        "TIBIA",
        "FINGER",
        "TOE",
        "THUMB",
        "FOREARM",
    ),
    "eye": ("RETINA",),
    "skin": (),
    "whole body": ("WHOLEBODY",),
}
ANATOMIES = {term: name for name, terms in BODY_PARTS.items() for term in (name.upper(), *terms)}
# SNOMED CT codes of AnatomicRegionSequence (PS3.16 CID 4), as writers of enhanced images use them.
REGIONS = {
    "69536005": "head",
    "T-D1100": "head",
    "12738006": "brain",
    "T-A0100": "brain",
    "45048000": "neck",
    "T-D1600": "neck",
    "51185008": "chest",
    "T-D3000": "chest",
    "80891009": "heart",
    "T-32000": "heart",
    "76752008": "breast",
    "T-04000": "breast",
    "818981001": "abdomen",
    "113345001": "abdomen",
    "T-D4000": "abdomen",
    "71854001": "colon",
    "816092008": "pelvis",
    "12921003": "pelvis",
    "T-D6000": "pelvis",
    "421060004": "spine",
    "T-11500": "spine",
    "66019005": "extremity",
    "T-D0300": "extremity",
    "81745001": "eye",
    "T-AA000": "eye",
    "39937001": "skin",
    "T-01000": "skin",
}


def modality_name(code: object) -> str:
    """Our name of a DICOM modality code, or "other"."""
    text = str(code or "").strip()
    return text if text in MODALITY_NAMES else MODALITIES.get(text.upper(), "other")


def anatomy_name(term: object) -> str:
    """Our name of a body part, or "unknown" for what is not in the vocabulary."""
    return ANATOMIES.get(str(term or "").strip().upper(), "unknown")


def _region_codes(header: Header) -> Iterator[str]:
    for item in header.get("AnatomicRegionSequence") or []:
        yield str(item.get("CodeValue", ""))


def anatomy_of(header: Header) -> str:
    """The body part of a flattened header: BodyPartExamined, else its anatomic region's code."""
    name = anatomy_name(header.get("BodyPartExamined"))
    if name != "unknown":
        return name
    return next((REGIONS[code] for code in _region_codes(header) if code in REGIONS), "unknown")
